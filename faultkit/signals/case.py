"""One signal as the modules of `origins` see it: what is known of it, and of where it struck."""

from collections.abc import Mapping as Registers
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Optional

from faultkit.model import Frame, Task
from faultkit.signals.model import Sender
from faultkit.signals.senders import Senders
from faultkit.signals.siginfo import Siginfo
from faultkit.target import FaultkitError, Mapping, Process

if TYPE_CHECKING:
    from faultkit.code.process import Code
    from faultkit.code.x86 import Instruction

MOST_FRAMES = 64


class Case:
    """A signal that struck a task.  `registers` are those at that moment, {} if unknown;
    `innermost`: they are the task's own, not saved ones further up its stack."""

    def __init__(
        self,
        process: Process,
        task: Task,
        info: Siginfo,
        registers: Registers[str, int],
        senders: Senders,
        innermost: bool = True,
    ) -> None:
        self.process = process
        self.task = task
        self.info = info
        self.registers = registers
        self.senders = senders
        self.innermost = innermost

    @property
    def by_itself(self) -> bool:
        """Whether the signal names the receiver's own process as its sender."""
        return self.info.by_program and self.info.pid == self.process.pid

    @cached_property
    def sender(self) -> Optional[Sender]:
        """Who sent it, None if no process did."""
        return self.senders.of(self.info)

    @cached_property
    def code(self) -> "Code":
        """The process's images, symbols and instructions."""
        from faultkit.code.process import Code

        process = self.process
        pid = process.pid if process.live else None
        return Code(process.read, process.code_mappings(), pid, process.here)

    @cached_property
    def instruction(self) -> "Optional[Instruction]":
        """The instruction at rip, None where it can't be read or is none."""
        from faultkit.code.x86 import MAX_SIZE, decode

        pc = self.registers.get("rip")
        if pc is None:
            return None
        for size in (MAX_SIZE, 8, 4, 2, 1):  # it may end just before a gap
            try:
                return decode(self.process.read(pc, size), pc)
            except FaultkitError:
                continue
        return None

    @cached_property
    def frames(self) -> Sequence[Frame]:
        """The back trace from `registers`, innermost first; empty if unknown."""
        try:
            if self.innermost:
                return self.process.frames(self.task, MOST_FRAMES)
            return self.code.frames(self.registers, MOST_FRAMES)
        except FaultkitError:
            return ()

    def mapping(self, address: int) -> Optional[Mapping]:
        """The mapping that holds the address."""
        return self.process.mapping(address)

    def place(self, address: int) -> Optional[str]:
        """ "function+12" of a code or data address, "libx.so+0x123" without symbols."""
        symbol = self.process.symbol(address)
        if symbol is not None:
            return symbol[0] + (f"+{symbol[1]}" if symbol[1] else "")
        mapping = self.mapping(address)
        if mapping is None or not mapping.path:
            return None
        name = mapping.path.rpartition("/")[2]
        return f"{name}+{address - mapping.start + mapping.offset:#x}"
