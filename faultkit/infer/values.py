"""Values that machine code moves about, as far as they can be told without running it.

A value is a known number, an address in the frame, or an unknown ("what was in rdi on entry",
"what the call at 0x.. returned") plus an offset.  Unknowns become numbers later, when the
registers and memory of a stopped frame tell where such a value has been kept.
"""

from __future__ import annotations

from collections.abc import Hashable

from faultkit.code.encoding import REGISTERS, Memory, Operand
from faultkit.code.x86 import Instruction
from faultkit.record import NamedTuple

CFA = "cfa"  # base of values that are addresses in the frame: the canonical frame address
MASK = (1 << 64) - 1
PRESERVED = ("rbx", "rbp", "rsp", "r12", "r13", "r14", "r15")  # by a callee, System V ABI
ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
CLOBBERED = tuple(name for name in REGISTERS if name not in PRESERVED)
ASSIGNING = frozenset(("mov", "lea", "add", "sub", "xor", "and", "movsxd", "shl", "imul"))
MAX_PLACES = 256  # in memory whose contents are kept in mind
MAX_NESTING = 8  # of loads and sums inside one value


class Value(NamedTuple):
    """`base` + `offset`, modulo 2**64; a plain number when `base` is None."""

    base: Hashable
    offset: int = 0
    nesting: int = 0

    def plus(self, number: int) -> Value:
        """The value moved by `number`."""
        return Value(self.base, _wrap(self.offset + number, self.base is None), self.nesting)


class Load(NamedTuple):
    """Base of a value read from memory."""

    address: Value
    width: int


class Sum(NamedTuple):
    """Base of the value left + right * scale."""

    left: Value
    right: Value
    scale: int


class Unknown(NamedTuple):
    """Base of a value that appeared at `where` ("entry", or an instruction) in `register`."""

    where: Hashable
    register: str


def number(value: int) -> Value:
    """A known number."""
    return Value(None, value & MASK)


def unknown(where: Hashable, register: str) -> Value:
    """A value nothing is known of but where it came from."""
    return Value(Unknown(where, register))


def _wrap(offset: int, absolute: bool) -> int:
    offset &= MASK
    return offset if absolute or offset < 1 << 63 else offset - (1 << 64)


