"""What memory an x86-64 instruction touches, given the registers: where, and whether it writes.

After the opcode maps of the Intel SDM, volume 2, appendix A.  Also which instructions user code
may not execute, and which need aligned operands.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Registers

from faultkit.code.encoding import Encoding, Memory, encoding
from faultkit.record import NamedTuple

MASK = (1 << 64) - 1
READ, WRITE = "read", "write"
CANONICAL_BITS = 47  # bits of user addresses where page tables have four levels


class Access(NamedTuple):
    """One access to memory.  `address` is None where a register is unknown; `operand` is how
    it is calculated ("rax+rcx*8+0x10"), `base` and `scaled` its registers; `stack`: by a push,
    pop, call or return; `size` in bytes, as far as it is told."""

    mode: str
    address: int | None
    size: int
    operand: str
    base: str | None = None
    scaled: str | None = None
    displacement: int = 0
    stack: bool = False


def is_canonical(address: int) -> bool:
    """Whether a processor with four levels of page tables takes it for an address at all."""
    top = address >> CANONICAL_BITS
    return top == 0 or top == (1 << 64 - CANONICAL_BITS) - 1


def accesses(code: bytes, pc: int, registers: Registers[str, int]) -> list[Access]:
    """The accesses of the instruction at the start of `code`, which lies at `pc`; [] if there
    are none, or it is no instruction."""
    parts = encoding(code, pc)
    return list(_accesses(parts, registers)) if parts is not None else []


def _accesses(parts: Encoding, registers: Registers[str, int]) -> Iterator[Access]:
    operand, opcode, table = parts.operand, parts.opcode, parts.table
    if isinstance(operand, Memory) and not _takes_address_only(parts):
        yield _explicit(parts, operand, registers)
    if table == 0 and not parts.vex:
        if 0xA0 <= opcode <= 0xA3:
            mode = READ if opcode < 0xA2 else WRITE
            address = parts.immediate & MASK
            yield Access(mode, address, _size(parts), f"{address:#x}", displacement=address)
        elif opcode in _STRINGS:
            for mode, register in _STRINGS[opcode]:
                yield Access(mode, registers.get(register), _size(parts), register, register)
        elif opcode == 0xD7:
            at, low = registers.get("rbx"), registers.get("rax")
            known = None if at is None or low is None else at + (low & 0xFF) & MASK
            yield Access(READ, known, 1, "rbx+al", "rbx")
    stack = _stack(parts)
    if stack is not None:
        mode, register, displacement = stack
        at = registers.get(register)
        yield Access(
            mode,
            None if at is None else at + displacement & MASK,
            8,
            register + (f"{displacement:+#x}" if displacement else ""),
            register,
            displacement=displacement,
            stack=True,
        )


_STRINGS = {
    0xA4: ((READ, "rsi"), (WRITE, "rdi")), 0xA5: ((READ, "rsi"), (WRITE, "rdi")),
    0xA6: ((READ, "rsi"), (READ, "rdi")), 0xA7: ((READ, "rsi"), (READ, "rdi")),
    0xAA: ((WRITE, "rdi"),), 0xAB: ((WRITE, "rdi"),),
    0xAC: ((READ, "rsi"),), 0xAD: ((READ, "rsi"),),
    0xAE: ((READ, "rdi"),), 0xAF: ((READ, "rdi"),),
    0x6C: ((WRITE, "rdi"),), 0x6D: ((WRITE, "rdi"),),
    0x6E: ((READ, "rsi"),), 0x6F: ((READ, "rsi"),),
}  # fmt: skip


def _explicit(parts: Encoding, memory: Memory, registers: Registers[str, int]) -> Access:
    address: int | None = memory.displacement
    words = []
    if memory.segment:
        base = registers.get(f"{memory.segment}_base")
        address = None if base is None else memory.displacement + base
        words.append(f"{memory.segment}_base")
    gathers = parts.vex and parts.table == 2 and 0x90 <= parts.opcode <= 0xA3
    for name, scale in ((memory.base, 1), (memory.scaled, memory.scale)):
        if name is None:
            continue
        value = registers.get(name)
        if value is None or (gathers and name is memory.scaled):
            address = None
        elif address is not None:
            address += value * scale
        words.append(name if scale == 1 else f"{name}*{scale}")
    operand = "+".join(words)
    if memory.displacement or not operand:
        operand += f"{memory.displacement:+#x}" if operand else f"{memory.displacement:#x}"
    if address is not None:
        address &= 0xFFFFFFFF if parts.narrow else MASK
    return Access(
        WRITE if _writes(parts) else READ,
        address,
        _size(parts),
        operand,
        memory.base,
        memory.scaled,
        memory.displacement,
    )


def _takes_address_only(parts: Encoding) -> bool:
    """lea, prefetches and nops with an operand: nothing is accessed."""
    if parts.table == 0:
        return parts.opcode == 0x8D and not parts.vex
    return (
        parts.table == 1
        and not parts.vex
        and (0x18 <= parts.opcode <= 0x1F or parts.opcode == 0x0D)
    )


def _size(parts: Encoding) -> int:
    """Bytes of an operand, as far as it is easily told."""
    if parts.vex or parts.table > 1 or (parts.table == 1 and parts.opcode in _SSE):
        return 16 if not parts.repeat else 8 if parts.repeat == 0xF2 else 4
    if parts.table == 1:
        small = parts.opcode in (0xB6, 0xBE, 0xB0, 0xC0) or 0x90 <= parts.opcode <= 0x9F
        return 1 if small else 2 if parts.opcode in (0xB7, 0xBF) else parts.width
    even = not parts.opcode & 1
    byte = parts.opcode < 0x40 or 0x80 <= parts.opcode <= 0x8B or parts.opcode >= 0xA0
    if parts.opcode == 0x63:  # movslq
        return 4
    if parts.opcode == 0xFF and parts.register & 7 >= 2:
        return 8
    return 1 if even and byte and not 0xD8 <= parts.opcode <= 0xDF else parts.width


_SSE = frozenset((*range(0x10, 0x18), *range(0x28, 0x30), *range(0x50, 0x80), *range(0xD0, 0x100)))
_X87_STORES = {
    0xD9: (2, 3, 6, 7), 0xDB: (1, 2, 3, 7), 0xDD: (1, 2, 3, 6, 7), 0xDF: (1, 2, 3, 6, 7),
}  # fmt: skip
_STORES = frozenset((0x11, 0x13, 0x17, 0x29, 0x2B, 0x7F, 0xC3, 0xD6, 0xE7))
_UPDATES = frozenset((0xA4, 0xA5, 0xAC, 0xAD, 0xAB, 0xB3, 0xBB, 0xB0, 0xB1, 0xC0, 0xC1))


def _writes(parts: Encoding) -> bool:
    """Whether the explicit memory operand is written (also if it is read before)."""
    opcode, operation = parts.opcode, parts.register & 7
    if parts.table == 0:
        if opcode < 0x40:
            return opcode & 7 < 2 and opcode >> 3 != 7
        if opcode in (0x80, 0x81, 0x83):
            return operation != 7
        if opcode in (0xF6, 0xF7):
            return operation in (2, 3)
        if opcode in (0xFE, 0xFF):
            return operation < 2
        if 0xD8 <= opcode <= 0xDF:
            return operation in _X87_STORES.get(opcode, ())
        return opcode in (0x86, 0x87, 0x88, 0x89, 0x8C, 0x8F, 0xC0, 0xC1, 0xC6, 0xC7) or (
            0xD0 <= opcode <= 0xD3
        )
    if parts.table == 1:
        if opcode == 0x7E:
            return parts.repeat != 0xF3
        if opcode == 0xBA:
            return operation != 4
        if opcode == 0xC7:
            return operation in (1, 4, 5, 7)
        if opcode == 0xAE:
            return operation in (0, 3, 4, 6)
        return opcode in _STORES or opcode in _UPDATES or 0x90 <= opcode <= 0x9F
    if parts.table == 2:
        if opcode == 0xF1:
            return parts.repeat != 0xF2
        narrowing = parts.repeat == 0xF3 and opcode >> 4 in (1, 2, 3) and opcode & 15 < 6
        return (parts.vex and (opcode in (0x2E, 0x2F, 0x63, 0x8A, 0x8B, 0x8E) or narrowing or (
            0xA0 <= opcode <= 0xA3))) or opcode == 0xF9  # fmt: skip
    return parts.table == 3 and opcode in (0x14, 0x15, 0x16, 0x17, 0x19, 0x1B, 0x1D, 0x39, 0x3B)


def _stack(parts: Encoding) -> tuple[str, str, int] | None:
    """(mode, register, displacement) of the access by a push, pop, call, return or leave."""
    opcode, operation = parts.opcode, parts.register & 7
    if parts.vex or parts.table > 1:
        return None
    if parts.table == 1:
        if opcode in (0xA0, 0xA8):
            return WRITE, "rsp", -8
        return (READ, "rsp", 0) if opcode in (0xA1, 0xA9) else None
    if 0x50 <= opcode <= 0x57 or opcode in (0x68, 0x6A, 0x9C, 0xE8, 0xC8):
        return WRITE, "rsp", -8
    if opcode == 0xFF and operation in (2, 6):
        return WRITE, "rsp", -8
    if 0x58 <= opcode <= 0x5F or opcode in (0x8F, 0x9D, 0xC2, 0xC3, 0xCA, 0xCB, 0xCF):
        return READ, "rsp", 0
    return (READ, "rbp", 0) if opcode == 0xC9 else None


_PRIVILEGED = {
    0xF4: "hlt", 0xFA: "cli", 0xFB: "sti", 0xE4: "in", 0xE5: "in", 0xEC: "in", 0xED: "in",
    0xE6: "out", 0xE7: "out", 0xEE: "out", 0xEF: "out", 0x6C: "ins", 0x6D: "ins", 0x6E: "outs",
    0x6F: "outs", 0xCF: "iret", 0xCA: "retf", 0xCB: "retf",
}  # fmt: skip
_PRIVILEGED_0F = {
    0x00: "lldt or ltr", 0x01: "a system instruction", 0x06: "clts", 0x07: "sysret", 0x08: "invd",
    0x09: "wbinvd", 0x20: "a move from a control register", 0x21: "a move from a debug register",
    0x22: "a move to a control register", 0x23: "a move to a debug register", 0x30: "wrmsr",
    0x31: "rdtsc", 0x32: "rdmsr", 0x33: "rdpmc", 0x35: "sysexit",
}  # fmt: skip


def privileged(parts: Encoding) -> str | None:
    """The name of an instruction that raises a general protection fault in user code (rdtsc
    only where prctl(PR_SET_TSC) forbids it), None for others."""
    if parts.vex:
        return None
    if parts.table == 0:
        if parts.opcode == 0xCD:
            return f"int {parts.immediate & 0xFF:#x}"
        return _PRIVILEGED.get(parts.opcode)
    return _PRIVILEGED_0F.get(parts.opcode) if parts.table == 1 else None


def needs_alignment(parts: Encoding) -> int:
    """The alignment in bytes that the memory operand must have, or else a general protection
    fault follows; 1 where any will do."""
    if not isinstance(parts.operand, Memory):
        return 1
    if parts.table == 1 and parts.opcode == 0xC7 and parts.rex & 8:
        return 16  # cmpxchg16b
    aligned_move = parts.table == 1 and (
        parts.opcode in (0x28, 0x29, 0x2B, 0xE7)
        or (parts.opcode in (0x6F, 0x7F) and parts.operand16)
    )
    if parts.vex:
        return 16 if aligned_move else 1
    if aligned_move or (parts.table == 2 and parts.opcode == 0x2A):
        return 16
    packed = (
        parts.table == 1
        and parts.repeat == 0
        and (0x51 <= parts.opcode <= 0x6D or 0x74 <= parts.opcode <= 0x76 or parts.opcode >= 0xC2)
    )
    if (
        packed
        and (parts.operand16 or parts.opcode < 0x60)
        and parts.opcode not in (0xC3, 0xC4, 0xC5, 0xC7, 0xD6, 0x5A)
    ):
        return 16
    return 16 if parts.table in (2, 3) and parts.opcode < 0x20 and parts.operand16 else 1
