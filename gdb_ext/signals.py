"""What gdb tells of signals: the siginfo at hand, registers, pending queues, members."""

from typing import Any, Optional

import gdb

from faultkit.model import Task
from faultkit.signals.siginfo import SIZE
from gdb_ext.target import GdbProcess

REGISTERS = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12",
    "r13", "r14", "r15", "rip", "eflags", "orig_rax", "fs_base", "gs_base", "cs", "mxcsr", "pkru",
)  # fmt: skip
MASK = (1 << 64) - 1


class SignalledProcess(GdbProcess):
    """`GdbProcess` with what concerns signals."""

    def __init__(self) -> None:
        super().__init__()
        self._facts: Any = None
        selected = gdb.selected_thread()
        self._selected = selected.ptid[1] or selected.ptid[0] if selected is not None else None

    @property
    def facts(self) -> Any:
        """What the core's notes tell; None of a live process."""
        if self._facts is None and self.core:
            from faultkit.corethreads import core_facts

            self._facts = core_facts(self.core)
        return self._facts

    def struck(self) -> Optional[Task]:
        if self.facts is not None:
            threads = self.facts.threads
            return self._task(threads[0].tid) if threads else None
        return self._task(self._selected) if self._selected is not None else None

    def _task(self, tid: int) -> Task:
        thread = self._threads.get(tid)
        return Task(self.pid, tid, number=str(thread.num) if thread is not None else None)

    def siginfo(self, task: Task) -> Optional[bytes]:
        if self.facts is not None:
            found = next((t.siginfo for t in self.facts.threads if t.tid == task.tid), None)
            return found if found is None else bytes(found)
        if self._newest_frame(task) is None:
            return None
        try:
            return _bytes_of(gdb.parse_and_eval("$_siginfo"))
        except (gdb.error, ValueError):
            return None

    def all_registers(self, task: Task) -> "dict[str, int]":
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


def _bytes_of(siginfo: "gdb.Value") -> bytes:
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
