"""Whether a conditional jump is taken, where what it depends on is known."""

from __future__ import annotations

from faultkit.code.x86 import Instruction
from faultkit.infer.values import Value
from faultkit.record import NamedTuple


class Compared(NamedTuple):
    """What the flags were last set from: `kind` is cmp or test, `width` in bytes."""

    kind: str
    left: Value
    right: Value
    width: int


def compared(instruction: Instruction, left: Value | None, right: Value | None) -> Compared | None:
    """What a cmp or test leaves in the flags; None if it compares what is not followed."""
    if left is None or right is None:
        return None
    return Compared(instruction.kind, left, right, instruction.width)


def is_taken(flags: Compared | None, condition: int) -> bool | None:
    """Whether a jump with this condition (the low four bits of its opcode: Intel SDM, volume 2,
    appendix B.1.4.7) is taken; None if that can't be told."""
    if flags is None or flags.left.base is not None or flags.right.base is not None:
        return None
    bits = 8 * flags.width
    left, right = (value.offset & ((1 << bits) - 1) for value in (flags.left, flags.right))
    if flags.kind == "test":
        left, right = left & right, 0
    signed_left, signed_right = _signed(left, bits), _signed(right, bits)
    answers = {
        2: left < right,
        4: left == right,
        6: left <= right,
        8: bool((left - right) >> (bits - 1) & 1),
        12: signed_left < signed_right,
        14: signed_left <= signed_right,
    }
    answer = answers.get(condition & ~1)
    return None if answer is None else answer != bool(condition & 1)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value
