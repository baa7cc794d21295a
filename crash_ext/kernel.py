"""CrashKernel: what crash shows, as a Kernel."""

from __future__ import annotations

import os
import re
from bisect import bisect_right, insort
from collections.abc import Sequence

from crash_ext import backtrace
from crash_ext.bridge import Bridge, BridgeError
from crash_ext.dumpfile import Dump, look
from crash_ext.interrupted import mended
from crash_ext.types import Types
from faultkit.kernel.target import Kernel, Slab, Symbol
from faultkit.model import Frame, SourceLine, Task
from faultkit.target import FaultkitError, ReadError

PAGE = 4096
MOST_CPUS = 8192  # include/linux/threads.h, NR_CPUS at most
LONGEST_FUNCTION = 1 << 20


class CrashKernel(Kernel):
    """The dump, or the live kernel, of a session of crash.

    Types and symbols are asked for once.  A kernel lives for one command: `mod -s` between two
    of them adds types.
    """

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.live = bridge.live
        self.kind = "live-kernel" if bridge.live else "vmcore"
        self._symbols: dict[str, int | None] = {}
        self._covering: dict[int, Symbol | None] = {}
        self._bounds: dict[int, tuple[int, int] | None] = {}
        self._types = Types(bridge, self)
        self._per_cpu: dict[int, int] = {}
        self._dump: Dump | None = None
        self._slabs = True
        self._slab_objects: dict[int, Slab | None] = {}
        self._slab_starts: list[int] = []
        self._slab_sizes: dict[int, tuple[Slab, int]] = {}
        self._tasks: list[Task] | None = None
        self._registers: dict[int, dict[str, int]] | None = None
        self.release = self._release()

    @property
    def name(self) -> str:
        return os.path.basename(self.bridge.dumpfile or "/proc/kcore")

    def _release(self) -> str | None:
        """include/linux/utsname.h: init_uts_ns.name.release."""
        namespace = self.symbol("init_uts_ns")
        offset = self.offset("uts_namespace", "name")
        inner = self.offset("new_utsname", "release")
        if namespace is None or offset is None or inner is None:
            return None
        try:
            text = self.read(namespace + offset + inner, 65).split(b"\0")[0]
        except ReadError:
            return None
        return text.decode("ascii", "backslashreplace")

    # Memory

    def read(self, address: int, size: int) -> bytes:
        try:
            return self.bridge.read(address, size)
        except (BridgeError, OverflowError, ValueError):
            raise ReadError(address, size) from None

    def read_each(self, pieces: Sequence[tuple[int, int]]) -> list[bytes | None]:
        found = self.bridge.read_each(list(pieces))
        return super().read_each(pieces) if found is None else found

    def words_of_each(
        self, pieces: Sequence[bytes], most: int, *ranges: tuple[int, int]
    ) -> list[bytes]:
        found = self.bridge.words_of_each(list(pieces), most, *ranges)
        return super().words_of_each(pieces, most, *ranges) if found is None else found

    def read_user(self, task: Task, address: int, size: int) -> bytes:
        if task.address is None:
            raise ReadError(address, size)
        pieces = []
        at, end = address, address + size
        while at < end:
            piece = min(end - at, PAGE - at % PAGE)
            pieces.append(self._read_user_page(task.address, at, piece))
            at += piece
        return b"".join(pieces)

    def _read_user_page(self, task: int, address: int, size: int) -> bytes:
        try:
            physical, swapped = self.bridge.translate(task, address)
        except (BridgeError, OverflowError):
            raise ReadError(address, size) from None
        if physical is None:
            raise UserPageError(address, size, SWAPPED_OUT if swapped else None)
        try:
            return self.bridge.read_physical(physical, size)
        except (BridgeError, OverflowError, ValueError):
            raise UserPageError(address, size, self._left_out()) from None

    def _left_out(self) -> str | None:
        """Why user pages may be missing, and the remedy."""
        if not self.dump.user_pages:
            return NO_USER_PAGES
        return None if self.dump.cache else NO_CACHE

    # Symbols and types

    def symbol(self, name: str) -> int | None:
        if name not in self._symbols:
            self._symbols[name] = self.bridge.symbol(name)
        return self._symbols[name]

    def symbol_at(self, address: int) -> Symbol | None:
        if address not in self._covering:
            self._covering[address] = self._symbol_at(address)
        return self._covering[address]

    def _symbol_at(self, address: int) -> Symbol | None:
        try:
            found = self.bridge.lookup(address)
        except (BridgeError, OverflowError):
            return None
        # crash marks where modules' sections begin and end by symbols of its own.
        if found is None or found[0].startswith("_MODULE_"):
            return None
        return Symbol(*found)

    def function_bounds(self, address: int) -> tuple[int, int] | None:
        symbol = self.symbol_at(address)
        if symbol is None:
            return None
        start = address - symbol.offset
        if start not in self._bounds:
            try:
                bounds = self.bridge.bounds(start)
            except BridgeError:
                bounds = None
            if bounds is not None and bounds[1] - start > LONGEST_FUNCTION:
                bounds = None
            self._bounds[start] = bounds
        return self._bounds[start]

    def offset(self, type_name: str, member: str) -> int | None:
        return self._types.offset(type_name, member)

    def size(self, type_name: str, member: str | None = None) -> int | None:
        return self._types.size(type_name, member)

    def enumerator(self, name: str) -> int | None:
        return self._types.enumerator(name)

    # Tasks and CPUs

    def tasks(self) -> Sequence[Task]:
        if self._tasks is None:
            tgid = self.offset("task_struct", "tgid")
            if tgid is None:
                raise FaultkitError(
                    "this vmlinux has no debug information of task_struct",
                    "start crash with the vmlinux of the kernel's debug package",
                )
            self._tasks = [
                Task(task.pid, task.tid, task.name, address=task.address, cpu=task.cpu)
                for task in self.bridge.tasks(tgid)
            ]
        return self._tasks

    def current(self) -> Task | None:
        """The task of crash's context: that which panicked, until `set` chooses another."""
        try:
            found = re.search(r"TASK: ([0-9a-f]+)", self.bridge.run("set"))
        except BridgeError:
            return None
        address = int(found[1], 16) if found else None
        return next((task for task in self.tasks() if task.address == address), None)

    def running(self) -> dict[int, Task]:
        """By each CPU's runqueue (kernel/sched/sched.h, struct rq)."""
        queues, current = self.symbol("runqueues"), self.offset("rq", "curr")
        if queues is None or current is None:
            return {}
        by_address = {task.address: task for task in self.tasks()}
        found = {}
        for cpu in self.cpus():
            try:
                task = by_address.get(self.u64(self.per_cpu(queues, cpu) + current))
            except ReadError:
                continue
            if task is not None:
                found[cpu] = task
        return found

    def cpus(self) -> list[int]:
        """The CPUs' numbers: all present ones, as a panic takes the others offline
        (arch/x86/kernel/process.c, stop_this_cpu(); kernel/cpu.c, __cpu_present_mask)."""
        mask = self.symbol("__cpu_present_mask")
        size = self.size("cpumask")
        if mask is None or size is None or size > MOST_CPUS // 8:
            return [0]
        try:
            bits = int.from_bytes(self.read(mask, size), "little")
        except ReadError:
            return [0]
        return [cpu for cpu in range(8 * size) if bits >> cpu & 1] or [0]

    def per_cpu(self, address: int, cpu: int) -> int:
        """include/asm-generic/percpu.h: __per_cpu_offset[cpu]; none on a kernel for one CPU."""
        if cpu not in self._per_cpu:
            offsets = self.symbol("__per_cpu_offset")
            self._per_cpu[cpu] = self.u64(offsets + 8 * cpu) if offsets is not None else 0
        return (address + self._per_cpu[cpu]) & (1 << 64) - 1

    def frames(self, task: Task, limit: int = 64) -> tuple[Frame, ...]:
        if task.address is None:
            return ()
        try:
            text = self.bridge.run(f"bt {task.address:x}")
        except BridgeError:
            return ()
        found = mended(self, backtrace.parse(text)[:limit])
        return tuple(self._frame(index, printed) for index, printed in enumerate(found))

    def _frame(self, index: int, printed: backtrace.Printed) -> Frame:
        # A return address may lie behind its function's end: calls that never return are last.
        exact = index == 0 or printed.registers is not None
        symbol = self.symbol_at(printed.address if exact else printed.address - 1)
        if symbol is None:
            return Frame(index, printed.address, sp=printed.sp, registers=printed.registers)
        offset = symbol.offset if exact else symbol.offset + 1
        return Frame(
            index,
            printed.address,
            symbol.name,
            offset,
            symbol.module,
            sp=printed.sp,
            function_start=printed.address - offset,
            registers=printed.registers,
        )

    def registers(self, cpu: int) -> dict[str, int]:
        if self._registers is None:
            try:
                self._registers = backtrace.by_cpu(self.bridge.run("help -r"))
            except BridgeError:
                self._registers = {}
        return self._registers.get(cpu, {})

    # What only crash's text says

    def line(self, address: int) -> SourceLine | None:
        try:
            text = self.bridge.line(address)
        except (BridgeError, OverflowError):
            return None
        file, _, number = text.strip().rpartition(": ")
        if not file or not number.isdigit():
            return None
        symbol = self.symbol_at(address)
        return SourceLine(symbol.name if symbol else None, file, int(number))

    def slab(self, address: int) -> Slab | None:
        """By `kmem -s`: "CACHE  OBJSIZE  ALLOCATED ...  NAME" and a line for the object's cache,
        then "FREE / [ALLOCATED]" and a line for the object."""
        if address not in self._slab_objects and self._slabs:
            self._slab_objects[address] = self._known_slab(address) or self._find_slab(address)
        return self._slab_objects.get(address)

    def _known_slab(self, address: int) -> Slab | None:
        """The object that something else was said to lie in, if that reaches so far: an answer of
        crash's takes milliseconds."""
        at = bisect_right(self._slab_starts, address) - 1
        if at < 0:
            return None
        slab, size = self._slab_sizes[self._slab_starts[at]]
        return slab if address < slab.start + size else None

    def _find_slab(self, address: int) -> Slab | None:
        try:
            text = self.bridge.run(f"kmem -s {address:x}")
        except BridgeError as error:
            # Of a kernel that this crash does not know it would say the same of each address.
            self._slabs = "invalid structure" not in str(error)
            return None
        lines = text.splitlines()
        if len(lines) < 2 or not lines[0].startswith("CACHE"):
            return None
        cache = re.match(r"[0-9a-f]+\s+(\d+)(?:\s+\S+){4}\s+(\S+)$", lines[1])
        start = re.search(r"FREE / \[ALLOCATED\]\s+\[?([0-9a-f]+)\b", text)
        if not cache or not start:
            return None
        slab = Slab(cache[2], int(start[1], 16))
        if slab.start not in self._slab_sizes:
            insort(self._slab_starts, slab.start)
            self._slab_sizes[slab.start] = slab, int(cache[1])
        return slab

    @property
    def dump(self) -> Dump:
        """How much of memory the dump holds; all of it on a live system."""
        if self._dump is None:
            self._dump = Dump() if self.live else look(self.bridge)
        return self._dump

    def limits(self) -> Sequence[str]:
        from crash_ext.limits import limits

        return limits(self)


NO_USER_PAGES = (
    "the dump leaves user pages out; capture it with makedumpfile -d 23, which keeps them (-d 17: "
    "those of files and shared memory, too)"
)
NO_CACHE = (
    "the dump leaves pages of files and shared memory out; capture it with makedumpfile -d 17, "
    "which keeps them"
)
SWAPPED_OUT = "the page was swapped out"


class UserPageError(ReadError):
    """User memory that is not in the dump, with the reason where it is known."""

    def __init__(self, address: int, size: int, reason: str | None) -> None:
        super().__init__(address, size)
        if reason:
            self.args = (f"{self.args[0]}: {reason}",)
