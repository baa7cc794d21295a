"""Where a variable is, by its DWARF location description (DWARF 5, sections 2.5 and 2.6).

Only what is known is used: a register that unwinding did not recover makes a variable
unavailable, with the reason.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from faultkit.code import FormatError
from faultkit.code.expression import DWARF_REGISTERS, sleb, uleb
from faultkit.code.unwind import CALLEE_SAVED
from faultkit.record import NamedTuple
from faultkit.target import ReadError

MASK = (1 << 64) - 1
MAX_STEPS = 1000
MAX_STACK = 64
MAX_PIECES = 64
MAX_DEPTH = 4  # of entry values whose value is again an entry value

_FIXED = {
    0x08: "<B", 0x09: "<b", 0x0A: "<H", 0x0B: "<h", 0x0C: "<I", 0x0D: "<i", 0x0E: "<Q", 0x0F: "<q",
}  # fmt: skip


class Unavailable(Exception):
    """Why a variable has no value here, in words."""


class Place(NamedTuple):
    """A variable or a part of one: in memory at `address`, or else its `value` as bytes; the rest
    of it is optimized out where both are None.  `origin` says where that was found."""

    origin: str
    address: int | None = None
    value: bytes | None = None
    bits: int | None = None  # of a part
    shift: int = 0  # of the part, in bits


class Type(NamedTuple):
    """A base type of the expression's stack: bytes, and whether signed; floats are refused."""

    size: int
    signed: bool


class Context:
    """What expressions of one frame are evaluated in.

    `registers` has only what is known; `origins` tells where those were recovered from.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        registers: Mapping[str, int],
        cfa: int | None = None,
        frame_base: bytes | None = None,
        runtime: Callable[[int], int | None] | None = None,
        origins: Mapping[str, str] | None = None,
    ) -> None:
        self.read = read
        self.registers = registers
        self.cfa = cfa
        self.frame_base = frame_base
        # From one of the file's own addresses to the target's; None where that is not known.
        self.runtime: Callable[[int], int | None] = runtime or (lambda address: address)
        self.origins = origins or {}
        # What a register had when the function was entered; raises Unavailable.
        self.entry_value: Callable[[str, int], tuple[int, str]] = _no_entry_value
        self.indexed: Callable[[int], int | None] = lambda index: None  # .debug_addr, file's own
        self.base_type: Callable[[int], Type | None] = lambda offset: None

    def address(self, static: int) -> int:
        """The target's address for one of the file's own; raises Unavailable."""
        found = self.runtime(static)
        if found is None:
            raise Unavailable("where its section was loaded is not known")
        return found

    def register(self, number: int) -> tuple[str, int]:
        """(name, value); raises Unavailable."""
        name = DWARF_REGISTERS[number] if number < len(DWARF_REGISTERS) else f"register {number}"
        value = self.registers.get(name)
        if value is None:
            if name not in DWARF_REGISTERS:
                raise Unavailable(f"in {name}, which back traces do not have")
            if name in CALLEE_SAVED or name == "rsp":
                raise Unavailable(f"in {name}, which could not be recovered")
            raise Unavailable(f"was in {name}, which a callee may have changed")
        return name, value

    def origin(self, name: str) -> str:
        """Where the register's value comes from, in words."""
        return self.origins.get(name) or name


def _no_entry_value(name: str, depth: int) -> tuple[int, str]:
    raise Unavailable(f"only {name} at the function's entry would tell, and that is not known")


def locate(code: bytes, context: Context, size: int) -> list[Place]:
    """Where the expression says that the variable of `size` bytes is: one place, or its parts in
    order.  Raises Unavailable, and FormatError for what is broken."""
    if not code:
        raise Unavailable("optimized out")
    machine = _Machine(code, context, size)
    try:
        return machine.run()
    except (IndexError, struct.error) as error:
        raise FormatError("a location that does not end or underflows") from error
    except ReadError as error:
        raise Unavailable(str(error)) from None


def value_of(code: bytes, context: Context, depth: int = 0) -> tuple[int, str]:
    """(the value that an expression leaves, where it comes from), as for DW_AT_call_value.
    Raises Unavailable, FormatError."""
    machine = _Machine(code, context, 8, depth)
    try:
        machine.evaluate()
    except (IndexError, struct.error) as error:
        raise FormatError("an expression that does not end or underflows") from error
    except ReadError as error:
        raise Unavailable(str(error)) from None
    if not machine.stack:
        raise FormatError("an expression without a value")
    return machine.stack[-1] & MASK, machine.origin()


