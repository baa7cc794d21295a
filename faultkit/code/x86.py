"""x86-64 machine code: instruction boundaries and the few meanings that locks and calls need.

The length decoder follows the opcode maps of the Intel SDM, volume 2, appendix A, with VEX,
EVEX and XOP.  Meaning is given to moves, address computations, calls, jumps, the stack and the
locked exchanges; every other instruction is "other", but says which registers it may write.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Callable, NamedTuple, Optional, Union

from faultkit.target import ReadError

REGISTERS = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R11 = 1, 2, 4, 8, 16, 32, 64, 128, 1 << 11
FIRST_READ = 1 << 12  # bytes of a function's code that are read at first
PAGE = 1 << 12
MAX_SIZE = 15  # of an instruction; the processor refuses longer ones

Read = Callable[[int, int], bytes]


class Memory(NamedTuple):
    """A memory operand: base + scaled * scale + displacement, in `segment` if not None.

    A rip-relative operand has no base and its absolute address as displacement.
    """

    base: Optional[str]
    scaled: Optional[str]
    scale: int
    displacement: int
    segment: Optional[str] = None


Operand = Union[str, int, Memory]  # a register's 64-bit name, an immediate, or memory


class Instruction(NamedTuple):
    """One decoded instruction.

    `kind` is call, jmp, jcc, ret, lea, mov, push, pop, leave, add, sub, and, xor, cmp, test,
    cmpxchg, xchg, xadd, syscall, nop, trap or other.  `width` is the operand size in bytes.
    `writes` has bit n
    set when REGISTERS[n] may be written (a call's callee is not counted).  `target` is the
    address of a direct call or jump; an indirect one has its operand in `source`.
    """

    address: int
    size: int
    kind: str
    destination: Optional[Operand] = None
    source: Optional[Operand] = None
    width: int = 8
    writes: int = 0
    target: Optional[int] = None
    lock: bool = False

    @property
    def end(self) -> int:
        """The address behind the instruction: where a call returns to."""
        return self.address + self.size

    def may_write(self, register: str) -> bool:
        """Whether the instruction itself may change `register`."""
        return bool(self.writes >> REGISTERS.index(register) & 1)


def _set(*parts: Union[int, range]) -> frozenset[int]:
    return frozenset(n for p in parts for n in ((p,) if isinstance(p, int) else p))


_PREFIXES = _set(0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
_INVALID = _set(0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x60, 0x61,
                0x82, 0x9A, 0xCE, 0xD4, 0xD5, 0xD6, 0xEA)  # fmt: skip
_MODRM = _set(*(range(n, n + 4) for n in range(0, 0x40, 8)), 0x63, 0x69, 0x6B, range(0x80, 0x90),
              0xC0, 0xC1, 0xC6, 0xC7, range(0xD0, 0xD4), range(0xD8, 0xE0), 0xF6, 0xF7, 0xFE,
              0xFF)  # fmt: skip
_IMM8 = _set(range(4, 0x40, 8), 0x6A, 0x6B, range(0x70, 0x80), 0x80, 0x83, 0xA8,
             range(0xB0, 0xB8), 0xC0, 0xC1, 0xC6, 0xCD, range(0xE0, 0xE8), 0xEB)  # fmt: skip
_IMMZ = _set(range(5, 0x40, 8), 0x68, 0x69, 0x81, 0xA9, 0xC7)
_REL32 = _set(0xE8, 0xE9)

# The 0F map
_0F_INVALID = _set(0x04, 0x0A, 0x0C, range(0x24, 0x28), 0x36, 0x39, range(0x3B, 0x40))
_0F_NO_MODRM = _set(range(0x05, 0x0A), 0x0B, 0x0E, range(0x30, 0x38), 0x77, range(0x80, 0x90),
                    0xA0, 0xA1, 0xA2, 0xA8, 0xA9, 0xAA, range(0xC8, 0xD0))  # fmt: skip
_0F_IMM8 = _set(0x0F, range(0x70, 0x74), 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6)
_VECTOR = _set(range(0x10, 0x18), range(0x28, 0x2C), 0x2E, 0x2F, range(0x51, 0x78), 0x7C, 0x7D,
               0x7F, 0xC2, 0xC4, 0xC6, range(0xD0, 0xD7), range(0xD8, 0x100))  # fmt: skip

_ALU = ("add", "other", "other", "other", "and", "sub", "xor", "cmp")
# A0 to AF: movabs to rax, from rax; movs, cmps; test; stos, lods, scas, with rep
_STRING_WRITES = (RAX, 0, RSI | RDI | RCX, RSI | RDI | RCX, 0, RDI | RCX, RAX | RSI | RCX,
                  RDI | RCX)  # fmt: skip
_SEGMENTS = {0x64: "fs", 0x65: "gs"}


def decode(code: bytes, address: int, offset: int = 0) -> Optional[Instruction]:
    """The instruction at code[offset:], which lies at `address`; None if invalid or cut off."""
    try:
        instruction = _decode(code, address, offset)
    except IndexError:
        return None
    if instruction is None or instruction.size > MAX_SIZE:
        return None
    if offset + instruction.size > len(code):
        return None
    return instruction


def _signed(code: bytes, position: int, size: int) -> int:
    return int.from_bytes(code[position : position + size], "little", signed=True)


def _decode(code: bytes, address: int, start: int) -> Optional[Instruction]:
    parts = _parse(code, address, start)
    if parts is None:
        return None
    (size, table, opcode, mod, register, base_number, operand, width, immediate, lock, repeat,
     operand16, rex, vector_register, vex, _, _) = parts  # fmt: skip
    if vex or table > 1:
        writes = _vector_writes(table, opcode, mod, register, base_number, vector_register, vex)
        return Instruction(address, size, "other", width=width, writes=writes)
    if table == 1:
        return _meaning_0f(address, size, opcode, mod, register, base_number, operand, width,
                           immediate, lock, repeat, operand16, rex)  # fmt: skip
    return _meaning(address, size, opcode, mod, register, base_number, operand, width,
                    immediate, lock, repeat, rex)  # fmt: skip


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
    operand: Optional[Operand]
    width: int
    immediate: int
    lock: bool
    repeat: int
    operand16: bool
    rex: int
    vector: int
    vex: bool
    narrow: bool


def encoding(code: bytes, address: int, offset: int = 0) -> Optional[Encoding]:
    """The parts of the instruction at code[offset:]; None if it is invalid or cut off."""
    try:
        parts = _parse(code, address, offset)
    except IndexError:
        return None
    if parts is None or parts[0] > MAX_SIZE or offset + parts[0] > len(code):
        return None
    *same, narrow, memory = parts
    if narrow and memory is not None:
        same[6] = memory
    return Encoding._make([*same, narrow])


def _parse(code: bytes, address: int, start: int) -> Optional[tuple[Any, ...]]:
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
    memory: Optional[tuple[Optional[str], Optional[str], int, int]] = None
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
            base: Optional[str] = None
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
    operand: Optional[Operand] = None
    whole: Optional[Operand] = None
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


def _vector_writes(
    table: int, opcode: int, mod: int, register: int, base: int, vector_register: int, vex: bool
) -> int:
    """The general registers that an instruction of the vector maps may write."""
    direct = 1 << base if mod == 3 else 0
    if table == 1 and opcode in _VECTOR and opcode != 0x6E:
        return 0
    if table == 2 and opcode < 0xF0:
        return 0
    if table == 3 and opcode < 0xF0:
        return RCX if opcode in (0x61, 0x63) else direct if 0x14 <= opcode <= 0x17 else 0
    return 1 << register | direct | (1 << vector_register if vex else 0)


def _byte_register(number: int, rex: int) -> int:
    """The register that a byte operand is part of: ah, ch, dh and bh without a REX prefix."""
    return number & 3 if not rex and 4 <= number < 8 else number


def _meaning(
    address: int, size: int, opcode: int, mod: int, register: int, base: int,
    operand: Optional[Operand], width: int, immediate: int, lock: bool, repeat: int, rex: int,
) -> Instruction:  # fmt: skip
    def make(
        kind: str,
        destination: Optional[Operand] = None,
        source: Optional[Operand] = None,
        writes: int = 0,
        target: Optional[int] = None,
    ) -> Instruction:
        return Instruction(address, size, kind, destination, source, width, writes, target, lock)

    if ((opcode < 0x40 or 0x80 <= opcode <= 0x8B or 0xC6 <= opcode <= 0xC7) and not opcode & 1) or (
        0xB0 <= opcode <= 0xB7
    ):
        width = 1
        register = _byte_register(register, rex)
        base = _byte_register(base, rex)
        if mod == 3 and operand is not None:
            operand = REGISTERS[base]
    direct = 1 << base if mod == 3 else 0
    reg = REGISTERS[register]
    end = address + size
    low = (opcode & 7) | (rex << 3 & 8)
    if opcode < 0x40:
        form = opcode & 7
        kind = _ALU[opcode >> 3]
        destination, source, writes = (
            (operand, reg, direct) if form < 2
            else (reg, operand, 1 << register) if form < 4
            else ("rax", immediate, RAX)
        )  # fmt: skip
        return make(kind, destination, source, 0 if kind == "cmp" else writes)
    if 0x50 <= opcode <= 0x57:
        return make("push", None, REGISTERS[low], RSP)
    if 0x58 <= opcode <= 0x5F:
        return make("pop", REGISTERS[low], None, RSP | 1 << low)
    if opcode in (0x63, 0x69, 0x6B):
        return make("other", reg, operand, 1 << register)
    if opcode in (0x68, 0x6A):
        return make("push", None, immediate, RSP)
    if 0x70 <= opcode <= 0x7F:
        return make("jcc", target=end + immediate)
    if opcode in (0x80, 0x81, 0x83):
        kind = _ALU[register & 7]
        return make(kind, operand, immediate, 0 if kind == "cmp" else direct)
    if opcode in (0x84, 0x85):
        return make("test", operand, reg)
    if opcode in (0x86, 0x87):
        return make("xchg", operand, reg, 1 << register | direct)
    if opcode in (0x88, 0x89):
        return make("mov", operand, reg, direct)
    if opcode in (0x8A, 0x8B):
        return make("mov", reg, operand, 1 << register)
    if opcode == 0x8C:
        return make("other", operand, None, direct)
    if opcode == 0x8D:
        return make("lea", reg, operand, 1 << register)
    if opcode == 0x8F:
        return make("pop", operand, None, direct | RSP)
    if opcode == 0x90 and not rex & 1:
        return make("nop")
    if 0x90 <= opcode <= 0x97:
        return make("xchg", REGISTERS[low], "rax", RAX | 1 << low)
    if opcode in (0x98, 0x99):
        return make("other", writes=RAX if opcode == 0x98 else RDX)
    if opcode in (0x9C, 0x9D):
        return make("push" if opcode == 0x9C else "pop", writes=RSP)
    if 0xA0 <= opcode <= 0xAF:
        return make("other", writes=_STRING_WRITES[opcode >> 1 & 7])
    if 0xB0 <= opcode <= 0xB7:
        number = _byte_register(low, rex)
        return make("mov", REGISTERS[number], immediate, 1 << number)
    if 0xB8 <= opcode <= 0xBF:
        if width < 8:
            immediate &= (1 << 8 * width) - 1
        return make("mov", REGISTERS[low], immediate, 1 << low)
    if opcode in (0xC0, 0xC1) or 0xD0 <= opcode <= 0xD3:
        return make("other", operand, None, direct)
    if opcode in (0xC2, 0xC3, 0xCA, 0xCB, 0xCF):
        return make("ret", writes=RSP)
    if opcode in (0xC6, 0xC7):
        return make("mov", operand, immediate, direct)
    if opcode in (0xC8, 0xC9):
        return make("leave" if opcode == 0xC9 else "other", writes=RSP | RBP)
    if opcode in (0xCC, 0xCD, 0xF4):
        return make("trap")
    if opcode == 0xD7 or (opcode == 0xDF and mod == 3 and register == 4):
        return make("other", writes=RAX)
    if 0xE0 <= opcode <= 0xE3:
        return make("jcc", writes=RCX, target=end + immediate)
    if opcode in (0xE4, 0xE5, 0xEC, 0xED):
        return make("other", writes=RAX)
    if opcode in (0x6C, 0x6D, 0x6E, 0x6F):
        return make("other", writes=RSI | RDI | RCX)
    if opcode == 0xE8:
        return make("call", target=end + immediate & 0xFFFFFFFFFFFFFFFF)
    if opcode in (0xE9, 0xEB):
        return make("jmp", target=end + immediate & 0xFFFFFFFFFFFFFFFF)
    if opcode in (0xF6, 0xF7):
        operation = register & 7
        if operation < 2:
            if opcode == 0xF6:
                width = 1
            return make("test", operand, immediate)
        writes = direct if operation < 4 else RAX | RDX
        if opcode == 0xF6 and operation in (2, 3) and mod == 3:
            writes = 1 << _byte_register(base, rex)
        return make("other", operand, None, writes)
    if opcode in (0xFE, 0xFF):
        operation = register & 7
        if operation < 2:  # inc, dec
            if opcode == 0xFE:
                width = 1
                if mod == 3:
                    base = _byte_register(base, rex)
                    operand, direct = REGISTERS[base], 1 << base
            return make("add", operand, 1 - 2 * operation, direct)
        if opcode == 0xFF and operation in (2, 3):
            return make("call", None, operand)
        if opcode == 0xFF and operation in (4, 5):
            return make("jmp", None, operand)
        if opcode == 0xFF and operation == 6:
            return make("push", None, operand, RSP)
        return make("other")
    return make("other")


def _meaning_0f(
    address: int, size: int, opcode: int, mod: int, register: int, base: int,
    operand: Optional[Operand], width: int, immediate: int, lock: bool, repeat: int,
    operand16: bool, rex: int,
) -> Instruction:  # fmt: skip
    direct = 1 << base if mod == 3 else 0
    kind = "other"
    source: Optional[Operand] = None
    destination: Optional[Operand] = None
    target: Optional[int] = None
    writes = 0
    if opcode in _VECTOR:
        pass
    elif opcode == 0x05:
        kind, writes = "syscall", RAX | RCX | R11
    elif opcode == 0x0B:
        kind = "trap"
    elif 0x18 <= opcode <= 0x1F:
        kind = "nop"
        if opcode == 0x1E and repeat and mod == 3 and register == 1:
            writes = direct  # rdsspq
    elif 0x80 <= opcode <= 0x8F:
        kind, target = "jcc", address + size + immediate & 0xFFFFFFFFFFFFFFFF
    elif 0x40 <= opcode <= 0x4F or opcode in (0xAF, 0xB6, 0xB7, 0xB8, 0xBC, 0xBD, 0xBE, 0xBF):
        writes = 1 << register
    elif 0x90 <= opcode <= 0x9F:
        writes = 1 << _byte_register(base, rex) if mod == 3 else 0
    elif opcode in (0xB0, 0xB1, 0xC0, 0xC1):
        kind = "cmpxchg" if opcode < 0xC0 else "xadd"
        if not opcode & 1:
            width = 1
            register = _byte_register(register, rex)
            base = _byte_register(base, rex)
            direct = 1 << base if mod == 3 else 0
            operand = REGISTERS[base] if mod == 3 else operand
        destination, source = operand, REGISTERS[register]
        writes = direct | (RAX if kind == "cmpxchg" else 1 << register)
    elif opcode in (0xA3, 0x2A, 0xC3):
        pass
    elif opcode in (0xA4, 0xA5, 0xAC, 0xAD, 0xAB, 0xB3, 0xBB, 0xBA):
        writes = direct if opcode != 0xBA or register & 7 != 4 else 0
    elif opcode in (0x2C, 0x2D, 0x50, 0xC5, 0xD7):
        writes = 1 << register
    elif opcode == 0x7E:
        writes = 0 if repeat else direct
    elif opcode == 0xC7:
        writes = direct | RAX | RDX
    elif 0xC8 <= opcode <= 0xCF:
        writes = 1 << ((opcode & 7) | (rex << 3 & 8))
    elif opcode in (0x01, 0x31, 0x32, 0x33, 0xA2):
        writes = RAX | RBX | RCX | RDX
    elif opcode in (0xA0, 0xA1, 0xA8, 0xA9):
        kind, writes = ("pop" if opcode & 1 else "push"), RSP
    else:
        writes = direct | 1 << register
    return Instruction(address, size, kind, destination, source, width, writes, target, lock)


def instructions(read: Read, start: int, end: int, limit: int = 1 << 18) -> Iterator[Instruction]:
    """The instructions of [start, end), in address order; at most `limit` bytes are read.

    Ends early at bytes that are no instruction.  Raises ReadError when nothing can be read at
    `start`; code that ends in unreadable memory ends the iteration.
    """
    end = min(end, start + limit)
    if end <= start:
        return
    code = _read_up_to(read, start, min(end, start + FIRST_READ))
    more = end > start + FIRST_READ  # most functions are short, and some end just before a gap
    offset = 0
    while offset < len(code):
        if more and offset + MAX_SIZE > FIRST_READ:
            more = False
            with suppress(ReadError):
                code += _read_up_to(read, start + len(code), end)
        instruction = decode(code, start + offset, offset)
        if instruction is None:
            return
        yield instruction
        offset += instruction.size


def _read_up_to(read: Read, start: int, end: int) -> bytes:
    """[start, end), or as much of it as there is before a page that can't be read; raises
    ReadError if that is nothing."""
    try:
        return read(start, end - start)
    except ReadError:
        pass
    data = b""
    while start < end:
        step = min(end, (start | PAGE - 1) + 1) - start
        try:
            data += read(start, step)
        except ReadError:
            if not data:
                raise
            break
        start += step
    return data


def call_before(read: Read, return_address: int) -> Optional[Instruction]:
    """The call instruction that ends at `return_address`, or None.

    Code can be read backwards only by guessing: a direct call and a call through rip-relative
    memory are tried first, as any other encoding is more often a coincidence.  Of an indirect
    call the REX prefix may be missed.
    """
    code = b""
    for size in (8, 5, 2):
        try:
            code = read(return_address - size, size)
            break
        except ReadError:
            continue
    direct = len(code) >= 5 and code[-5] == 0xE8
    for size in (5,) if direct else (6, 2, 3, 4, 5, 7, 8):
        if size <= len(code):
            instruction = decode(code, return_address - size, len(code) - size)
            if instruction and instruction.size == size and instruction.kind == "call":
                return instruction
    return None
