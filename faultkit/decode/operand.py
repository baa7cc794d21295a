"""The operand that an exception stopped at: its address, the register that was wrong, and the
member of a structure that the instruction meant.

How a register got its value is followed backwards through straight code only, up to a variable
that debug information has in a register there.  Whatever is not certain is left out.
"""

from __future__ import annotations

import re

from faultkit.code import x86
from faultkit.code.encoding import MAX_SIZE, Memory
from faultkit.code.expression import DWARF_REGISTERS
from faultkit.debuginfo.debugfile import BROKEN
from faultkit.decode.types import Types
from faultkit.decode.values import FrameView
from faultkit.decode.variables import scope_at
from faultkit.record import NamedTuple
from faultkit.target import ReadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MASK = (1 << 64) - 1
MAX_BACK = 64  # instructions that are followed backwards
MAX_DEPTH = 6
MAX_FUNCTION = 1 << 16
PAGE = 4096
_CALLER_SAVED = ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11")
_OPERAND = re.compile(r"(?:%([defgs]s):)?(-?0x[0-9a-f]+)?\((%\w+)?(?:,(%\w+)(?:,([1248]))?)?\)")
_ABSOLUTE = re.compile(r"(?:%([defgs]s):)(0x[0-9a-f]+)(?![\w(])")
_READ_ONLY = re.compile(r"^(?:cmp|test|bt[lqw]?$|push|call|jmp|nop|prefetch|u?comis|div|idiv|mul)")
_PREFIX = re.compile(r"^(?:(?:lock|rep[nz]*|data16|cs|ds|es|notrack|bnd)\s+)+")

_ALIGNED = re.compile(r"v?(?:movap[sd]|movdqa(?:32|64)?|movnt(?:dqa?|p[sd]))$")
_TRAPS = {  # by whether a program runs there: arch/x86/include/asm/bug.h, and what compilers make
    False: {
        "ud2": "ud2: a BUG() or a WARN() that this line's condition led to",
        "ud1": "ud1: a check that the compiler has put in (UBSAN, CFI) failed here",
    },
    True: {
        "ud2": "ud2: __builtin_trap(), or code that the compiler took for unreachable",
        "ud1": "ud1: a check that the compiler has put in (UBSAN) failed here",
    },
}

# include/linux/poison.h, with POISON_POINTER_DELTA of x86_64
_POISON = {
    0xDEAD000000000100: "LIST_POISON1: the entry was taken off its list",
    0xDEAD000000000122: "LIST_POISON2: the entry was taken off its list",
    0xDEAD000000000200: "LIST_POISON2 of older kernels: the entry was taken off its list",
}
_PATTERNS = {
    0x6B: "slab poison of freed memory (POISON_FREE): use after free",
    0x5A: "slab poison of memory not yet written (POISON_INUSE)",
    0xAA: "poison of a freed page (PAGE_POISON)",
    0xCC: "poison of freed init memory (POISON_FREE_INITMEM)",
}


class Operand(NamedTuple):
    """A memory operand as AT&T syntax has it."""

    segment: str | None
    displacement: int
    base: str | None
    scaled: str | None
    scale: int
    is_written: bool


def parse(text: str) -> list[Operand]:
    """The memory operands of an instruction's text, but for those of lea and nop."""
    text = _PREFIX.sub("", text)
    mnemonic, _, rest = text.partition(" ")
    if mnemonic.startswith(("lea", "nop")):
        return []
    found = []
    for match in _OPERAND.finditer(rest):
        written = not rest[match.end() :].strip() and not _READ_ONLY.match(mnemonic)
        only = "," not in rest[: match.start()] and not rest[match.end() :].strip()
        if only and mnemonic.startswith(("f", "v")) and not mnemonic.startswith("fst"):
            written = False
        found.append(
            Operand(
                match[1],
                int(match[2], 16) if match[2] else 0,
                _whole(match[3]),
                _whole(match[4]),
                int(match[5] or 1),
                written,
            )
        )
    if not found:
        for match in _ABSOLUTE.finditer(rest):
            written = not rest[match.end() :].strip() and not _READ_ONLY.match(mnemonic)
            found.append(Operand(match[1], int(match[2], 16), None, None, 1, written))
    return found


def _whole(name: str | None) -> str | None:
    """The 64-bit register that a name in AT&T syntax is (a part of)."""
    if name is None:
        return None
    name = name.lstrip("%")
    if name in ("rip", "eip", "riz", "eiz"):
        return "rip" if name.endswith("ip") else None
    return "r" + name[1:] if name.startswith("e") else name


