"""What register-to-register instructions compute that x86.py calls "other": those with which
compilers choose between two constants (setcc, sbb, cmov and the like)."""

from __future__ import annotations

from collections.abc import Callable

from faultkit.code.encoding import REGISTERS
from faultkit.record import NamedTuple

_PREFIXES = frozenset((0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65))
MASK = 0xFFFFFFFF


class Computed(NamedTuple):
    """`operation` on registers by their 64-bit names: either (cmov: one of both), bit (setcc),
    byte, word, copy, borrow (sbb of itself), neg, not, shl, shr, sar, imul; `number` is the
    immediate."""

    operation: str
    register: str
    source: str | None = None
    number: int = 0


def computed(code: bytes) -> Computed | None:
    """What the instruction does, None if it is another one, or works on memory or on bytes."""
    place = 0
    while place < len(code) and code[place] in _PREFIXES:
        if code[place] in (0x66, 0x67):
            return None
        place += 1
    rex = 0
    if place < len(code) and code[place] & 0xF0 == 0x40:
        rex = code[place]
        place += 1
    body = code[place:]
    if len(body) < 2:
        return None
    wide = body[0] == 0x0F
    opcode, modrm = (body[1], body[2:3]) if wide else (body[0], body[1:2])
    if not modrm or modrm[0] >> 6 != 3:
        return None
    register = REGISTERS[(modrm[0] >> 3 & 7) | (rex << 1 & 8)]
    number = (modrm[0] & 7) | (rex << 3 & 8)
    operand = REGISTERS[number]
    return (
        _two_bytes(opcode, register, operand, bool(rex) or number < 4)
        if wide
        else _one_byte(opcode, modrm[0] >> 3 & 7, register, operand, body[2:])
    )


def _two_bytes(opcode: int, register: str, operand: str, low: bool) -> Computed | None:
    if 0x40 <= opcode <= 0x4F:
        return Computed("either", register, operand)
    if 0x90 <= opcode <= 0x9F:
        return Computed("bit", operand) if low else None
    if opcode == 0xB6:
        return Computed("byte", register, operand) if low else None
    if opcode == 0xB7:
        return Computed("word", register, operand)
    return None


def _one_byte(opcode: int, digit: int, register: str, operand: str, rest: bytes) -> Computed | None:
    number = int.from_bytes(rest[:1], "little", signed=True)
    if opcode in (0x19, 0x1B) and register == operand:
        return Computed("borrow", register)
    if opcode == 0x63:
        return Computed("copy", register, operand)
    if opcode == 0x6B:
        return Computed("imul", register, operand, number)
    if opcode == 0x69:
        return Computed("imul", register, operand, int.from_bytes(rest[:4], "little"))
    if opcode == 0xF7 and digit in (2, 3):
        return Computed("not" if digit == 2 else "neg", operand, operand)
    if opcode in (0xC1, 0xD1) and digit in (4, 5, 7):
        count = 1 if opcode == 0xD1 else number & 31
        return Computed({4: "shl", 5: "shr", 7: "sar"}[digit], operand, operand, count)
    return None


_RESULTS: dict[str, Callable[[int, int], int]] = {
    "byte": lambda value, number: value & 0xFF,
    "word": lambda value, number: value & 0xFFFF,
    "copy": lambda value, number: value,
    "neg": lambda value, number: -value,
    "not": lambda value, number: ~value,
    "shl": lambda value, number: value << number,
    "shr": lambda value, number: value >> number,
    "sar": lambda value, number: (value - (value >> 31 << 32)) >> number,
    "imul": lambda value, number: value * number,
    "add": lambda value, number: value + number,
    "sub": lambda value, number: value - number,
    "and": lambda value, number: value & number,
    "or": lambda value, number: value | number,
    "xor": lambda value, number: value ^ number,
}


def apply(operation: str, value: int, number: int) -> int:
    """The 32-bit result of an operation on a 32-bit value."""
    return _RESULTS[operation](value & MASK, number) & MASK
