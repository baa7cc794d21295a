"""A Kernel by drgn: opens a dump in half a second, where crash takes ten.  For tests of the core in
one process, and for trying things out; users' hosts are crash and PyKdump.

    python -m tests.drgn_kernel VMLINUX VMCORE [MODULE.ko...]     prints `deadlock`'s report
"""

import bisect
import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import drgn
from drgn.helpers.linux.cpumask import for_each_present_cpu
from drgn.helpers.linux.mm import access_remote_vm
from drgn.helpers.linux.percpu import per_cpu_ptr
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import cpu_curr, idle_task, task_cpu

from faultkit.kernel.target import Kernel, Slab, Symbol
from faultkit.model import Frame, SourceLine, Task
from faultkit.target import ReadError


class DrgnKernel(Kernel):
    """A dump by its vmlinux and the .ko files of modules whose types matter."""

    def __init__(self, vmlinux: str, vmcore: str, modules: Sequence[str] = ()) -> None:
        self.program = prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
        prog.set_core_dump(vmcore)
        prog.load_debug_info([vmlinux, *modules])
        self._name = Path(vmcore).name
        self.release = prog["init_uts_ns"].name.release.string_().decode()
        self._symbols: dict[str, Optional[int]] = {}
        self._offsets: dict[tuple[str, str], Optional[int]] = {}
        self._structs: dict[int, drgn.Object] = {}

    @property
    def name(self) -> str:
        return self._name

    def read(self, address: int, size: int) -> bytes:
        try:
            return self.program.read(address, size)
        except (drgn.FaultError, OverflowError):
            raise ReadError(address, size) from None

    def read_user(self, task: Task, address: int, size: int) -> bytes:
        try:
            return access_remote_vm(self._struct(task).mm, address, size)
        except (drgn.FaultError, OverflowError):
            raise ReadError(address, size) from None

    def symbol(self, name: str) -> Optional[int]:
        if name not in self._symbols:
            try:
                self._symbols[name] = self.program.symbol(name).address
            except LookupError:
                self._symbols[name] = None
        return self._symbols[name]

    def symbol_at(self, address: int) -> Optional[Symbol]:
        found = self._covering(address)
        if found is None:
            return None
        try:
            module = self.program.module(address).name
        except (LookupError, OverflowError):
            module = "kernel"
        return Symbol(
            found.name,
            address - found.address,
            None if module == "kernel" else str(module),
        )

    def function_bounds(self, address: int) -> Optional[tuple[int, int]]:
        found = self._covering(address)
        return None if found is None else (found.address, found.address + found.size)

    @functools.cached_property
    def _by_address(self) -> tuple[list[int], list[drgn.Symbol]]:
        """All symbols: drgn looks one up in time linear in their number.  Of several at one
        address the longest one, global before local, comes last."""
        symbols = self.program.symbols()
        symbols.sort(key=lambda s: (s.address, s.size, s.binding != drgn.SymbolBinding.LOCAL))
        return [symbol.address for symbol in symbols], symbols

    def _is_unknown(self, address: int) -> bool:
        """Whether it is in a module without a file: what drgn has there is another module's, whose
        init code lay there until it was freed."""
        try:
            module = self.program.module(address)
        except (LookupError, OverflowError):
            return False
        return module.loaded_file_path is None and module.debug_file_path is None

    def _covering(self, address: int) -> Optional[drgn.Symbol]:
        if self._is_unknown(address):
            return None
        addresses, symbols = self._by_address
        place = bisect.bisect_right(addresses, address) - 1
        for index in range(place, max(place - 4, -1), -1):
            found = symbols[index]
            if address < found.address + (found.size or 1):
                return found
        return None

    def offset(self, type_name: str, member: str) -> Optional[int]:
        key = (type_name, member)
        if key not in self._offsets:
            try:
                self._offsets[key] = drgn.offsetof(self._type(type_name), member)
            except (LookupError, TypeError, SyntaxError):
                self._offsets[key] = None
        return self._offsets[key]

    def size(self, type_name: str, member: Optional[str] = None) -> Optional[int]:
        try:
            found = self._type(type_name)
            for name in (member or "").split(".") if member else ():
                found = found.member(name).type
                while found.kind == drgn.TypeKind.TYPEDEF:
                    found = found.type
            return drgn.sizeof(found)
        except (LookupError, TypeError):
            return None

    def _type(self, name: str) -> drgn.Type:
        for kind in ("struct ", "union ", ""):
            try:
                return self.program.type(kind + name)
            except (LookupError, SyntaxError):
                continue
        raise LookupError(name)

    def enumerator(self, name: str) -> Optional[int]:
        try:
            return int(self.program.constant(name))
        except (LookupError, TypeError):
            return None

    def tasks(self) -> Sequence[Task]:
        idle = [idle_task(self.program, cpu) for cpu in for_each_present_cpu(self.program)]
        return [self._task(task) for task in [*idle, *for_each_task(self.program)]]

    def _task(self, task: drgn.Object) -> Task:
        address = task.value_()
        self._structs[address] = task
        name = task.comm.string_().decode("utf-8", "replace")
        return Task(
            int(task.tgid), int(task.pid), name, address=address, cpu=int(task_cpu(task))
        )

    def _struct(self, task: Task) -> drgn.Object:
        return drgn.Object(self.program, "struct task_struct *", value=task.address)

    def running(self) -> dict[int, Task]:
        return {
            cpu: self._task(cpu_curr(self.program, cpu))
            for cpu in for_each_present_cpu(self.program)
        }

    def per_cpu(self, address: int, cpu: int) -> int:
        pointer = drgn.Object(self.program, "void *", value=address)
        return int(per_cpu_ptr(pointer, cpu).value_())

    def frames(self, task: Task, limit: int = 64) -> tuple[Frame, ...]:
        try:
            trace = self.program.stack_trace(self._struct(task))
        except (ValueError, LookupError, drgn.FaultError):
            return ()
        frames = []
        for frame in list(trace)[:limit]:
            if frame.is_inline:
                continue
            symbol = self.symbol_at(frame.pc)
            frames.append(
                Frame(
                    len(frames),
                    frame.pc,
                    symbol.name if symbol else None,
                    symbol.offset if symbol else None,
                    symbol.module if symbol else None,
                    sp=frame.sp,
                )
            )
        return tuple(frames)

    def registers(self, cpu: int) -> dict[str, int]:
        try:
            frame = self.program.stack_trace(cpu_curr(self.program, cpu))[0]
        except (ValueError, LookupError, IndexError):
            return {}
        return dict(frame.registers())

    def line(self, address: int) -> Optional[SourceLine]:
        try:
            file, line, column = self.program.source_location(address)[0]
        except (LookupError, AttributeError, TypeError, ValueError):
            return None
        symbol = self.symbol_at(address)
        return SourceLine(symbol.name if symbol else None, file, line, column)

    def slab(self, address: int) -> Optional[Slab]:
        from drgn.helpers.linux.slab import slab_object_info

        try:
            info = slab_object_info(self.program, address)
        except (LookupError, ValueError, drgn.FaultError, AttributeError):
            return None
        if info is None:
            return None
        return Slab(info.slab_cache.name.string_().decode(), info.address)


if __name__ == "__main__":
    from faultkit.analyzers.deadlock import Options, analyze_kernel
    from faultkit.render.text import render_text

    words = [word for word in sys.argv[1:] if not re.match("--", word)]
    kernel = DrgnKernel(words[0], words[1], words[2:])
    report = analyze_kernel(
        kernel, {"name": "drgn", "version": drgn.__version__, "faultkit": "dev"}, Options()
    )
    sys.stdout.write(render_text(report, 100, sys.stdout.isatty()))
