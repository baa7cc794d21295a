"""The kernel's address space as a Process, for what reads code and stacks."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.kernel.registers import frames_with_registers
from faultkit.kernel.system import System
from faultkit.model import Frame, SourceLine, Task
from faultkit.target import FaultkitError, Mapping, Process, Syscall


class KernelSpace(Process):
    """All tasks share it; it has no mappings, and nobody is blocked in a system call."""

    pid = 0
    kind = "vmcore"
    live = False
    stopped = True

    def __init__(self, system: System) -> None:
        self.system = system
        self.kernel = system.kernel

    @property
    def name(self) -> str:
        return self.kernel.name

    def tasks(self) -> Sequence[Task]:
        return self.system.tasks

    def syscall(self, task: Task) -> Syscall | None:
        return None

    def read(self, address: int, size: int) -> bytes:
        return self.kernel.read(address, size)

    def mappings(self) -> Sequence[Mapping]:
        return ()

    def symbol(self, address: int) -> tuple[str, int, int | None] | None:
        symbol = self.system.symbol_at(address)
        return (symbol.name, symbol.offset, None) if symbol is not None else None

    def line(self, address: int) -> SourceLine | None:
        """As the kernel's; None in a header, whose line does not tell the function's."""
        try:
            line = self.kernel.line(address)
        except FaultkitError:
            return None
        return None if line is None or (line.file or "").endswith(".h") else line

    def frames(self, task: Task, limit: int = 64) -> tuple[Frame, ...]:
        return frames_with_registers(self.system, task)[:limit]