def explain(view: FrameView, text: str, fault_address: int | None = None) -> list[str]:
    """What the instruction at the frame's address did when it was stopped, in sentences; [] where
    nothing can be told.  `text` is the instruction's, `fault_address` what the exception
    reported (CR2)."""
    mnemonic = _PREFIX.sub("", text).split(None, 1)[0] if text.strip() else ""
    if mnemonic in ("ud2", "ud1", "(bad)"):
        return [_TRAPS[view.in_program].get(mnemonic, _TRAPS[view.in_program]["ud2"])]
    if mnemonic == "int3":
        return ["int3: a breakpoint"]
    registers = view.context.registers
    operands = parse(text)
    chosen: tuple[Operand, int] | None = None
    for operand in operands:
        address = _address(operand, registers)
        if address is None:
            continue
        if fault_address is not None:
            if 0 <= fault_address - address < 64:
                chosen = operand, address
                break
            continue
        if not _is_readable(view, address) or chosen is None:
            chosen = operand, address
            if not _is_readable(view, address):
                break
    if chosen is None:
        if fault_address is not None and operands:
            return [f"the fault's address {fault_address:#x} is not the operand's"]
        return _division(mnemonic, text, registers)
    needs = _alignment(mnemonic, text)
    if needs and chosen[1] % needs:
        return [f"{_sentence(view, *chosen)}: not at a multiple of {needs}, as {mnemonic} needs it"]
    return [_sentence(view, *chosen)]


def _alignment(mnemonic: str, text: str) -> int | None:
    """What the address of a vector that is moved has to be a multiple of; None for no such
    instruction."""
    if not _ALIGNED.match(mnemonic):
        return None
    return 64 if "%zmm" in text else 32 if "%ymm" in text else 16


def _division(mnemonic: str, text: str, registers: object) -> list[str]:
    if not mnemonic.startswith(("div", "idiv")) or not isinstance(registers, dict):
        return []
    match = re.search(r"%(\w+)$", text)
    name = _whole(match[1]) if match else None
    if name is None or name not in registers:
        return []
    return [f"division by {name} = {registers[name]:#x}"]


def _is_readable(view: FrameView, address: int) -> bool:
    try:
        view.read(address, 1)
    except ReadError:
        return False
    return True


def _address(operand: Operand, registers: object) -> int | None:
    if not isinstance(registers, dict) or operand.base == "rip" or operand.segment in ("fs", "gs"):
        return None
    total = operand.displacement
    if operand.base is not None:
        if operand.base not in registers:
            return None
        total += registers[operand.base]
    if operand.scaled is not None:
        if operand.scaled not in registers:
            return None
        total += registers[operand.scaled] * operand.scale
    return total & MASK


def _sentence(view: FrameView, operand: Operand, address: int) -> str:
    registers = view.context.registers
    verb = "write to" if operand.is_written else "read of"
    base = operand.base
    values = [
        f"{name} = {registers[name]:#x}"
        for name in dict.fromkeys((operand.base, operand.scaled))
        if name is not None
    ]
    said = ", ".join(values)
    what, pointer = None, None
    if base is not None:
        tracer = _Tracer(view)
        named = tracer.value(base, view.address, 0)
        if named is not None:
            pointer, type_at = named
            what = tracer.element(pointer, type_at, operand)
    value = registers[base] if base is not None else address
    sense = meaning_of(value if operand.scaled is None else address)
    if what is not None and pointer is not None:
        text = f"{said}, {verb} {what}: {pointer} is {value:#x}"
    else:
        text = f"{said}, {verb} {address:#x}" if said else f"{verb} {address:#x}"
    return f"{text} ({sense})" if sense else text


def meaning_of(value: int) -> str | None:
    """What a pointer of that value is, if it is no good one: NULL, an error, poison..."""
    if value < PAGE:
        return "NULL" if value == 0 else "NULL and an offset: in the first page"
    if value > MASK - PAGE:
        return f"an error, {value - MASK - 1}"
    known = _POISON.get(value)
    if known:
        return known
    for poison, said in _POISON.items():
        if abs(value - poison) < PAGE:
            return said
    first = value >> 56
    if first in _PATTERNS and value >> 16 == int.from_bytes(bytes((first,)) * 6, "little"):
        return _PATTERNS[first]
    if not (value < 1 << 47 or value >= MASK + 1 - (1 << 47)):
        if value < 1 << 56 or value >= MASK + 1 - (1 << 56):
            return "not canonical with 4 levels of page tables"
        return "not a canonical address"
    return None


Named: TypeAlias = "tuple[str, int | None]"  # an expression in C, and its type's position


