"""How x86-64 instructions are put together: prefixes, opcode, operands, immediates, and so where
they end.

Follows the opcode maps of the Intel SDM, volume 2, appendix A, with VEX, EVEX and XOP.
"""

from __future__ import annotations

from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeAlias


REGISTERS = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
MAX_SIZE = 15  # of an instruction; the processor refuses longer ones


class Memory(NamedTuple):
    """A memory operand: base + scaled * scale + displacement, in `segment` if not None.

    A rip-relative operand has no base and its absolute address as displacement.
    """

    base: str | None
    scaled: str | None
    scale: int
    displacement: int
    segment: str | None = None


Operand: TypeAlias = "str | int | Memory"  # a register's 64-bit name, an immediate, or memory


def opcodes(*parts: int | range) -> frozenset[int]:
    """A set of single ones and of ranges."""
    return frozenset(n for p in parts for n in ((p,) if isinstance(p, int) else p))


_PREFIXES = opcodes(0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
_INVALID = opcodes(0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x60, 0x61,
                0x82, 0x9A, 0xCE, 0xD4, 0xD5, 0xD6, 0xEA)  # fmt: skip
_MODRM = opcodes(*(range(n, n + 4) for n in range(0, 0x40, 8)), 0x63, 0x69, 0x6B, range(0x80, 0x90),
              0xC0, 0xC1, 0xC6, 0xC7, range(0xD0, 0xD4), range(0xD8, 0xE0), 0xF6, 0xF7, 0xFE,
              0xFF)  # fmt: skip
_IMM8 = opcodes(range(4, 0x40, 8), 0x6A, 0x6B, range(0x70, 0x80), 0x80, 0x83, 0xA8,
             range(0xB0, 0xB8), 0xC0, 0xC1, 0xC6, 0xCD, range(0xE0, 0xE8), 0xEB)  # fmt: skip
_IMMZ = opcodes(range(5, 0x40, 8), 0x68, 0x69, 0x81, 0xA9, 0xC7)
_REL32 = opcodes(0xE8, 0xE9)

# The 0F map
_0F_INVALID = opcodes(0x04, 0x0A, 0x0C, range(0x24, 0x28), 0x36, 0x39, range(0x3B, 0x40))
_0F_NO_MODRM = opcodes(range(0x05, 0x0A), 0x0B, 0x0E, range(0x30, 0x38), 0x77, range(0x80, 0x90),
                    0xA0, 0xA1, 0xA2, 0xA8, 0xA9, 0xAA, range(0xC8, 0xD0))  # fmt: skip
_0F_IMM8 = opcodes(0x0F, range(0x70, 0x74), 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6)
_SEGMENTS = {0x64: "fs", 0x65: "gs"}


class Encoding(NamedTuple):
    """An instruction's parts: opcode map (0 one-byte, 1 0F, 2 0F38, 3 0F3A; 5, 6, 8, 9, 10 by
    prefixes only), opcode, and the ModRM byte's mod, reg and rm with their REX bits; `operand`
    is what rm means.  `repeat` is the prefix F2 or F3, or what stands for it; `vector` the
    register number vvvv.  With `narrow`, addresses are of 32 bits, and `operand`'s base is the
    64-bit name of the 32-bit register."""

    size: int
    table: int
    opcode: int
    mod: int
    register: int
    rm: int
    operand: Operand | None
    width: int
    immediate: int
    lock: bool
    repeat: int
    operand16: bool
    rex: int
    vector: int
    vex: bool
    narrow: bool


def encoding(code: bytes, address: int, offset: int = 0) -> Encoding | None:
    """The parts of the instruction at code[offset:]; None if it is invalid or cut off."""
    try:
        parts = parse(code, address, offset)
    except IndexError:
        return None
    if parts is None or parts[0] > MAX_SIZE or offset + parts[0] > len(code):
        return None
    *same, narrow, memory = parts
    if narrow and memory is not None:
        same[6] = memory
    return Encoding._make([*same, narrow])


def parse(code: bytes, address: int, start: int) -> tuple[Any, ...] | None:
    """The fields of Encoding, and the memory operand as it is whatever the address size; None
    if invalid.  Raises IndexError where it is cut off."""
    position = start
    operand16 = lock = False
    repeat = 0
    segment = None
    byte = code[position]
    address32 = False
    while byte in _PREFIXES:
        if byte == 0x66:
            operand16 = True
        elif byte == 0x67:
            address32 = True
        elif byte == 0xF0:
            lock = True
        elif byte >= 0xF2:
            repeat = byte
        else:
            segment = _SEGMENTS.get(byte)
        position += 1
        if position - start >= MAX_SIZE:
            return None
        byte = code[position]
    rex = 0
    while byte & 0xF0 == 0x40:  # only the last one counts
        rex = byte
        position += 1
        if position - start >= MAX_SIZE:
            return None
        byte = code[position]
    position += 1
    opcode = byte
    vector_register = 0  # vvvv
    table = 0  # opcode map: 0 one-byte, 1 0F, 2 0F38, 3 0F3A, 5 and 6 EVEX half precision
    vex = False
    if opcode == 0x0F:
        table = 1
        opcode = code[position]
        position += 1
        if opcode == 0x38 or opcode == 0x3A:
            table = 2 if opcode == 0x38 else 3
            opcode = code[position]
            position += 1
    elif opcode == 0xC5 or opcode == 0xC4:
        vex = True
        second = code[position]
        last = second
        table = 1
        rex = 0x40 | (~second >> 5 & 4)
        position += 1
        if opcode == 0xC4:
            table = second & 31
            last = code[position]
            rex = 0x40 | (~second >> 5 & 7) | (last >> 4 & 8)
            position += 1
        if table not in (1, 2, 3):
            return None
        vector_register = ~last >> 3 & 15
        operand16, repeat = last & 3 == 1, (0, 0, 0xF3, 0xF2)[last & 3]
        opcode = code[position]
        position += 1
    elif opcode == 0x62:
        vex = True
        second, third = code[position], code[position + 1]
        table = second & 7
        if table not in (1, 2, 3, 5, 6):
            return None
        rex = 0x40 | (~second >> 5 & 7) | (third >> 4 & 8)
        vector_register = ~third >> 3 & 15
        operand16, repeat = third & 3 == 1, (0, 0, 0xF3, 0xF2)[third & 3]
        opcode = code[position + 3]
        position += 4
    elif opcode == 0x8F and code[position] & 31 >= 8:  # XOP: maps 8, 9 and 10
        vex = True
        second = code[position]
        table = second & 31
        if table > 10:
            return None
        rex = 0x40 | (~second >> 5 & 7)
        vector_register = ~code[position + 1] >> 3 & 15
        opcode = code[position + 2]
        position += 3
    wide = rex & 8

    # Which parts follow the opcode
    has_modrm = True
    immediate_size = 0
    if table == 0:
        if opcode in _INVALID:
            return None
        has_modrm = opcode in _MODRM
        if opcode in _IMM8:
            immediate_size = 1
        elif opcode in _IMMZ:
            immediate_size = 2 if operand16 and not wide else 4
        elif opcode in _REL32:
            immediate_size = 4
        elif 0xB8 <= opcode <= 0xBF:
            immediate_size = 8 if wide else 2 if operand16 else 4
        elif 0xA0 <= opcode <= 0xA3:
            immediate_size = 4 if address32 else 8
        elif opcode == 0xC2 or opcode == 0xCA:
            immediate_size = 2
        elif opcode == 0xC8:
            immediate_size = 3
        elif opcode & 0xFE == 0xF6 and not code[position] >> 3 & 6:
            immediate_size = 1 if opcode == 0xF6 else 2 if operand16 and not wide else 4
    elif table == 1:
        if vex:
            has_modrm = opcode != 0x77
            immediate_size = 1 if opcode in _0F_IMM8 and opcode >= 0x70 else 0
        elif opcode in _0F_INVALID:
            return None
        else:
            has_modrm = opcode not in _0F_NO_MODRM
            if opcode in _0F_IMM8:
                immediate_size = 1
            elif opcode & 0xF0 == 0x80:
                immediate_size = 4
            elif opcode == 0x78 and (operand16 or repeat == 0xF2):  # SSE4a extrq, insertq
                immediate_size = 2
    elif table == 3 or table == 8:
        immediate_size = 1
    elif table == 10:
        immediate_size = 4

    register = base_number = mod = 0
    memory: tuple[str | None, str | None, int, int] | None = None
    rip_relative = False
    if has_modrm:
        modrm = code[position]
        position += 1
        mod = modrm >> 6
        register = (modrm >> 3 & 7) | (rex << 1 & 8)
        base_number = modrm & 7
        control = table == 1 and 0x20 <= opcode <= 0x23 and not vex
        if mod == 3 or control:  # moves of control registers ignore mod
            mod = 3
            base_number |= rex << 3 & 8
        else:
            index = None
            scale = 1
            base: str | None = None
            displacement_size = (0, 1, 4)[mod]
            if base_number == 4:
                sib = code[position]
                position += 1
                index_number = (sib >> 3 & 7) | (rex << 2 & 8)
                if index_number != 4:
                    index, scale = REGISTERS[index_number], 1 << (sib >> 6)
                if sib & 7 == 5 and mod == 0:
                    displacement_size = 4
                else:
                    base = REGISTERS[(sib & 7) | (rex << 3 & 8)]
            elif base_number == 5 and mod == 0:
                displacement_size = 4
                rip_relative = True
            else:
                base = REGISTERS[base_number | (rex << 3 & 8)]
            displacement = 0
            if displacement_size:
                displacement = _signed(code, position, displacement_size)
                position += displacement_size
            memory = (base, index, scale, displacement)
    immediate = _signed(code, position, immediate_size) if immediate_size else 0
    position += immediate_size
    size = position - start
    operand: Operand | None = None
    whole: Operand | None = None
    if memory is not None:
        base, index, scale, displacement = memory
        if rip_relative:
            displacement += address + size
        if base is None:
            displacement &= 0xFFFFFFFFFFFFFFFF
        operand = whole = Memory(base, index, scale, displacement, segment)
        if address32:  # such an address computation is not followed: it could wrap
            operand = operand._replace(base="eip")
    elif has_modrm:
        operand = REGISTERS[base_number]
    width = 8 if wide else 2 if operand16 else 4
    return (size, table, opcode, mod, register, base_number, operand, width, immediate, lock,
            repeat, operand16, rex, vector_register, vex, address32, whole)  # fmt: skip


def _signed(code: bytes, position: int, size: int) -> int:
    return int.from_bytes(code[position : position + size], "little", signed=True)
