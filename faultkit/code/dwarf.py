"""DWARF units, 4 and 5: which unit, function and inlined calls an address belongs to.

Only the unit that is asked for is read.  Section and form numbers are those of DWARF 5, 7.5;
the GNU forms of dwz files are stepped over, as the file that they point into may be absent.
"""

import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple, Optional

from faultkit.code import FormatError
from faultkit.code.elf import SHF_COMPRESSED, SHT_NOBITS, ElfFile
from faultkit.code.expression import sleb, uleb

MAX_UNIT = 20 << 20  # bytes; larger ones would take seconds
MAX_INFLATE = 64 << 20  # bytes of a compressed section
MAX_UNITS = 20_000  # headers that are looked at
MAX_DIES = 2_000_000
MAX_DEPTH = 200
MAX_STRING = 4096
MAX_RANGES = 10_000

TAG_LEXICAL_BLOCK, TAG_COMPILE_UNIT, TAG_INLINED, TAG_SUBPROGRAM, TAG_NAMESPACE = (
    0x0B, 0x11, 0x1D, 0x2E, 0x39,
)  # fmt: skip
AT_SIBLING, AT_NAME, AT_STMT_LIST, AT_LOW_PC, AT_HIGH_PC, AT_COMP_DIR = 1, 3, 0x10, 0x11, 0x12, 0x1B
AT_ABSTRACT_ORIGIN, AT_SPECIFICATION, AT_RANGES, AT_LINKAGE_NAME = 0x31, 0x47, 0x55, 0x6E
AT_CALL_COLUMN, AT_CALL_FILE, AT_CALL_LINE = 0x57, 0x58, 0x59
AT_STR_OFFSETS_BASE, AT_ADDR_BASE, AT_RNGLISTS_BASE = 0x72, 0x73, 0x74
_WALKED = frozenset((TAG_LEXICAL_BLOCK, TAG_INLINED, TAG_SUBPROGRAM, TAG_NAMESPACE, 0x11))

# Bytes of the forms of fixed size (32-bit DWARF, 8-byte addresses).
_SIZES = {
    0x01: 8, 0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1, 0x0C: 1, 0x0E: 4, 0x10: 4, 0x11: 1, 0x12: 2,
    0x13: 4, 0x14: 8, 0x17: 4, 0x19: 0, 0x1C: 4, 0x1D: 4, 0x1E: 16, 0x1F: 4, 0x20: 8, 0x21: 0,
    0x24: 8, 0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4, 0x29: 1, 0x2A: 2, 0x2B: 3, 0x2C: 4,
    0x1F20: 4, 0x1F21: 4,
}  # fmt: skip
_STRX = frozenset((0x1A, 0x25, 0x26, 0x27, 0x28))
_ADDRX = frozenset((0x1B, 0x29, 0x2A, 0x2B, 0x2C))


class Abbreviation(NamedTuple):
    """A declaration: what a DIE with this code holds; `size` when all its forms are fixed."""

    tag: int
    children: bool
    attributes: tuple[tuple[int, int, int], ...]  # attribute, form, implicit constant
    size: Optional[int]


class Inlined(NamedTuple):
    """One function of an inline chain; `call_*` tell where it was inlined (None: it was not)."""

    name: Optional[str]
    call_file: Optional[int]
    call_line: Optional[int]
    call_column: Optional[int]


