"""DWARF expressions, as far as call frame information uses them (DWARF 5, section 2.5)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from faultkit.code import FormatError

MASK = (1 << 64) - 1
MAX_STEPS = 1000  # operations of one expression; they may branch backwards
MAX_STACK = 64

# DWARF register numbers of x86-64 (System V psABI, figure 3.36); 16 is the return address.
DWARF_REGISTERS = (
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip",
)  # fmt: skip


class UnknownRegister(FormatError):
    """A rule needs a register whose value is not known; `register` is its name."""

    def __init__(self, register: str) -> None:
        super().__init__(f"register {register} is not known")
        self.register = register


def uleb(data: bytes, position: int) -> tuple[int, int]:
    """(value, position behind it) of an unsigned LEB128.  Raises FormatError at the end."""
    value = shift = 0
    for index in range(position, min(position + 10, len(data))):
        byte = data[index]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, index + 1
        shift += 7
    raise FormatError("a LEB128 number without an end")


def sleb(data: bytes, position: int) -> tuple[int, int]:
    """(value, position behind it) of a signed LEB128.  Raises FormatError at the end."""
    value, end = uleb(data, position)
    bits = 7 * (end - position)
    return value - (1 << bits) if value >> (bits - 1) & 1 else value, end


def known(registers: Mapping[str, int | None], number: int) -> int:
    """The value of DWARF register `number`, or UnknownRegister."""
    name = DWARF_REGISTERS[number] if number < len(DWARF_REGISTERS) else f"#{number}"
    value = registers.get(name)
    if value is None:
        raise UnknownRegister(name)
    return value


_FIXED = {
    0x03: "<Q", 0x08: "<B", 0x09: "<b", 0x0A: "<H", 0x0B: "<h",
    0x0C: "<I", 0x0D: "<i", 0x0E: "<Q", 0x0F: "<q",
}  # fmt: skip


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_BINARY: dict[int, Callable[[int, int], int]] = {
    0x1A: lambda a, b: a & b,
    0x1C: lambda a, b: a - b,
    0x1E: lambda a, b: a * b,
    0x21: lambda a, b: a | b,
    0x22: lambda a, b: a + b,
    0x24: lambda a, b: a << b if b < 64 else 0,
    0x25: lambda a, b: a >> b if b < 64 else 0,
    0x26: lambda a, b: _signed(a) >> min(b, 63),
    0x27: lambda a, b: a ^ b,
    0x29: lambda a, b: _signed(a) == _signed(b),
    0x2A: lambda a, b: _signed(a) >= _signed(b),
    0x2B: lambda a, b: _signed(a) > _signed(b),
    0x2C: lambda a, b: _signed(a) <= _signed(b),
    0x2D: lambda a, b: _signed(a) < _signed(b),
    0x2E: lambda a, b: _signed(a) != _signed(b),
}


def evaluate(
    code: bytes,
    registers: Mapping[str, int | None],
    read: Callable[[int, int], bytes],
    stack: list[int] | None = None,
) -> int:
    """The value of an expression; `stack` is what it starts with.

    Raises FormatError for what is broken or not supported, UnknownRegister, and ReadError.
    """
    stack = list(stack or ())
    position = 0
    for _ in range(MAX_STEPS):
        if position == len(code):
            break
        try:
            position = _step(code, position, stack, registers, read)
        except (IndexError, struct.error) as error:
            raise FormatError("a DWARF expression that does not end or underflows") from error
        if len(stack) > MAX_STACK or not 0 <= position <= len(code):
            raise FormatError("a DWARF expression that leaves its bounds")
    else:
        raise FormatError("a DWARF expression that does not end")
    if not stack:
        raise FormatError("a DWARF expression without a value")
    return stack[-1] & MASK


def _step(
    code: bytes,
    position: int,
    stack: list[int],
    registers: Mapping[str, int | None],
    read: Callable[[int, int], bytes],
) -> int:
    """Do the operation at `position`; returns the next one's position."""
    operation = code[position]
    position += 1
    if operation in _FIXED:
        form = struct.Struct(_FIXED[operation])
        stack.append(form.unpack_from(code, position)[0])
        return position + form.size
    if operation in _BINARY:
        right, left = stack.pop(), stack.pop()
        stack.append(int(_BINARY[operation](left, right)) & MASK)
    elif 0x30 <= operation <= 0x4F:  # DW_OP_lit
        stack.append(operation - 0x30)
    elif 0x70 <= operation <= 0x8F:  # DW_OP_breg
        offset, position = sleb(code, position)
        stack.append(known(registers, operation - 0x70) + offset & MASK)
    elif operation == 0x92:  # DW_OP_bregx
        number, position = uleb(code, position)
        offset, position = sleb(code, position)
        stack.append(known(registers, number) + offset & MASK)
    elif operation == 0x06:  # DW_OP_deref
        stack.append(int.from_bytes(read(stack.pop() & MASK, 8), "little"))
    elif operation == 0x94:  # DW_OP_deref_size
        size = code[position]
        if not 1 <= size <= 8:
            raise FormatError("DW_OP_deref_size of an impossible size")
        stack.append(int.from_bytes(read(stack.pop() & MASK, size), "little"))
        position += 1
    elif operation == 0x10:
        value, position = uleb(code, position)
        stack.append(value)
    elif operation == 0x11:
        value, position = sleb(code, position)
        stack.append(value)
    elif operation == 0x12:
        stack.append(stack[-1])
    elif operation == 0x13:
        stack.pop()
    elif operation == 0x14:
        stack.append(stack[-2])
    elif operation == 0x15:
        stack.append(stack[-1 - code[position]])
        position += 1
    elif operation == 0x16:
        stack[-1], stack[-2] = stack[-2], stack[-1]
    elif operation == 0x17:
        stack[-3], stack[-2], stack[-1] = stack[-1], stack[-3], stack[-2]
    elif operation == 0x1F:
        stack.append(-stack.pop() & MASK)
    elif operation == 0x20:
        stack.append(~stack.pop() & MASK)
    elif operation == 0x23:
        value, position = uleb(code, position)
        stack.append(stack.pop() + value & MASK)
    elif operation in (0x28, 0x2F):  # DW_OP_bra, DW_OP_skip
        distance = struct.unpack_from("<h", code, position)[0]
        position += 2
        if operation == 0x2F or stack.pop():
            position += distance
    elif operation != 0x96:  # DW_OP_nop
        raise FormatError(f"DWARF operation {operation:#x} in call frame information")
    return position