class _Tracer:
    """Names values in registers by the variables and members that they were loaded from."""

    def __init__(self, view: FrameView) -> None:
        self.view = view
        self.code: list[x86.Instruction] = []
        self.targets: set[int] = set()
        start = view.start
        if start is None or not 0 <= view.address - start <= MAX_FUNCTION:
            return
        try:
            data = view.read(start, view.address - start + MAX_SIZE)
        except ReadError:
            return
        at = 0
        while start + at <= view.address:
            instruction = x86.decode(data, start + at, at)
            if instruction is None:
                self.code = []
                return
            self.code.append(instruction)
            at += instruction.size
        if not self.code or self.code[-1].address != view.address:
            self.code = []
        self.targets = self._targets(start)

    def _targets(self, start: int) -> set[int]:
        """Where jumps of the whole function lead, also those behind the address."""
        try:
            data = self.view.read(start, self.view.address - start + PAGE)
        except ReadError:
            data = b""
        found, at = set(), 0
        while at < len(data):
            instruction = x86.decode(data, start + at, at)
            if instruction is None:
                break
            if instruction.kind in ("jmp", "jcc") and instruction.target is not None:
                found.add(instruction.target)
            at += instruction.size
        return found

    @property
    def types(self) -> Types | None:
        return self.view.types

    def value(self, register: str, address: int, depth: int) -> Named | None:
        """An expression for what the register holds before the instruction at `address`."""
        named = self._variable(register, address)
        if named is not None or depth > MAX_DEPTH:
            return named
        index = next((i for i, each in enumerate(self.code) if each.address == address), None)
        if index is None:
            return None
        for place in range(index - 1, max(index - MAX_BACK, -1), -1):
            if self.code[place + 1].address in self.targets:
                return None  # another way leads here
            instruction = self.code[place]
            if instruction.kind in ("jmp", "ret", "trap"):
                return None
            if instruction.kind == "call" and register in _CALLER_SAVED:
                return None
            if not instruction.may_write(register):
                continue
            return self._source(instruction, register, depth)
        return None

    def _source(self, instruction: x86.Instruction, register: str, depth: int) -> Named | None:
        if instruction.destination != register or instruction.width != 8:
            return None
        source = instruction.source
        if instruction.kind == "mov" and isinstance(source, str):
            return self.value(source, instruction.address, depth + 1)
        if instruction.kind == "mov" and isinstance(source, Memory):
            if source.base is None or source.scaled is not None or source.segment is not None:
                return None
            if source.base in ("rsp", "rbp"):
                return self._on_stack(source, instruction.address)
            inner = self.value(source.base, instruction.address, depth + 1)
            if inner is None:
                return None
            return self._member(inner, source.displacement, 8)
        return None

    def _variable(self, register: str, address: int) -> Named | None:
        """The variable that debug information has in the register at the address."""
        view = self.view
        if view.code is None or view.unit is None:
            return None
        wanted = bytes((0x50 + DWARF_REGISTERS.index(register),))
        try:
            scope = scope_at(*view.unit, address + view.code.shift & MASK)
        except BROKEN:
            return None
        for variable in scope.variables:
            if variable.location == wanted and self._is_pointer(variable.type_at):
                return variable.name, variable.type_at
        return None

    def _on_stack(self, source: Memory, address: int) -> Named | None:
        """The variable whose place on the stack it is."""
        view = self.view
        base = view.context.registers.get(str(source.base))
        if base is None or view.address < address:
            return None
        for found in view.found():
            is_there = found.address == base + source.displacement & MASK
            if is_there and self._is_pointer(found.variable.type_at):
                return found.variable.name, found.variable.type_at
        return None

    def _is_pointer(self, at: int | None) -> bool:
        try:
            return self.types is not None and self.types.is_pointer(at)
        except BROKEN:
            return False

    def _member(self, pointer: Named, offset: int, width: int | None) -> Named | None:
        """The member at `offset` bytes of what a pointer points to."""
        if self.types is None or not self._is_pointer(pointer[1]):
            return None
        try:
            pointee = self.types.pointee(pointer[1])
            if pointee is None:
                return None
            found = self.types.place(pointee, offset, width)
        except BROKEN:
            return None
        if found is None:
            return None
        path, type_at = found
        if not path:
            return f"*{pointer[0]}", type_at
        return f"{pointer[0]}->{path}", type_at

    def element(self, name: str, type_at: int | None, operand: Operand) -> str | None:
        """What the operand means in terms of the pointer in its base register."""
        if operand.scaled is not None:
            size = self.types.size(self.types.pointee(type_at)) if self.types else None
            if operand.displacement == 0 and size == operand.scale:
                return f"{name}[{operand.scaled}]"
            return None
        found = self._member((name, type_at), operand.displacement, None)
        return found[0] if found is not None else None
