"""One signal as the modules of `origins` see it: what is known of it, and of where it struck."""

from __future__ import annotations

from collections.abc import Mapping as Registers
from collections.abc import Sequence
from functools import cached_property

from faultkit.model import Frame, Task
from faultkit.signals.model import Sender
from faultkit.signals.own import own_place, place_words
from faultkit.signals.senders import Senders
from faultkit.signals.siginfo import Siginfo
from faultkit.target import FaultkitError, Mapping, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.code.encoding import Encoding
    from faultkit.code.operands import Access
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
        return self.info.by_program and self.info.pid == self.senders.own_pid

    @cached_property
    def sender(self) -> Sender | None:
        """Who sent it, None if no process did."""
        return self.senders.of(self.info)

    @cached_property
    def code(self) -> Code:
        """The process's images, symbols and instructions."""
        from faultkit.code.process import Code

        process = self.process
        pid = process.pid if process.live else None
        return Code(process.read, process.code_mappings(), pid, process.here)

    @cached_property
    def instruction(self) -> Instruction | None:
        """The instruction at rip, None where it can't be read or is none."""
        from faultkit.code.x86 import decode

        return decode(self.bytes_at_pc, self.registers.get("rip", 0))

    @cached_property
    def encoding(self) -> Encoding | None:
        """Its parts."""
        from faultkit.code.encoding import encoding

        return encoding(self.bytes_at_pc, self.registers.get("rip", 0))

    @cached_property
    def bytes_at_pc(self) -> bytes:
        """The code at rip, as much of an instruction's length as can be read."""
        from faultkit.code.encoding import MAX_SIZE

        pc = self.registers.get("rip")
        for size in (MAX_SIZE, 12, 8, 6, 4, 3, 2, 1) if pc is not None else ():
            try:  # it may end just before a gap
                return self.process.read(pc or 0, size)
            except FaultkitError:
                continue
        return b""

    @cached_property
    def accesses(self) -> Sequence[Access]:
        """The accesses to memory of the instruction at rip."""
        from faultkit.code.operands import accesses

        return accesses(self.bytes_at_pc, self.registers.get("rip", 0), self.registers)

    @cached_property
    def access(self) -> Access | None:
        """The access that failed: the one of this instruction that touches the address at fault;
        where it has just one whose address can't be told, that one."""
        address = self.info.address
        if address is None:
            return None
        for access in self.accesses:
            # vector instructions may touch some more than is told
            if access.address is not None and 0 <= address - access.address < max(access.size, 64):
                return access
        if self.encoding is not None and self.encoding.vex:
            for access in self.accesses:
                scaled = _scaled(access, address)
                if scaled is not None:
                    return scaled
        unknown = [access for access in self.accesses if access.address is None]
        return unknown[0] if len(unknown) == len(self.accesses) == 1 else None

    @cached_property
    def frames(self) -> Sequence[Frame]:
        """The back trace from `registers`, innermost first; empty if unknown."""
        try:
            if self.innermost:
                return self.process.frames(self.task, MOST_FRAMES)
            frames = self.code.frames(self.registers, MOST_FRAMES)
        except FaultkitError:
            return ()
        from faultkit.code.symbols import demangle

        names = demangle([frame.symbol or "" for frame in frames])
        return [frame._replace(symbol=name or None) for frame, name in zip(frames, names)]

    @cached_property
    def incomplete(self) -> bool:
        """Whether memory is missing that a whole core would have."""
        if self.process.kind != "core":
            return False
        if "rsp" in self.registers and self.word(self.registers["rsp"]) is None:
            return True
        return any("core is truncated" in limit for limit in self.process.limits())

    def mapping(self, address: int) -> Mapping | None:
        """The mapping that holds the address."""
        return self.process.mapping(address)

    def place(self, address: int) -> str | None:
        """ "function+12" of a code or data address, "libx.so+0x123" without symbols."""
        symbol = self.process.symbol(address)
        if symbol is not None:
            return symbol[0] + (f"+{symbol[1]}" if symbol[1] else "")
        mapping = self.mapping(address)
        if mapping is None or not mapping.path:
            return None
        name = mapping.path.rpartition("/")[2]
        return f"{name}+{address - mapping.start + mapping.offset:#x}"

    def own_place(self, frames: Sequence[Frame] | None = None) -> str | None:
        """Where the program's own code was, of all frames or these: "parse at parse.c:12",
        "parse+0x1c"."""
        found = own_place(self.frames if frames is None else frames)
        if found is None:
            return None
        return place_words(found) or self.place(found.frame.address)

    def word(self, address: int) -> int | None:
        """The 64-bit word at the address, None where it can't be read."""
        try:
            return self.process.u64(address)
        except FaultkitError:
            return None


def _scaled(access: Access, address: int) -> Access | None:
    """The access with the displacement that EVEX means by one of 8 bits, which counts in operand
    sizes (Intel SDM, volume 2, 2.7.5), if that leads to `address`."""
    small = access.displacement
    if access.address is None or not small or not -128 <= small < 128:
        return None
    for size in (64, 32, 16, 8, 4, 2):
        real = access.address + small * (size - 1)
        if 0 <= address - real < 64:
            operand = access.operand.replace(f"{small:+#x}", f"{small * size:+#x}")
            return access._replace(address=real, displacement=small * size, operand=operand)
    return None
