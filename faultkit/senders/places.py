"""Where a value may be: in a register, or in memory that a register points to."""

from __future__ import annotations

from faultkit.code.encoding import REGISTERS, Memory
from faultkit.code.x86 import Instruction
from faultkit.infer.values import CLOBBERED
from faultkit.record import NamedTuple
from faultkit.senders.body import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MOST_BLOCKS = 200
MOST_NAMES = 4


class Slot(NamedTuple):
    """The 32 bits of memory at a register's value + `offset`."""

    register: str
    offset: int


Place: TypeAlias = "str | Slot"  # the low 32 bits of a register, or memory


def slot_of(operand: object) -> Slot | None:
    """The memory operand as register + offset; None for what is more than that, and for others."""
    if not isinstance(operand, Memory) or operand.base not in REGISTERS:
        return None
    if operand.scaled is not None or operand.segment is not None:
        return None
    return Slot(str(operand.base), operand.displacement)


class _Definition(NamedTuple):
    """What gave a pointer its value: `register` + `offset`, the stack pointer having moved by
    `moved` since then; `address` is the instruction's."""

    address: int
    register: str
    offset: int
    moved: int


def through_frame(block: Block, index: int, slot: Slot) -> Slot:
    """The same memory by another register, the stack pointer if that leads to it: stores into an
    object in the frame go through one, the pointer that is passed is made by the other."""
    for _ in range(MOST_NAMES):
        if slot.register == "rsp":
            break
        made = _definition(block, index, slot.register)
        if made is None:
            break
        slot = Slot(made.register, slot.offset + made.offset - made.moved)
    return slot


def _definition(block: Block, index: int, register: str) -> _Definition | None:
    """The one instruction that gave the register its value, whichever way was taken here; None
    where there are several, or where what it was made of has been changed since."""
    found: _Definition | None = None
    pending = [(block, index, 0)]
    seen = {block.start}
    changed = 0  # registers, as in Instruction.writes
    while pending:
        block, index, moved = pending.pop()
        for instruction in reversed(block.body[:index]):
            if instruction.kind == "call":
                changed |= _SCRATCH
                if register in CLOBBERED:
                    return None
                continue
            if instruction.may_write(register):
                made = _made_of(instruction, register, moved)
                if made is None or (found is not None and found != made):
                    return None
                found = made
                break
            step = moves(instruction)
            if step is None:
                return None
            moved += step
            changed |= instruction.writes
        else:
            if not block.leads:
                return None
            for lead in block.leads:
                if lead.start not in seen:
                    seen.add(lead.start)
                    pending.append((lead, len(lead.body), moved))
            if len(seen) > MOST_BLOCKS:
                return None
    if found is None or found.register == register:
        return None
    if found.register != "rsp" and changed >> REGISTERS.index(found.register) & 1:
        return None
    return found


_SCRATCH = sum(1 << REGISTERS.index(name) for name in CLOBBERED)


def _made_of(instruction: Instruction, register: str, moved: int) -> _Definition | None:
    source = instruction.source
    if instruction.destination != register or instruction.width != 8:
        return None
    if instruction.kind == "mov" and isinstance(source, str):
        return _Definition(instruction.address, source, 0, moved if source == "rsp" else 0)
    slot = slot_of(source) if instruction.kind == "lea" else None
    if slot is None:
        return None
    return _Definition(
        instruction.address, slot.register, slot.offset, moved if slot.register == "rsp" else 0
    )


def moves(instruction: Instruction) -> int | None:
    """By how much the instruction moves the stack pointer; None if that can't be told."""
    if not instruction.may_write("rsp"):
        return 0
    kind, source = instruction.kind, instruction.source
    if kind == "push":
        return -8
    if kind == "pop" and instruction.destination != "rsp":
        return 8
    if kind in ("add", "sub") and isinstance(source, int) and instruction.destination == "rsp":
        return source if kind == "add" else -source
    return None