class _Inflater:
    """A compressed section, inflated only as far as it is asked for."""

    def __init__(self, packed: bytes) -> None:
        """Raises FormatError when it is large or not zlib's (Elf64_Chdr, gABI chapter 4)."""
        kind, _, self.size = struct.unpack_from("<IIQ", packed.ljust(16, b"\0"))
        if kind != 1 or self.size > MAX_INFLATE:
            raise FormatError("a section that is large and compressed, or not with zlib")
        self._machine = zlib.decompressobj()
        self._packed = packed[24:]
        self._plain = bytearray()

    def part(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on."""
        while len(self._plain) < min(offset + size, self.size):
            try:
                more = self._machine.decompress(self._packed, 1 << 20)
            except zlib.error as error:
                raise FormatError("a section that does not inflate") from error
            if not more:
                break
            self._plain += more
            self._packed = self._machine.unconsumed_tail
        return bytes(self._plain[offset : offset + size])


class Dwarf:
    """The debug sections of one file."""

    def __init__(self, file: ElfFile) -> None:
        self.file = file
        self._inflated: dict[str, _Inflater] = {}
        self._abbreviations: dict[int, dict[int, Abbreviation]] = {}
        self._units: dict[int, Unit] = {}
        self._aranges: Optional[tuple[list[int], list[tuple[int, int]]]] = None
        self._offsets: list[int] = []
        self._unit_ranges: Optional[list[tuple[int, int, int]]] = None

    def size(self, name: str) -> int:
        """The size of a section as it is in memory, 0 when absent."""
        section = self.file.sections.get(name)
        if section is None or section.type == SHT_NOBITS:
            return 0
        return self._inflater(name).size if section.flags & SHF_COMPRESSED else section.size

    def _inflater(self, name: str) -> "_Inflater":
        if name not in self._inflated:
            section = self.file.sections[name]
            self._inflated[name] = _Inflater(
                self.file.data[section.offset : section.offset + section.size]
            )
        return self._inflated[name]

    def part(self, name: str, offset: int, size: int) -> bytes:
        """At most `size` bytes of a section from `offset` on; b"" outside it."""
        section = self.file.sections.get(name)
        if section is None or section.type == SHT_NOBITS or offset < 0 or offset >= self.size(name):
            return b""
        if section.flags & SHF_COMPRESSED:
            return self._inflater(name).part(offset, size)
        end = section.offset + min(section.size, offset + size)
        return self.file.data[section.offset + offset : end]

    def string(self, section: str, offset: int) -> Optional[str]:
        """The string at `offset` of a string section."""
        for size in (128, MAX_STRING):
            data = self.part(section, offset, size)
            end = data.find(b"\0")
            if end >= 0:
                return data[:end].decode("utf-8", "replace")
        return None

    def abbreviations(self, offset: int) -> dict[int, Abbreviation]:
        """The abbreviation table at `offset` of .debug_abbrev, by code."""
        table = self._abbreviations.get(offset)
        if table is None:
            data = self.part(".debug_abbrev", offset, 1 << 20)
            table = self._abbreviations[offset] = dict(_parse_abbreviations(data))
        return table

    def unit(self, offset: int) -> "Unit":
        """The unit whose header is at `offset` of .debug_info.  Raises FormatError."""
        unit = self._units.get(offset)
        if unit is None:
            unit = self._units[offset] = Unit(self, offset)
        return unit

    def unit_at(self, address: int) -> Optional["Unit"]:
        """The unit that holds the code at `address`, by .debug_aranges, else by the units' own
        ranges (clang writes no .debug_aranges)."""
        starts, ranges = self._address_ranges()
        index = bisect_right(starts, address) - 1
        if index >= 0 and address < ranges[index][0]:
            return self.unit(ranges[index][1])
        if self._unit_ranges is None:
            self._unit_ranges = list(self._all_unit_ranges({unit for _, unit in ranges}))
        for start, end, offset in self._unit_ranges:
            if start <= address < end:
                return self.unit(offset)
        return None

    def _address_ranges(self) -> tuple[list[int], list[tuple[int, int]]]:
        if self._aranges is None:
            data = self.part(".debug_aranges", 0, 64 << 20)
            found = []
            position = 0
            while position + 16 <= len(data):
                length, version, unit, size = struct.unpack_from("<IHIB", data, position)
                end = position + 4 + length
                if version != 2 or size != 8 or end > len(data):
                    break
                first = position + 16
                stop = first + (end - first) // 16 * 16
                for start, count in struct.iter_unpack("<QQ", data[first:stop]):
                    if count:
                        found.append((start, start + count, unit))
                position = end
            found.sort()
            self._aranges = [f[0] for f in found], [f[1:] for f in found]
        return self._aranges

    def unit_offsets(self) -> list[int]:
        """The offsets of all unit headers of .debug_info, at most MAX_UNITS."""
        if not self._offsets:
            position, size = 0, self.size(".debug_info")
            while position + 11 < size and len(self._offsets) < MAX_UNITS:
                length = int.from_bytes(self.part(".debug_info", position, 4), "little")
                if not 7 < length < 0xFFFFFFF0:
                    break
                self._offsets.append(position)
                position += 4 + length
        return self._offsets

    def _all_unit_ranges(self, known: set[int]) -> Iterator[tuple[int, int, int]]:
        for offset in self.unit_offsets():
            if offset not in known:
                try:
                    for start, end in Unit(self, offset, 1024).ranges():
                        yield start, end, offset
                except (FormatError, IndexError, struct.error):
                    continue

    def containing_unit(self, offset: int) -> "Unit":
        """The unit that the DIE at `offset` of .debug_info is in."""
        offsets = self.unit_offsets()
        index = bisect_right(offsets, offset) - 1
        if index < 0:
            raise FormatError("a reference outside all units")
        return self.unit(offsets[index])


def _parse_abbreviations(data: bytes) -> Iterator[tuple[int, Abbreviation]]:
    position = 0
    while position < len(data):
        code, position = uleb(data, position)
        if not code:
            return
        tag, position = uleb(data, position)
        children = data[position : position + 1] != b"\0"
        position += 1
        attributes = []
        size: Optional[int] = 0
        while True:
            attribute, position = uleb(data, position)
            form, position = uleb(data, position)
            constant = 0
            if form == 0x21:  # DW_FORM_implicit_const
                constant, position = sleb(data, position)
            if not attribute and not form:
                break
            attributes.append((attribute, form, constant))
            fixed = _SIZES.get(form)
            size = size + fixed if size is not None and fixed is not None else None
        yield code, Abbreviation(tag, children, tuple(attributes), size)


Attributes = dict[int, tuple[int, int]]  # by attribute: (form, value or position)


class Unit:
    """One unit of .debug_info; positions are relative to its header."""

    def __init__(self, dwarf: Dwarf, offset: int, size: Optional[int] = None) -> None:
        """With `size` only that many bytes are read: enough for the unit's own DIE."""
        self.dwarf = dwarf
        self.offset = offset
        head = dwarf.part(".debug_info", offset, 24)
        if len(head) < 11:
            raise FormatError("a unit that is cut off")
        length, self.version = struct.unpack_from("<IH", head)
        if length >= 0xFFFFFFF0 or not 2 <= self.version <= 5:
            raise FormatError("64-bit DWARF, or a version that is not known")
        if length > MAX_UNIT and size is None:
            raise FormatError("a unit of debug information that is too large")
        if self.version >= 5:
            kind, address_size, abbreviations = struct.unpack_from("<BBI", head, 6)
            self.first = 20 if kind in (4, 5) else 12  # a skeleton or split unit has an id
        else:
            abbreviations, address_size = struct.unpack_from("<IB", head, 6)
            self.first = 11
        if address_size != 8:
            raise FormatError("a unit of another address size")
        self.table = dwarf.abbreviations(abbreviations)
        self.data = dwarf.part(".debug_info", offset, min(4 + length, size or 4 + length))
        self._bases: dict[int, int] = {}
        self.root = self.attributes(self.first)[1]
        for attribute in (AT_STR_OFFSETS_BASE, AT_ADDR_BASE, AT_RNGLISTS_BASE):
            if attribute in self.root:
                self._bases[attribute] = self.root[attribute][1]

    def attributes(self, position: int) -> tuple[Abbreviation, Attributes, int]:
        """(abbreviation, attributes, position behind) of the DIE at `position`."""
        code, position = uleb(self.data, position)
        abbreviation = self.table.get(code)
        if abbreviation is None:
            raise FormatError("a DIE without an abbreviation")
        found: Attributes = {}
        for attribute, form, constant in abbreviation.attributes:
            value, position, form = self._form(form, constant, position)
            found[attribute] = form, value
        return abbreviation, found, position

    def _form(self, form: int, constant: int, position: int) -> tuple[int, int, int]:
        """(value, position behind, form); the value of a string or block is its position."""
        data = self.data
        size = _SIZES.get(form)
        if form == 0x21:
            return constant, position, form
        if size is not None:
            if position + size > len(data):
                raise FormatError("a DIE that is cut off")
            value = int.from_bytes(data[position : position + size], "little")
            return (value if size or form != 0x19 else 1), position + size, form
        if form in (0x0F, 0x15, 0x1A, 0x1B, 0x22, 0x23, 0x1F01, 0x1F02):
            value, position = uleb(data, position)
            return value, position, form
        if form == 0x0D:
            value, position = sleb(data, position)
            return value, position, form
        start = position
        if form == 0x08:
            end = data.find(b"\0", position)
            if end < 0:
                raise FormatError("a string without an end")
            return start, end + 1, form
        if form in (0x09, 0x18):
            length, position = uleb(data, position)
        elif form in (0x0A, 0x03, 0x04):
            width = {0x0A: 1, 0x03: 2, 0x04: 4}[form]
            length = int.from_bytes(data[position : position + width], "little")
            position += width
        elif form == 0x16:  # indirect
            form, position = uleb(data, position)
            if form == 0x16:
                raise FormatError("an indirect form that is indirect")
            return self._form(form, 0, position)
        else:
            raise FormatError(f"DWARF form {form:#x}")
        return start, position + length, form

    def skip(self, abbreviation: Abbreviation, position: int) -> tuple[int, Optional[int]]:
        """(position behind the attributes that start at `position`, its sibling's)."""
        sibling = None
        if abbreviation.size is not None and not abbreviation.children:
            return position + abbreviation.size, None
        for attribute, form, constant in abbreviation.attributes:
            value, position, form = self._form(form, constant, position)
            if attribute == AT_SIBLING:
                sibling = value if form in (0x11, 0x12, 0x13, 0x14, 0x15) else None
        return position, sibling

    def text(self, value: Optional[tuple[int, int]]) -> Optional[str]:
        """The string that an attribute holds."""
        if value is None:
            return None
        form, number = value
        if form == 0x08:
            end = self.data.find(b"\0", number)
            return self.data[number:end].decode("utf-8", "replace")
        if form == 0x0E:
            return self.dwarf.string(".debug_str", number)
        if form == 0x1F:
            return self.dwarf.string(".debug_line_str", number)
        if form in _STRX:
            base = self._bases.get(AT_STR_OFFSETS_BASE, 8)
            entry = self.dwarf.part(".debug_str_offsets", base + 4 * number, 4)
            return self.dwarf.string(".debug_str", int.from_bytes(entry, "little"))
        return None

    def address(self, value: tuple[int, int]) -> int:
        """The address that an attribute of class address holds."""
        form, number = value
        if form in _ADDRX:
            base = self._bases.get(AT_ADDR_BASE, 8)
            entry = self.dwarf.part(".debug_addr", base + 8 * number, 8)
            if len(entry) < 8:
                raise FormatError("an address index outside .debug_addr")
            return int.from_bytes(entry, "little")
        return number

    def ranges(self, attributes: Optional[Attributes] = None) -> list[tuple[int, int]]:
        """The [start, end) of a DIE (the unit's own unless given), in the file's addresses."""
        found = self.root if attributes is None else attributes
        if AT_RANGES in found:
            return self._range_list(*found[AT_RANGES])
        if AT_LOW_PC in found and AT_HIGH_PC in found:
            low = self.address(found[AT_LOW_PC])
            form, _ = found[AT_HIGH_PC]
            high = self.address(found[AT_HIGH_PC])
            return [(low, high if form == 1 or form in _ADDRX else low + high)]
        return []

    def _base_address(self) -> int:
        low = self.root.get(AT_LOW_PC)
        return self.address(low) if low is not None else 0

    def _range_list(self, form: int, offset: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        base = self._base_address()
        if self.version < 5:
            data = self.dwarf.part(".debug_ranges", offset, 16 * MAX_RANGES)
            for low, high in struct.iter_unpack("<QQ", data[: len(data) & ~15]):
                if low == (1 << 64) - 1:
                    base = high
                elif low or high:
                    found.append((base + low, base + high))
                else:
                    break
            return found
        if form == 0x23:  # rnglistx: an index into the offsets behind the header
            start = self._bases.get(AT_RNGLISTS_BASE, 12)
            entry = self.dwarf.part(".debug_rnglists", start + 4 * offset, 4)
            offset = start + int.from_bytes(entry, "little")
        data = self.dwarf.part(".debug_rnglists", offset, 20 * MAX_RANGES)
        position = 0
        while position < len(data) and len(found) < MAX_RANGES:
            kind = data[position]
            position += 1
            operands = []
            if kind == 0:
                break
            for operand in _RANGE_OPERANDS.get(kind, ""):
                if operand == "a":
                    operands.append(int.from_bytes(data[position : position + 8], "little"))
                    position += 8
                else:
                    number, position = uleb(data, position)
                    operands.append(self.address((0x1B, number)) if operand == "x" else number)
            if kind in (1, 5):
                base = operands[0]
            elif kind == 4:
                found.append((base + operands[0], base + operands[1]))
            elif kind in (2, 6):
                found.append((operands[0], operands[1]))
            elif kind in (3, 7):
                found.append((operands[0], operands[0] + operands[1]))
            else:
                raise FormatError(f"range list entry {kind}")
        return found

    def chain(self, address: int) -> list[Inlined]:
        """The functions around `address`, innermost first: inlined ones, then the one that
        they were inlined into.  Raises FormatError."""
        found: list[Inlined] = []
        position = self.first
        data, end = self.data, len(self.data)
        depth = 0
        inside = 0  # the depth of the innermost DIE that covers the address
        for _ in range(MAX_DIES):
            if position >= end:
                break
            code, after = uleb(data, position)
            if code == 0:
                position = after
                depth -= 1
                if depth <= 0 or (found and depth < inside):
                    break
                continue
            abbreviation = self.table.get(code)
            if abbreviation is None:
                raise FormatError("a DIE without an abbreviation")
            enter = False
            sibling: Optional[int] = None
            if abbreviation.tag in _WALKED:
                _, attributes, after = self.attributes(position)
                if AT_SIBLING in attributes:
                    sibling = attributes[AT_SIBLING][1]
                if abbreviation.tag in (TAG_NAMESPACE, TAG_COMPILE_UNIT):
                    enter = True
                elif any(low <= address < high for low, high in self.ranges(attributes)):
                    enter = True
                    inside = depth + 1
                    if abbreviation.tag != TAG_LEXICAL_BLOCK:
                        found.append(self._inlined(attributes))
                        if not abbreviation.children:
                            break
            else:
                after, sibling = self.skip(abbreviation, after)
            position = after
            if abbreviation.children:
                if enter or sibling is None or sibling <= position:
                    depth += 1
                    if depth > MAX_DEPTH:
                        raise FormatError("DIEs nested too deeply")
                else:
                    position = sibling
        return found[::-1]

    def _inlined(self, attributes: Attributes) -> Inlined:
        def number(attribute: int) -> Optional[int]:
            value = attributes.get(attribute)
            return value[1] if value is not None else None

        return Inlined(
            self.function_name(attributes),
            number(AT_CALL_FILE),
            number(AT_CALL_LINE),
            number(AT_CALL_COLUMN),
        )

    def function_name(self, attributes: Attributes) -> Optional[str]:
        """A function DIE's name: its own, or that of its origin or declaration."""
        unit: Unit = self
        for _ in range(8):
            name = unit.text(attributes.get(AT_NAME))
            if name is not None:
                return name
            reference = attributes.get(AT_ABSTRACT_ORIGIN) or attributes.get(AT_SPECIFICATION)
            if reference is None:
                break
            form, target = reference
            if form == 0x10:  # ref_addr: in any unit
                unit = unit.dwarf.containing_unit(target)
                target -= unit.offset
            elif not 0x11 <= form <= 0x15:
                break
            if not unit.first <= target < len(unit.data):
                break
            attributes = unit.attributes(target)[1]
        return None


# Operands of DW_RLE_*: x an address index, a an address, u a number.
_RANGE_OPERANDS: dict[int, str] = {1: "x", 2: "xx", 3: "xu", 4: "uu", 5: "a", 6: "aa", 7: "au"}