class _Machine:
    def __init__(self, code: bytes, context: Context, size: int, depth: int = 0) -> None:
        self.code = code
        self.context = context
        self.size = size
        self.depth = depth
        self.at = 0
        self.stack: list[int] = []
        self.types: list[Type | None] = []
        self.used: list[str] = []  # what the value was computed from
        self.plain = True  # nothing but an address
        self.computed = False

    def run(self) -> list[Place]:
        parts: list[Place] = []
        while self.at < len(self.code) or not parts:
            place = self.one()
            if self.at < len(self.code):
                place = self.piece(place)
            elif parts:
                raise FormatError("a part without a size")
            parts.append(place)
            if len(parts) > MAX_PIECES:
                raise FormatError("a variable of too many parts")
        return parts

    def piece(self, place: Place) -> Place:
        operation = self.code[self.at]
        self.at += 1
        shift = 0
        if operation == 0x93:  # DW_OP_piece
            count, self.at = uleb(self.code, self.at)
            bits = 8 * count
        elif operation == 0x9D:  # DW_OP_bit_piece
            bits, self.at = uleb(self.code, self.at)
            shift, self.at = uleb(self.code, self.at)
        else:
            raise FormatError(f"DWARF operation {operation:#x} behind a location")
        return place._replace(bits=bits, shift=shift)

    def one(self) -> Place:
        """The location up to the end or the next DW_OP_piece."""
        code = self.code
        self.stack, self.types, self.used, self.computed = [], [], [], False
        if self.at >= len(code) or code[self.at] in (0x93, 0x9D):
            return Place("optimized out")
        operation = code[self.at]
        if 0x50 <= operation <= 0x6F or operation == 0x90:  # DW_OP_reg, DW_OP_regx
            self.at += 1
            number = operation - 0x50
            if operation == 0x90:
                number, self.at = uleb(code, self.at)
            name, value = self.context.register(number)
            return Place(self.context.origin(name), value=value.to_bytes(8, "little"))
        if operation == 0x9E:  # DW_OP_implicit_value
            length, at = uleb(code, self.at + 1)
            self.at = at + length
            if self.at > len(code):
                raise FormatError("an implicit value that is cut off")
            return Place("constant", value=code[at : self.at])
        if operation in (0xA0, 0xF2):  # DW_OP_implicit_pointer and GNU's before it
            raise Unavailable("optimized out: a pointer to something that was optimized out")
        self.evaluate()
        if self.at < len(code) and code[self.at] == 0x9F:  # DW_OP_stack_value
            self.at += 1
            kind = self.types[-1]
            value = self.stack[-1] & MASK
            width = 8 if kind is None or kind.signed else max(kind.size, self.size)
            return Place(self.origin(), value=value.to_bytes(8, "little")[:width])
        if not self.stack:
            raise FormatError("a location without a place")
        address = self.stack[-1] & MASK
        return Place(self.where(address), address=address)

    def origin(self) -> str:
        """Where the value comes from, in words."""
        used = list(dict.fromkeys(self.used))
        if not used:
            return "constant"
        if len(used) == 1 and not self.computed:
            return used[0]
        return "computed from " + ", ".join(used[:4])

    def where(self, address: int) -> str:
        sp = self.context.registers.get("rsp")
        if sp is not None and -256 <= address - sp < 1 << 16:
            return f"stack at rsp{address - sp:+#x}" if address != sp else "stack at rsp"
        if self.context.cfa is not None and abs(address - self.context.cfa) < 1 << 16:
            return f"stack at cfa{address - self.context.cfa:+#x}"
        return "memory, " + self.origin() if self.used else "memory"

    def evaluate(self) -> None:
        """Run until the end, DW_OP_piece or DW_OP_stack_value."""
        for _ in range(MAX_STEPS):
            if self.at >= len(self.code) or self.code[self.at] in (0x93, 0x9D, 0x9F):
                return
            self.step()
            if len(self.stack) > MAX_STACK or not 0 <= self.at <= len(self.code):
                raise FormatError("a DWARF expression that leaves its bounds")
        raise FormatError("a DWARF expression that does not end")

    def push(self, value: int, kind: Type | None = None) -> None:
        if kind is not None:
            value &= (1 << 8 * kind.size) - 1
            if kind.signed and value >> (8 * kind.size - 1):
                value -= 1 << 8 * kind.size
        self.stack.append(value & MASK)
        self.types.append(kind)

    def pop(self) -> tuple[int, Type | None]:
        return self.stack.pop(), self.types.pop()

    def step(self) -> None:
        code, context = self.code, self.context
        operation = code[self.at]
        self.at += 1
        if operation in _FIXED:
            form = struct.Struct(_FIXED[operation])
            self.push(form.unpack_from(code, self.at)[0])
            self.at += form.size
        elif operation == 0x03:  # DW_OP_addr
            self.push(context.address(struct.unpack_from("<Q", code, self.at)[0]))
            self.at += 8
        elif 0x30 <= operation <= 0x4F:
            self.push(operation - 0x30)
        elif 0x70 <= operation <= 0x8F or operation == 0x92:  # DW_OP_breg, DW_OP_bregx
            number = operation - 0x70
            if operation == 0x92:
                number, self.at = uleb(code, self.at)
            offset, self.at = sleb(code, self.at)
            name, value = context.register(number)
            self.used.append(context.origin(name))
            self.computed = self.computed or bool(offset)
            self.push(value + offset)
        elif operation == 0x91:  # DW_OP_fbreg
            offset, self.at = sleb(code, self.at)
            self.push(self.frame_base() + offset)
        elif operation == 0x9C:  # DW_OP_call_frame_cfa
            self.push(self.cfa())
        elif operation in (0x10, 0x11):
            value, self.at = (uleb if operation == 0x10 else sleb)(code, self.at)
            self.push(value)
        elif operation in (0x06, 0x94, 0xA6, 0xF6):
            self.dereference(operation)
        elif operation in (0xA3, 0xF3):  # DW_OP_entry_value
            self.entry_value()
        elif operation in (0xA1, 0xA2, 0xFB, 0xFC):  # DW_OP_addrx, DW_OP_constx
            index, self.at = uleb(code, self.at)
            found = context.indexed(index)
            if found is None:
                raise Unavailable("its address lies in a file that is not here")
            self.push(context.address(found) if operation in (0xA1, 0xFB) else found)
        elif operation in (0xA4, 0xA5, 0xA8, 0xA9, 0xF4, 0xF5, 0xF7, 0xF9):
            self.typed(operation)
        elif operation in (0x9B, 0xE0):
            raise Unavailable("thread-local; its thread's block is not known")
        elif operation in (0xFA, 0xFD):  # DW_OP_GNU_parameter_ref, DW_OP_GNU_variable_value
            raise Unavailable("optimized out: a parameter of a call that was optimized")
        elif operation != 0x96:
            self.computed = True
            self.calculate(operation)

    def cfa(self) -> int:
        if self.context.cfa is None:
            raise Unavailable("on the stack, but where the frame begins is not known")
        self.used.append("its place on the stack")
        return self.context.cfa

    def frame_base(self) -> int:
        base = self.context.frame_base
        if base is None:
            raise Unavailable("on the stack, but where the frame begins is not known")
        if base == b"\x9c":
            return self.cfa()
        if len(base) == 1 and 0x50 <= base[0] <= 0x6F:  # DW_OP_reg: clang's rbp
            self.used.append("its place on the stack")
            return self.context.register(base[0] - 0x50)[1]
        if base[:1] == b"\x91":
            raise FormatError("a frame base that rests on itself")
        self.used.append("its place on the stack")
        return value_of(base, self.context)[0]

    def dereference(self, operation: int) -> None:
        size, kind = 8, None
        if operation != 0x06:
            size = self.code[self.at]
            self.at += 1
            if operation in (0xA6, 0xF6):
                kind = self.type()
        if not 1 <= size <= 8:
            raise FormatError("a dereference of an impossible size")
        address, _ = self.pop()
        self.used.append(f"memory at {address:#x}")
        self.push(int.from_bytes(self.context.read(address, size), "little"), kind)

    def entry_value(self) -> None:
        length, at = uleb(self.code, self.at)
        block = self.code[at : at + length]
        self.at = at + length
        if len(block) == 1 and 0x50 <= block[0] <= 0x6F and self.depth < MAX_DEPTH:
            name = DWARF_REGISTERS[block[0] - 0x50] if block[0] < 0x61 else ""
            value, origin = self.context.entry_value(name, self.depth)
            self.used.append(origin)
            self.push(value)
            return
        raise Unavailable("only the state at the function's entry would tell, which is not known")

    def type(self) -> Type | None:
        """A base type by its DIE's offset in the unit; 0 is the generic one."""
        offset, self.at = uleb(self.code, self.at)
        if offset == 0:
            return None
        found = self.context.base_type(offset)
        if found is None or not 1 <= found.size <= 8:
            raise Unavailable("computed with a type that is not supported")
        return found

    def typed(self, operation: int) -> None:
        code = self.code
        if operation in (0xA8, 0xF7, 0xA9, 0xF9):  # DW_OP_convert, DW_OP_reinterpret
            kind = self.type()
            value, _ = self.pop()
            self.computed = True
            self.push(value, kind)
        elif operation in (0xA5, 0xF5):  # DW_OP_regval_type
            number, self.at = uleb(code, self.at)
            kind = self.type()
            name, value = self.context.register(number)
            self.used.append(self.context.origin(name))
            self.push(value, kind)
        else:  # DW_OP_const_type
            kind = self.type()
            length = code[self.at]
            block = code[self.at + 1 : self.at + 1 + length]
            self.at += 1 + length
            self.push(int.from_bytes(block, "little"), kind)

    def calculate(self, operation: int) -> None:
        stack, types, code = self.stack, self.types, self.code
        if operation == 0x12:
            self.push(stack[-1], types[-1])
        elif operation == 0x13:
            self.pop()
        elif operation in (0x14, 0x15):
            index = 1
            if operation == 0x15:
                index = code[self.at]
                self.at += 1
            self.push(stack[-1 - index], types[-1 - index])
        elif operation == 0x16:
            stack[-1], stack[-2] = stack[-2], stack[-1]
            types[-1], types[-2] = types[-2], types[-1]
        elif operation == 0x17:
            stack[-3], stack[-2], stack[-1] = stack[-1], stack[-3], stack[-2]
            types[-3], types[-2], types[-1] = types[-1], types[-3], types[-2]
        elif operation in (0x19, 0x1F, 0x20):
            value, kind = self.pop()
            number = _read_as(value, kind, signed=True)
            self.push({0x19: abs(number), 0x1F: -number, 0x20: ~number}[operation], kind)
        elif operation == 0x23:
            value, self.at = uleb(code, self.at)
            top, kind = self.pop()
            self.push(top + value, kind)
        elif operation in (0x28, 0x2F):
            distance = struct.unpack_from("<h", code, self.at)[0]
            self.at += 2
            if operation == 0x2F or self.pop()[0]:
                self.at += distance
        else:
            right, right_kind = self.pop()
            left, kind = self.pop()
            shifts = operation in (0x24, 0x25, 0x26)
            if (kind is None) != (right_kind is None) and not shifts:
                raise Unavailable("computed in a way that is not supported")
            self.push(*_binary(operation, left, right, kind))


