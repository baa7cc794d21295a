"""x86-64 machine code: instruction boundaries and the few meanings that locks and calls need.

Meaning is given to moves, address computations, calls, jumps, the stack and the locked exchanges;
every other instruction is "other", but says which registers it may write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from faultkit.code.encoding import MAX_SIZE, REGISTERS, Operand, opcodes, parse
from faultkit.record import NamedTuple
from faultkit.target import ReadError

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R11 = 1, 2, 4, 8, 16, 32, 64, 128, 1 << 11
FIRST_READ = 1 << 12  # bytes of a function's code that are read at first
PAGE = 1 << 12

Read = Callable[[int, int], bytes]

_VECTOR = opcodes(range(0x10, 0x18), range(0x28, 0x2C), 0x2E, 0x2F, range(0x51, 0x78), 0x7C, 0x7D,
               0x7F, 0xC2, 0xC4, 0xC6, range(0xD0, 0xD7), range(0xD8, 0x100))  # fmt: skip


_ALU = ("add", "other", "other", "other", "and", "sub", "xor", "cmp")
# A0 to AF: movabs to rax, from rax; movs, cmps; test; stos, lods, scas, with rep
_STRING_WRITES = (RAX, 0, RSI | RDI | RCX, RSI | RDI | RCX, 0, RDI | RCX, RAX | RSI | RCX,
                  RDI | RCX)  # fmt: skip


class Instruction(NamedTuple):
    """One decoded instruction.

    `kind` is call, jmp, jcc, ret, lea, mov, movsxd, push, pop, leave, add, sub, and, xor, shl,
    imul, cmp, test, cmpxchg, xchg, xadd, syscall, nop, trap or other.  `width` is the operand size
    in bytes.  `writes` has bit n set when REGISTERS[n] may be written (a call's callee is not
    counted).  `target` is the address of a direct call or jump; an indirect one has its operand in
    `source`.  shl and imul are those by a constant, of which imul has its own in `factor`.
    """

    address: int
    size: int
    kind: str
    destination: Operand | None = None
    source: Operand | None = None
    width: int = 8
    writes: int = 0
    target: int | None = None
    lock: bool = False
    factor: int = 1

    @property
    def end(self) -> int:
        """The address behind the instruction: where a call returns to."""
        return self.address + self.size

    def may_write(self, register: str) -> bool:
        """Whether the instruction itself may change `register`."""
        return bool(self.writes >> REGISTERS.index(register) & 1)


def decode(code: bytes, address: int, offset: int = 0) -> Instruction | None:
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


def _decode(code: bytes, address: int, start: int) -> Instruction | None:
    parts = parse(code, address, start)
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
    operand: Operand | None, width: int, immediate: int, lock: bool, repeat: int, rex: int,
) -> Instruction:  # fmt: skip
    def make(
        kind: str,
        destination: Operand | None = None,
        source: Operand | None = None,
        writes: int = 0,
        target: int | None = None,
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
    if opcode == 0x63:
        return make("movsxd", reg, operand, 1 << register)
    if opcode in (0x69, 0x6B):
        return make("imul", reg, operand, 1 << register)._replace(factor=immediate)
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
    if opcode == 0x98 and rex & 8:  # cdqe
        return make("movsxd", "rax", "rax", RAX)
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
    if opcode in (0xC1, 0xD1) and register & 7 == 4:
        return make("shl", operand, 1 if opcode == 0xD1 else immediate & 63, direct)
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
    operand: Operand | None, width: int, immediate: int, lock: bool, repeat: int,
    operand16: bool, rex: int,
) -> Instruction:  # fmt: skip
    direct = 1 << base if mod == 3 else 0
    kind = "other"
    source: Operand | None = None
    destination: Operand | None = None
    target: int | None = None
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


def call_before(read: Read, return_address: int) -> Instruction | None:
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
