"""What a function passed to a call: values of registers traced back through its own code."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from faultkit.code.encoding import REGISTERS, Memory
from faultkit.code.x86 import Instruction
from faultkit.record import NamedTuple
from faultkit.target import ReadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MASK = (1 << 64) - 1
CALLEE_SAVED = frozenset(("rbx", "rbp", "rsp", "r12", "r13", "r14", "r15"))
MAX_STEPS = 4000  # instructions walked back for one value
MAX_DEPTH = 16  # values that depend on others

Read = Callable[[int, int], bytes]
StackOffset: TypeAlias = "Callable[[int], int | None]"
AtEntry: TypeAlias = "Callable[[str], Value | None]"


class Value(NamedTuple):
    """A register's value.  `certain` is False when memory, a loop or another path may have
    changed it between the call and now."""

    value: int
    certain: bool


def argument_at_call(
    instructions: Sequence[Instruction],
    index: int,
    register: str,
    frame_registers: Mapping[str, int],
    read: Read,
    current: int | None = None,
    stack_offset: StackOffset | None = None,
    at_entry: AtEntry | None = None,
) -> Value | None:
    """The value that `register` had when instructions[index] (a call, as a rule) began.

    `instructions` are a function's, in address order, from its start on; the more of it, the
    better "certain" is judged.  `frame_registers` are those of the frame now, which is at
    instructions[current] (`index` unless given).  `stack_offset` tells CFA - rsp at a pc, from
    call frame information; without it rsp is followed through straight code only.  `at_entry`
    tells the value a register had when the function was entered (its parameters).  None when
    the value can't be told: a call's result, a merge of paths.
    """
    now = index if current is None else current
    trace = _Trace(instructions, frame_registers, read, now, stack_offset, at_entry)
    return trace.before(index, register, 0)


class _Trace:
    def __init__(
        self,
        instructions: Sequence[Instruction],
        registers: Mapping[str, int],
        read: Read,
        current: int,
        stack_offset: StackOffset | None,
        at_entry: AtEntry | None,
    ) -> None:
        self.code = instructions
        self.registers = registers
        self.read = read
        self.current = current
        self.stack_offset = stack_offset
        self.at_entry = at_entry
        self.steps = MAX_STEPS
        self.jumps: dict[int, list[int]] = {}  # by target, the indices of jumps to it
        for number, instruction in enumerate(instructions):
            if instruction.target is not None and instruction.kind in ("jmp", "jcc"):
                self.jumps.setdefault(instruction.target, []).append(number)

    def before(self, index: int, register: str, depth: int) -> Value | None:
        """The value of `register` just before instructions[index]."""
        if depth > MAX_DEPTH or register not in REGISTERS:
            return None
        if register in CALLEE_SAVED:
            value = self.still_there(index, register)
            if value is not None:
                return value
        bit = 1 << REGISTERS.index(register)
        certain = True
        while index > 0 and self.steps > 0:
            self.steps -= 1
            sources = self.jumps.get(self.code[index].address, [])
            above = self.code[index - 1]
            if above.kind in ("jmp", "ret", "trap"):
                if len(sources) != 1 or sources[0] >= index:
                    return None  # reached from nowhere, or from several places
                index = sources[0]
                continue
            certain = certain and not sources
            index -= 1
            if above.writes & bit:
                found = self.result(index, register, depth)
                return Value(found.value, certain and found.certain) if found else None
            if above.kind == "call" and register not in CALLEE_SAVED:
                return None
            if above.kind == "syscall" and register in ("rax", "rcx", "r11"):
                return None
        if index == 0 and self.at_entry is not None:
            found = self.at_entry(register)
            certain = certain and self.code[0].address not in self.jumps
            return Value(found.value, certain and found.certain) if found else None
        return None

    def still_there(self, index: int, register: str) -> Value | None:
        """The frame's present value of a register that calls preserve, if it was the same."""
        now = self.registers.get(register)
        if now is None:
            return None
        low, high = sorted((index, self.current))
        if register == "rsp":
            return self.stack_pointer(index, now)
        bit = 1 << REGISTERS.index(register)
        if any(i.writes & bit for i in self.code[low:high]):
            return None
        # One write (the prologue's) can't have happened in between in a loop.
        writes = sum(1 for i in self.code if i.writes & bit and i.kind not in ("pop", "leave"))
        return Value(now, low == high or writes <= 1)

    def stack_pointer(self, index: int, now: int) -> Value | None:
        if index == self.current:
            return Value(now, True)
        if self.stack_offset is not None:
            then_offset = self.stack_offset(self.code[index].address)
            now_offset = self.stack_offset(self.code[self.current].address)
            if then_offset is not None and now_offset is not None:
                return Value(now + now_offset - then_offset & MASK, True)
        low, high = sorted((index, self.current))
        moved = 0
        for instruction in self.code[low:high]:
            if instruction.kind in ("jmp", "ret", "trap"):
                return None
            if instruction.kind == "push":
                moved -= 8
            elif instruction.kind == "pop":
                moved += 8
            elif instruction.writes & 1 << REGISTERS.index("rsp"):
                if instruction.kind not in ("add", "sub") or not isinstance(
                    instruction.source, int
                ):
                    return None
                moved += instruction.source if instruction.kind == "add" else -instruction.source
        return Value(now - moved if index < self.current else now + moved, True)

    def result(self, index: int, register: str, depth: int) -> Value | None:
        """What instructions[index], which writes `register`, leaves in it."""
        instruction = self.code[index]
        source = instruction.source
        if instruction.destination != register or instruction.width < 4:
            return None
        value: Value | None = None
        if instruction.kind == "lea" and isinstance(source, Memory):
            value = self.address(index, source._replace(segment=None), depth)
        elif instruction.kind == "xor" and source == register:
            value = Value(0, True)
        elif instruction.kind == "mov" and isinstance(source, int):
            value = Value(source, True)
        elif instruction.kind == "mov" and isinstance(source, str):
            value = self.before(index, source, depth + 1)
        elif instruction.kind == "mov" and isinstance(source, Memory):
            value = self.loaded(index, source, instruction.width, depth)
        elif instruction.kind in ("add", "sub", "and") and isinstance(source, int):
            operand = self.before(index, register, depth + 1)
            if operand is not None:
                new = {
                    "add": operand.value + source,
                    "sub": operand.value - source,
                    "and": operand.value & source,
                }[instruction.kind]
                value = Value(new, operand.certain)
        if value is None:
            return None
        return Value(value.value & ((1 << 8 * instruction.width) - 1), value.certain)

    def address(self, index: int, memory: Memory, depth: int) -> Value | None:
        """The address that a memory operand of instructions[index] means."""
        if memory.segment is not None:
            return None
        total, certain = memory.displacement, True
        for name, scale in ((memory.base, 1), (memory.scaled, memory.scale)):
            if name is not None:
                part = self.before(index, name, depth + 1)
                if part is None:
                    return None
                total, certain = total + part.value * scale, certain and part.certain
        return Value(total & MASK, certain)

    def loaded(self, index: int, memory: Memory, width: int, depth: int) -> Value | None:
        """What is now in the memory that instructions[index] loads."""
        address = self.address(index, memory, depth)
        if address is None:
            return None
        try:
            data = self.read(address.value, width)
        except ReadError:
            return None
        return Value(
            int.from_bytes(data, "little"), address.certain and self.is_constant(index, memory)
        )

    def is_constant(self, index: int, memory: Memory) -> bool:
        """Whether a stack slot can't have changed since instructions[index] loaded it: stored
        once, before, and nothing at or below it had its address taken."""
        if memory.base not in ("rbp", "rsp") or memory.scaled is not None:
            return False
        stores = 0
        for number, instruction in enumerate(self.code):
            target = instruction.destination
            if isinstance(target, Memory) and target.base == memory.base:
                if target.scaled is not None:
                    return False
                if target.displacement == memory.displacement:
                    stores += 1
                    if number > index:
                        return False
            source = instruction.source
            if (
                instruction.kind == "lea"
                and isinstance(source, Memory)
                and source.base == memory.base
                and source.displacement <= memory.displacement
                and instruction.destination not in ("rsp", "rbp")
            ):
                return False
        return stores == 1


def index_of(instructions: Sequence[Instruction], address: int) -> int | None:
    """The index of the instruction that covers `address` (a return address less one lies in
    the call), or None."""
    addresses = [instruction.address for instruction in instructions]
    index = bisect_left(addresses, address + 1) - 1
    if index >= 0 and address < instructions[index].end:
        return index
    return None