def _read_as(value: int, kind: Type | None, signed: bool | None = None) -> int:
    """The number that the 64 bits mean; generic ones are signed where it matters."""
    if kind is not None and signed is None:
        signed = kind.signed
    if kind is not None and not kind.signed:
        return value
    return value - (1 << 64) if signed is not False and value >> 63 else value


def _binary(operation: int, left: int, right: int, kind: Type | None) -> tuple[int, Type | None]:
    a, b = _read_as(left, kind), _read_as(right, kind)
    if operation in (0x29, 0x2A, 0x2B, 0x2C, 0x2D, 0x2E):
        told = {0x29: a == b, 0x2A: a >= b, 0x2B: a > b, 0x2C: a <= b, 0x2D: a < b, 0x2E: a != b}
        return int(told[operation]), kind
    if operation in (0x1B, 0x1D):
        if b == 0:
            raise Unavailable("computed by a division by zero")
        if operation == 0x1B:
            quotient = abs(a) // abs(b)
            return quotient if (a < 0) == (b < 0) else -quotient, kind
        if kind is None:  # DW_OP_mod of the generic type is unsigned in gdb and gcc
            return left % right, kind
        return abs(a) % abs(b) * (-1 if a < 0 else 1), kind
    if operation in (0x24, 0x25, 0x26):
        width = 8 * kind.size if kind is not None else 64
        count = min(right, width)
        if operation == 0x24:
            return left << count, kind
        if operation == 0x25:
            return (left & ((1 << width) - 1)) >> count, kind
        return _read_as(left, kind, signed=True) >> count, kind
    if operation == 0x1A:
        return left & right, kind
    if operation == 0x1C:
        return left - right, kind
    if operation == 0x1E:
        return left * right, kind
    if operation == 0x21:
        return left | right, kind
    if operation == 0x22:
        return left + right, kind
    if operation == 0x27:
        return left ^ right, kind
    raise Unavailable(f"computed by an operation that is not supported ({operation:#x})")
