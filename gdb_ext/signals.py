"""What gdb tells of signals: the siginfo at hand, registers, pending queues, members."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import gdb

from faultkit.model import Task
from faultkit.procfs.process import read_proc
from faultkit.procfs.signals import masks_of, parent_of, where_cores_go
from faultkit.signals.siginfo import SIZE
from faultkit.target import FaultkitError, Member, SignalMasks
from gdb_ext.target import GdbProcess, core_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


REGISTERS = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12",
    "r13", "r14", "r15", "rip", "eflags", "orig_rax", "fs_base", "gs_base", "cs", "mxcsr", "pkru",
)  # fmt: skip
MASK = (1 << 64) - 1
SIGTRAP, SIGSTOP, SIGKILL = 5, 19, 9
MOST_FRAMES = 64  # in which the one that was interrupted is looked for
MOST_THREADS = 4096  # that are asked what they stopped with


class SignalledProcess(GdbProcess):
    """`GdbProcess` with what concerns signals."""

    def __init__(self) -> None:
        """Raises FaultkitError as GdbProcess does; where nothing is loaded, it says where cores
        are."""
        if not gdb.selected_inferior().threads() and not core_file():
            raise FaultkitError(
                "no process and no core is loaded",
                "attach with `gdb -p PID`, load a core, or name a process: sigsrc PID; "
                f"{where_cores_go()}",
            )
        super().__init__()
        self._facts: Any = None
        if self.facts is not None and self.facts.pid:
            self.pid = self.facts.pid
        selected = gdb.selected_thread()
        self._selected = selected.ptid[1] or selected.ptid[0] if selected is not None else None

    @property
    def facts(self) -> Any:
        """What the core's notes tell; None of a live process."""
        if self._facts is None and self.core:
            from faultkit.corethreads import core_facts

            self._facts = core_facts(self.core)
        return self._facts

    @property
    def pictured(self) -> bool:
        """Whether the core is a picture of a process that lived on (gcore)."""
        return self.facts is not None and not self.facts.by_kernel

    def _thread_facts(self, task: Task) -> Any:
        threads = self.facts.threads if self.facts is not None else ()
        return next((thread for thread in threads if thread.tid == task.tid), None)

    def struck(self) -> Task | None:
        if self.facts is not None:
            threads = self.facts.threads
            return self._task(threads[0].tid) if threads else None
        if self._selected is None:
            return None
        if self.live and self._stopped_by_debugger(self._selected):
            for tid in sorted(self._threads)[:MOST_THREADS]:
                if not self._stopped_by_debugger(tid):
                    return self._task(tid)
        return self._task(self._selected)

    def _stopped_by_debugger(self, tid: int) -> bool:
        """Whether the thread has stopped for gdb only, as all do while another has a signal."""
        from gdb_ext.peek import stop_siginfo

        data = stop_siginfo(tid)
        if data is None:
            return True
        number, _, code, _, pid = struct.unpack_from("<5i", data)
        return number == SIGTRAP or (number == SIGSTOP and (code > 0 or pid in (0, os.getpid())))

    def _task(self, tid: int) -> Task:
        thread = self._threads.get(tid)
        return Task(self.pid, tid, number=str(thread.num) if thread is not None else None)

    def siginfo(self, task: Task) -> bytes | None:
        if self.facts is not None:
            found = self._thread_facts(task)
            return None if found is None or found.siginfo is None else bytes(found.siginfo)
        if self._newest_frame(task) is None:
            return None
        try:
            return _bytes_of(gdb.parse_and_eval("$_siginfo"))
        except (gdb.error, ValueError):
            return None

    def masks(self, task: Task) -> SignalMasks | None:
        if self.live:
            return masks_of(self.pid, task.tid)
        found = self._thread_facts(task)
        if found is None:
            return None
        pending = found.pending & ~(1 << SIGKILL - 1)  # which a core's writer sends to the others
        return SignalMasks(pending, None, found.blocked)

    def queued(self, task: Task, shared: bool) -> Sequence[bytes] | None:
        if not self.live:
            return None
        from gdb_ext.peek import peek

        return peek(task.tid, shared)

    def seccomp_filters(self, task: Task) -> Sequence[bytes]:
        if not self.live:
            return ()
        from gdb_ext.peek import seccomp_filters

        return seccomp_filters(task.tid)

    def parent(self) -> int | None:
        if self.facts is not None:
            threads = self.facts.threads
            return int(threads[0].ppid) if threads else None
        return parent_of(self.pid) if self.live else None

    def processor_seconds(self, task: Task) -> float | None:
        if self.facts is not None:
            found = self._thread_facts(task)
            return None if found is None else float(found.seconds)
        try:
            stat = read_proc(f"/proc/{self.pid}/task/{task.tid}/stat")
            user, system = stat[stat.rindex(b")") + 2 :].split()[11:13]
        except (OSError, ValueError):
            return None
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def auxv(self) -> dict[int, int]:
        if self.facts is not None:
            return dict(self.facts.auxv)
        if not self.live:
            return {}
        try:
            data = read_proc(f"/proc/{self.pid}/auxv")
        except OSError:
            return {}
        return dict(struct.iter_unpack("<2Q", data[: len(data) & ~15]))

    def members(
        self, task: Task, pointer: int, offset: int, pc: int | None = None
    ) -> Sequence[Member]:
        frame = self._newest_frame(task)
        try:
            for _ in range(MOST_FRAMES):
                if frame is None or pc is None or frame.pc() == pc:
                    break
                frame = frame.older()
        except gdb.error:
            return ()
        if frame is None or pc not in (None, frame.pc()):
            return ()
        from gdb_ext.members import members_in

        return members_in(frame, pointer, offset)

    def all_registers(self, task: Task) -> dict[str, int]:
        frame = self._newest_frame(task)
        registers: dict[str, int] = {}
        if frame is None:
            return registers
        for name in REGISTERS:
            try:
                registers[name] = int(frame.read_register(name)) & MASK
            except (gdb.error, ValueError, AttributeError):
                continue
        return registers


def _bytes_of(siginfo: gdb.Value) -> bytes:
    """The bytes of $_siginfo, whose type gdb makes itself (linux_get_siginfo_type_with_fields):
    three ints, padding, and a union with an array of ints over all of it."""
    head = b"".join(
        (int(siginfo[name]) & 0xFFFFFFFF).to_bytes(4, "little")
        for name in ("si_signo", "si_errno", "si_code")
    )
    pad = siginfo["_sifields"]["_pad"]
    low, high = pad.type.range()
    words = [int(pad[index]) & 0xFFFFFFFF for index in range(low, high + 1)]
    body = b"".join(word.to_bytes(4, "little") for word in words)
    return head.ljust(SIZE - len(body), b"\0") + body
