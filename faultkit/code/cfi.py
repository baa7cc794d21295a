"""Call frame information: how to get from a frame to its caller's, from .eh_frame in memory.

The format is that of DWARF 5, section 6.4, with the changes of the Linux Standard Base, "DWARF
Extensions": augmentations, encoded pointers and the .eh_frame_hdr binary search table.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right

from faultkit.code import FormatError
from faultkit.code.elf import PT_GNU_EH_FRAME
from faultkit.code.expression import MASK, sleb, uleb
from faultkit.code.images import Image, Read
from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MAX_FDES = 4 << 20
MAX_SECTION = 16 << 20  # bytes of .eh_frame that are read where there is no table
MAX_ENTRY = 1 << 16  # bytes of one CIE or FDE
MAX_REMEMBERED = 64  # nested DW_CFA_remember_state
RETURN_ADDRESS = 16

# How a register of the caller is found
UNDEFINED, SAME, AT, IS, REGISTER, AT_EXPRESSION, IS_EXPRESSION = range(7)
Rule: TypeAlias = "tuple[int, int | bytes]"


class Cie(NamedTuple):
    """What several FDEs have in common."""

    code_align: int
    data_align: int
    return_register: int
    pointer_encoding: int
    has_augmentation: bool
    signal_frame: bool
    program: bytes


class Fde(NamedTuple):
    """The call frame information of [start, end), in target addresses."""

    start: int
    end: int
    cie: Cie
    program: bytes


class Row(NamedTuple):
    """The rules at one pc: the CFA is register + offset, or an expression's value.

    `rules` is by DWARF register number; one that is absent is SAME for a callee-saved register.
    """

    cfa: tuple[int, int] | bytes
    rules: dict[int, Rule]


class _Table(NamedTuple):
    starts: array[int]  # of functions, relative to the header
    entries: array[int]  # of FDEs, relative to the header
    base: int


_FORMATS = {0: "<Q", 2: "<H", 3: "<I", 4: "<Q", 10: "<h", 11: "<i", 12: "<q"}


def _pointer(data: bytes, position: int, encoding: int, address: int, base: int) -> tuple[int, int]:
    """(value, position behind it) of an encoded pointer; `address` is data[0]'s in the target."""
    form = encoding & 15
    at = address + position
    value: int
    if form == 1:
        value, position = uleb(data, position)
    elif form == 9:
        value, position = sleb(data, position)
    elif form in _FORMATS:
        layout = struct.Struct(_FORMATS[form])
        try:
            value = layout.unpack_from(data, position)[0]
        except struct.error as error:
            raise FormatError("an encoded pointer that is cut off") from error
        position += layout.size
    else:
        raise FormatError(f"pointer encoding {encoding:#x}")
    kind = encoding & 0x70
    if kind == 0x10:
        value += at
    elif kind == 0x30:
        value += base
    elif kind:
        raise FormatError(f"pointer encoding {encoding:#x}")
    return value & MASK, position


def find_fde(image: Image, address: int) -> Fde | None:
    """The FDE that covers `address`; None if the image has none for it.

    Raises FormatError or ReadError when the information is broken.
    """
    table = _table(image)
    if table is None:
        return None
    index = bisect_right(table.starts, address - table.base) - 1
    if index < 0:
        return None
    cache: dict[int, Fde] = image.__dict__.setdefault("_fdes", {})
    entry = table.entries[index] + table.base
    fde = cache.get(entry)
    if fde is None:
        fde = cache[entry] = _parse_fde(image.read, entry)
    return fde if fde.start <= address < fde.end else None


def _table(image: Image) -> _Table | None:
    tables: list[_Table | None] = image.__dict__.setdefault("_fde_tables", [])
    if not tables:
        tables.append(_read_table(image) or _build_table(image))
    return tables[0]


