"""Address ranges of entries, and of units by .debug_aranges (DWARF 5, 2.17 and 6.1.2)."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right

from faultkit.code import FormatError
from faultkit.debuginfo import constants as c
from faultkit.debuginfo.leb import uleb
from faultkit.debuginfo.sections import Section
from faultkit.debuginfo.units import Entry, Unit

MAX_RANGES = 1 << 16  # of one list
_BASE = 0xFFFFFFFFFFFFFFFF

Range = tuple[int, int]  # [start, end)


def ranges_of(unit: Unit, entry: Entry) -> list[Range]:
    """The code of an entry; [] if it has none."""
    if c.AT_RANGES in entry.values:
        form, value = entry.values[c.AT_RANGES]
        if not isinstance(value, int):
            return []
        if unit.version < 5:
            return _old_list(unit, value)
        if form == c.FORM_RNGLISTX:
            base = unit.lists_base()
            at = base + 4 * value
            offset = unit.sections.need(".debug_rnglists").read(at, at + 4)
            value = base + int.from_bytes(offset, "little")
        return _list(unit, value)
    low, high = entry.number(c.AT_LOW_PC), entry.number(c.AT_HIGH_PC)
    if low is None or high is None:
        return []
    form = entry.values[c.AT_HIGH_PC][0]
    absolute = form in (c.FORM_ADDR, c.FORM_ADDRX, c.FORM_ADDRX1, c.FORM_ADDRX2, c.FORM_ADDRX3,
                        c.FORM_ADDRX4)  # fmt: skip
    return [(low, high if absolute else low + high)]


def _old_list(unit: Unit, at: int) -> list[Range]:
    """A list of .debug_ranges (DWARF 4, 2.17.3)."""
    section = unit.sections.need(".debug_ranges")
    base = unit.low
    found = []
    for _ in range(MAX_RANGES):
        data, position = section.near(at, 16)
        start, end = struct.unpack_from("<QQ", data, position)
        at += 16
        if start == _BASE:
            base = end
        elif not start and not end:
            break
        else:
            found.append((base + start, base + end))
    return found


def _list(unit: Unit, at: int) -> list[Range]:
    """A list of .debug_rnglists (DWARF 5, 2.17.3 and 7.25)."""
    section = unit.sections.need(".debug_rnglists")
    base = unit.low
    found = []
    for _ in range(MAX_RANGES):
        data, position = section.near(at, 32)
        began = position
        kind = data[position]
        position += 1
        start = end = 0
        if kind == 0:  # DW_RLE_end_of_list
            break
        if kind == 1:  # base_addressx
            index, position = uleb(data, position)
            base = _address(unit, index)
        elif kind in (2, 3):  # startx_endx, startx_length
            index, position = uleb(data, position)
            start = _address(unit, index)
            index, position = uleb(data, position)
            end = _address(unit, index) if kind == 2 else start + index
        elif kind == 4:  # offset_pair
            start, position = uleb(data, position)
            end, position = uleb(data, position)
            start, end = base + start, base + end
        elif kind == 5:  # base_address
            base = struct.unpack_from("<Q", data, position)[0]
            position += 8
        elif kind == 6:  # start_end
            start, end = struct.unpack_from("<QQ", data, position)
            position += 16
        elif kind == 7:  # start_length
            start = struct.unpack_from("<Q", data, position)[0]
            end, position = uleb(data, position + 8)
            end += start
        else:
            raise FormatError("a list of ranges that is broken")
        at += position - began
        if start < end:
            found.append((start, end))
    return found


def _address(unit: Unit, index: int) -> int:
    value = unit.indexed_address(index)
    return value if isinstance(value, int) else 0


class Coverage:
    """Which unit covers an address: ranges, each with the offset of its unit."""

    def __init__(self, found: list[tuple[int, int, int]]) -> None:
        found.sort()
        self._starts = array("Q", [start for start, _, _ in found])
        self._ends = array("Q", [end for _, end, _ in found])
        self._units = array("Q", [unit for _, _, unit in found])

    def unit(self, address: int) -> int | None:
        """The offset of the unit that covers `address`."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._ends[index]:
            return self._units[index]
        return None

    def units(self) -> set[int]:
        """The offsets of all units that it knows."""
        return set(self._units)


def read_aranges(section: Section) -> tuple[Coverage, set[int]]:
    """(what .debug_aranges says, the units that it speaks of), up to where it is broken."""
    data = section.read(0, section.size)
    found = []
    units = set()
    at = 0
    while at + 16 <= len(data):
        length, version, unit, address_size, segment_size = struct.unpack_from("<IHIBB", data, at)
        end = at + 4 + length
        if version != 2 or address_size != 8 or segment_size or end > len(data):
            break
        units.add(unit)
        table = data[at + 16 : end]  # tuples are aligned to twice an address's size
        for start, size in struct.iter_unpack("<QQ", table[: len(table) & -16]):
            if size:
                found.append((start, start + size & _BASE, unit))
        at = end
    return Coverage(found), units