class State:
    """What registers and memory hold at one instruction, in terms of the function's entry.

    `memory` maps addresses to (value, width).  `exposed` are the frame's addresses that callees
    may know: they got them as arguments, or found them in memory.  Assumes the stack pointer
    moves by whole pushes, and that nobody else writes to the frame behind its back.
    """

    def __init__(self) -> None:
        self.registers = {name: unknown("entry", name) for name in REGISTERS}
        self.registers["rsp"] = Value(CFA, -8)
        self.memory: dict[Value, tuple[Value, int]] = {}
        self.exposed: frozenset[Value] = frozenset()

    def copy_values(self, other: State) -> None:
        """Take over what `other` knows."""
        self.registers = dict(other.registers)
        self.memory = dict(other.memory)
        self.exposed = other.exposed

    def merge_values(self, other: State, address: int) -> None:
        """Keep what holds on both of two paths that meet at `address`."""
        for name, value in self.registers.items():
            if other.registers[name] != value:
                self.registers[name] = unknown(("merge", address), name)
        theirs = other.memory
        self.memory = {key: value for key, value in self.memory.items() if theirs.get(key) == value}
        self.exposed |= other.exposed

    def address(self, memory: Memory) -> Value | None:
        """The address that the operand means; None for thread-local ones."""
        if memory.segment is not None:
            return None
        result = number(memory.displacement) if memory.base is None else None
        if result is None:
            base = self.registers.get(str(memory.base))
            if base is None:
                return None
            result = base.plus(memory.displacement)
        if memory.scaled is not None:
            scaled = self.registers[memory.scaled]
            result = self._sum(result, scaled, memory.scale)
        return result

    @staticmethod
    def _sum(left: Value, right: Value, scale: int) -> Value | None:
        if right.base is None:
            return left.plus(right.offset * scale)
        if left.base is None and scale == 1:
            return right.plus(left.offset)
        nesting = max(left.nesting, right.nesting) + 1
        if nesting > MAX_NESTING:
            return None
        return Value(Sum(left, right, scale), 0, nesting)

    @classmethod
    def _product(cls, value: Value | None, factor: int) -> Value | None:
        return None if value is None else cls._sum(number(0), value, factor)

    def load(self, address: Value | None, width: int = 8) -> Value | None:
        """What lies at `address`: what was stored there, or an unknown to be read later."""
        if address is None or width not in (4, 8):
            return None
        stored = self.memory.get(address)
        if stored is not None and stored[1] == width:
            return stored[0]
        if address.nesting >= MAX_NESTING:
            return None
        return Value(Load(address, width), 0, address.nesting + 1)

    def store(self, address: Value | None, value: Value, width: int) -> None:
        """Note what is written to `address`, and forget what the write may have changed."""
        if address is None:
            return
        self.memory = {
            key: held
            for key, held in self.memory.items()
            if not (
                -held[1] < key.offset - address.offset < width
                if key.base == address.base
                else _may_alias(key, address)
            )
        }
        if in_frame(value):
            self.exposed |= {value}
        if width in (4, 8):
            self.memory[address] = (value, width)
        if len(self.memory) > MAX_PLACES:
            del self.memory[next(iter(self.memory))]

    def value(self, operand: Operand | None, width: int) -> Value | None:
        """The operand's value, None if it is not followed."""
        if isinstance(operand, int):
            return number(operand if width == 8 else operand & ((1 << 8 * width) - 1))
        if isinstance(operand, Memory):
            return self.load(self.address(operand), width)
        if isinstance(operand, str) and width in (4, 8):
            value = self.registers[operand]
            # The upper half of a longer value is lost; small numbers and low addresses are not.
            return number(value.offset & 0xFFFFFFFF) if value.base is None and width == 4 else value
        return None

    def call(self, instruction: Instruction) -> None:
        """Forget what a callee may change: the scratch registers, memory outside the frame, and
        numbers in what may belong to an object of the frame whose address it may know."""
        given = (self.registers[name] for name in ARGUMENTS)
        self.exposed |= {value for value in given if in_frame(value)}
        for name in CLOBBERED:
            self.registers[name] = unknown(instruction.address, name)
        self.memory = {
            key: held
            for key, held in self.memory.items()
            if in_frame(key)
            and not (
                held[0].base is None
                and any(
                    key.base == start.base and key.offset >= start.offset for start in self.exposed
                )
            )
        }

    def step(self, instruction: Instruction) -> None:
        """Execute one instruction that is not a call."""
        kind, destination, source = instruction.kind, instruction.destination, instruction.source
        width, where = instruction.width, instruction.address
        registers = self.registers
        if kind == "push":
            value = self.value(source, 8) or unknown(where, "pushed")
            registers["rsp"] = registers["rsp"].plus(-8)
            self.store(registers["rsp"], value, 8)
            return
        if kind == "pop":
            value = self.load(registers["rsp"]) or unknown(where, "popped")
            registers["rsp"] = registers["rsp"].plus(8)
            self._assign(destination, value, 8, where)
            return
        if kind == "leave":
            registers["rsp"] = registers["rbp"].plus(8)
            registers["rbp"] = self.load(registers["rsp"].plus(-8)) or unknown(where, "rbp")
            return
        result: Value | None = None
        if kind == "mov":
            result = self.value(source, width)
        elif kind == "lea" and isinstance(source, Memory):
            result = self.address(source)
        elif kind in ("add", "sub") and isinstance(destination, str) and width == 8:
            change = self.value(source, width)
            if change is not None and change.base is None:
                result = registers[destination].plus(
                    change.offset if kind == "add" else -change.offset
                )
            elif change is not None and destination != "rsp":
                result = self._sum(registers[destination], change, 1 if kind == "add" else -1)
        elif kind == "xor" and destination == source:
            result = number(0)
        elif kind == "movsxd":  # of an index, which is not negative
            result = self.value(source, 4)
        elif kind == "shl" and isinstance(source, int) and width == 8:
            result = self._product(self.value(destination, 8), 1 << source)
        elif kind == "imul" and width == 8:
            result = self._product(self.value(source, 8), instruction.factor)
        if kind in ASSIGNING:
            self._assign(destination, result, width, where)
            return
        for operand in (destination, source) if kind == "xchg" else (destination,):
            if isinstance(operand, Memory) and kind not in ("lea", "nop", "jmp", "cmp", "test"):
                self.store(self.address(operand), unknown(where, "memory"), width)
        if instruction.writes:
            for index, name in enumerate(REGISTERS):
                if instruction.writes >> index & 1:
                    registers[name] = unknown(where, name)

    def _assign(
        self, destination: Operand | None, value: Value | None, width: int, where: int
    ) -> None:
        if isinstance(destination, str):
            if value is None or width < 4:
                value = unknown(where, destination)
            self.registers[destination] = value
        elif isinstance(destination, Memory):
            self.store(self.address(destination), value or unknown(where, "memory"), width)


def in_frame(address: Value) -> bool:
    """Whether the address is on the function's own stack."""
    base = address.base
    return base == CFA or (isinstance(base, Unknown) and base.register == "rsp")


def _may_alias(known: Value, written: Value) -> bool:
    """Whether a write through `written` may change what is known at `known`, their bases being
    different: the frame is taken as safe from writes through unrelated pointers."""
    return not in_frame(known) and not (known.base is None and in_frame(written))


def substitute(value: Value, arguments: State, depth: int = 0) -> Value | None:
    """A callee's value in its caller's terms, `arguments` being the caller's state at the call.

    None if it speaks of the callee's own frame or of anything that the caller can't know.
    """
    base = value.base
    if depth > MAX_NESTING:
        return None
    if base is None:
        return value
    if isinstance(base, Unknown):
        if base.where != "entry":
            return None
        return arguments.registers[base.register].plus(value.offset)
    if isinstance(base, Load):
        address = substitute(base.address, arguments, depth + 1)
        loaded = arguments.load(address, base.width)
        return None if loaded is None else loaded.plus(value.offset)
    if isinstance(base, Sum):
        left = substitute(base.left, arguments, depth + 1)
        right = substitute(base.right, arguments, depth + 1)
        if left is None or right is None:
            return None
        total = State._sum(left, right, base.scale)
        return None if total is None else total.plus(value.offset)
    return None