def _read_table(image: Image) -> _Table | None:
    """The binary search table, as ld, gold, lld and mold write it: sorted pairs of 32-bit
    offsets from the header.  None without one."""
    found = image.segment(PT_GNU_EH_FRAME)
    if found is None:
        return None
    address, size = found
    head = image.read(address, min(size, 32))
    if len(head) < 12 or head[0] != 1 or head[3] != 0x3B or head[2] == 0xFF:
        return None
    position = 4
    if head[1] != 0xFF:
        _, position = _pointer(head, position, head[1], address, address)
    count, position = _pointer(head, position, head[2], address, address)
    count = min(count, (size - position) // 8)
    if not 0 < count <= MAX_FDES:
        return None
    words = array("i")
    words.frombytes(image.read(address + position, 8 * count))
    return _Table(words[0::2], words[1::2], address)


def _build_table(image: Image) -> _Table | None:
    """A table made from the whole .eh_frame section, where the linker was not asked for one
    (gcc does not for static executables).  None without section headers."""
    section = image.file.sections.get(".eh_frame") if image.file is not None else None
    if section is None or section.size > MAX_SECTION:
        return None
    base = section.address + image.bias
    data = image.read(base, section.size)
    encodings: dict[int, int] = {}
    found: list[tuple[int, int]] = []
    position = 0
    while position + 12 <= len(data) and len(found) < MAX_FDES:
        length, distance = struct.unpack_from("<II", data, position)
        if length == 0 or length == 0xFFFFFFFF:
            break
        cie = position + 4 - distance
        if distance and cie >= 0:
            if cie not in encodings:
                encodings[cie] = _parse_cie(image.read, base + cie).pointer_encoding
            start, _ = _pointer(data, position + 8, encodings[cie], base, base)
            found.append((start - base, position))
        position += 4 + length
    found.sort()
    return _Table(array("q", [s for s, _ in found]), array("q", [e for _, e in found]), base)


def _entry(read: Read, address: int) -> tuple[bytes, int]:
    """(a CIE's or FDE's bytes from its id field on, the id field's address)."""
    length = int.from_bytes(read(address, 4), "little")
    start = address + 4
    if length == 0xFFFFFFFF:
        length = int.from_bytes(read(start, 8), "little")
        start += 8
    if not 4 < length <= MAX_ENTRY:
        raise FormatError(f"call frame information of {length} bytes")
    return read(start, length), start


def _parse_fde(read: Read, address: int) -> Fde:
    data, start = _entry(read, address)
    distance = int.from_bytes(data[:4], "little")
    if distance == 0:
        raise FormatError("a CIE where an FDE should be")
    cie = _parse_cie(read, start - distance)
    begin, position = _pointer(data, 4, cie.pointer_encoding, start, 0)
    size, position = _pointer(data, position, cie.pointer_encoding & 15, start, 0)
    if cie.has_augmentation:
        length, position = uleb(data, position)
        position += length
    return Fde(begin, begin + size & MASK, cie, data[position:])


def _parse_cie(read: Read, address: int) -> Cie:
    data, start = _entry(read, address)
    if int.from_bytes(data[:4], "little") != 0 or data[4] not in (1, 3):
        raise FormatError("an FDE that leads to no CIE")
    end = data.find(b"\0", 5)
    if end < 0:
        raise FormatError("a CIE without an end")
    augmentation = data[5:end]
    code_align, position = uleb(data, end + 1)
    data_align, position = sleb(data, position)
    if data[4] == 1:
        return_register, position = data[position] if position < len(data) else 0, position + 1
    else:
        return_register, position = uleb(data, position)
    encoding = 0
    signal = False
    if augmentation[:1] == b"z":
        length, position = uleb(data, position)
        program = position + length
        for letter in augmentation[1:]:
            if letter == ord("R") and position < len(data):
                encoding = data[position]
                position += 1
            elif letter == ord("L"):
                position += 1
            elif letter == ord("P") and position < len(data):
                _, position = _pointer(data, position + 1, data[position] & 0x7F, start, 0)
            elif letter == ord("S"):
                signal = True
            elif letter != ord("B"):
                break
        position = program
    elif augmentation:
        raise FormatError("a CIE with an unknown augmentation")
    return Cie(code_align, data_align, return_register, encoding, augmentation[:1] == b"z",
               signal, data[position:])  # fmt: skip


def row_at(fde: Fde, pc: int) -> Row:
    """The rules that hold at `pc`, which lies in the FDE's range.  Raises FormatError."""
    machine = _Machine(fde.cie, fde.start)
    machine.run(fde.cie.program, None)
    machine.initial = dict(machine.rules)
    machine.run(fde.program, pc)
    return Row(machine.cfa, machine.rules)


class _Machine:
    """The interpreter of DW_CFA programs."""

    def __init__(self, cie: Cie, start: int) -> None:
        self.cie = cie
        self.location = start
        self.cfa: tuple[int, int] | bytes = (7, 8)
        self.rules: dict[int, Rule] = {}
        self.initial: dict[int, Rule] = {}
        self.remembered: list[tuple[tuple[int, int] | bytes, dict[int, Rule]]] = []

    def run(self, code: bytes, pc: int | None) -> None:
        position = 0
        while position < len(code):
            try:
                position = self.step(code, position)
            except (IndexError, struct.error) as error:
                raise FormatError("call frame instructions that are cut off") from error
            if pc is not None and self.location > pc:
                return

    def step(self, code: bytes, position: int) -> int:
        operation = code[position]
        low = operation & 63
        high = operation >> 6
        position += 1
        if high == 1:
            return self.advance(low, position)
        if high == 2:
            offset, position = uleb(code, position)
            self.rules[low] = (AT, offset * self.cie.data_align)
        elif high == 3:
            self.restore(low)
        elif low == 0:  # nop
            pass
        elif low == 1:  # set_loc
            raise FormatError("DW_CFA_set_loc")
        elif low == 2:
            return self.advance(code[position], position + 1)
        elif low == 3:
            return self.advance(struct.unpack_from("<H", code, position)[0], position + 2)
        elif low == 4:
            return self.advance(struct.unpack_from("<I", code, position)[0], position + 4)
        elif low == 0x0A:
            if len(self.remembered) >= MAX_REMEMBERED:
                raise FormatError("too many remembered states")
            self.remembered.append((self.cfa, dict(self.rules)))
        elif low == 0x0B:
            if not self.remembered:
                raise FormatError("no remembered state")
            self.cfa, self.rules = self.remembered.pop()
        elif low == 0x2D:  # GNU_window_save, AArch64 and SPARC only
            raise FormatError("DW_CFA_GNU_window_save")
        else:
            return self.rule(low, code, position)
        return position

    def advance(self, distance: int, position: int) -> int:
        self.location += distance * self.cie.code_align
        return position

    def restore(self, register: int) -> None:
        if register in self.initial:
            self.rules[register] = self.initial[register]
        else:
            self.rules.pop(register, None)

    def rule(self, operation: int, code: bytes, position: int) -> int:
        """The instructions that set rules; all but one start with an unsigned LEB128."""
        align = self.cie.data_align
        if operation == 0x13:  # def_cfa_offset_sf
            signed, position = sleb(code, position)
            self.cfa = (self.cfa_register(), signed * align)
            return position
        first, position = uleb(code, position)
        if operation == 0x06:
            self.restore(first)
        elif operation == 0x07:
            self.rules[first] = (UNDEFINED, 0)
        elif operation == 0x08:
            self.rules[first] = (SAME, 0)
        elif operation == 0x0D:
            self.cfa = (first, self.cfa_offset())
        elif operation == 0x0E:
            self.cfa = (self.cfa_register(), first)
        elif operation == 0x0F:  # def_cfa_expression
            self.cfa, position = _block(code, position, first)
        elif operation == 0x2E:  # GNU_args_size
            pass
        elif operation in (0x10, 0x16):  # expression, val_expression
            length, position = uleb(code, position)
            block, position = _block(code, position, length)
            self.rules[first] = (AT_EXPRESSION if operation == 0x10 else IS_EXPRESSION, block)
        elif operation in (0x05, 0x09, 0x0C, 0x14):
            second, position = uleb(code, position)
            if operation == 0x0C:
                self.cfa = (first, second)
            elif operation == 0x09:
                self.rules[first] = (REGISTER, second)
            else:
                self.rules[first] = (AT if operation == 0x05 else IS, second * align)
        elif operation in (0x11, 0x12, 0x15):
            second, position = sleb(code, position)
            if operation == 0x12:
                self.cfa = (first, second * align)
            else:
                self.rules[first] = (AT if operation == 0x11 else IS, second * align)
        elif operation == 0x2F:  # GNU_negative_offset_extended
            second, position = uleb(code, position)
            self.rules[first] = (AT, -second * align)
        else:
            raise FormatError(f"call frame instruction {operation:#x}")
        return position

    def cfa_register(self) -> int:
        if isinstance(self.cfa, bytes):
            raise FormatError("an offset for a CFA that is an expression")
        return self.cfa[0]

    def cfa_offset(self) -> int:
        if isinstance(self.cfa, bytes):
            raise FormatError("a register for a CFA that is an expression")
        return self.cfa[1]


def _block(code: bytes, position: int, length: int) -> tuple[bytes, int]:
    if position + length > len(code):
        raise FormatError("an expression that is cut off")
    return code[position : position + length], position + length
