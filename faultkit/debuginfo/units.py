"""Units of .debug_info and their entries (DWARF 5, 7.5)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from faultkit.code import FormatError
from faultkit.debuginfo import constants as c
from faultkit.debuginfo.abbreviations import (
    BLOCK,
    BLOCK1,
    BLOCK2,
    BLOCK4,
    LEB,
    SIZES,
    STRING,
    Abbreviation,
    Abbreviations,
)  # fmt: skip
from faultkit.debuginfo.leb import sleb, uleb
from faultkit.debuginfo.sections import SUPPLEMENT, Section, Sections
from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


UT_COMPILE, UT_TYPE, UT_PARTIAL, UT_SKELETON, UT_SPLIT_COMPILE, UT_SPLIT_TYPE = range(1, 7)
MAX_UNITS = 1 << 20

_u16 = struct.Struct("<H").unpack_from
_u32 = struct.Struct("<I").unpack_from
_u64 = struct.Struct("<Q").unpack_from

Value: TypeAlias = "int | str | bytes | None"


class Header(NamedTuple):
    """A unit's header; offsets are those in .debug_info, [offset, end) the whole unit."""

    offset: int
    end: int
    version: int
    kind: int
    abbreviations: int
    size: int  # bytes of the header: where the unit's first entry is


class Entry(NamedTuple):
    """A debugging information entry: where it is in its unit, where the next one begins, and its
    attributes' values by name, each with its form."""

    at: int
    after: int
    abbreviation: Abbreviation
    values: dict[int, tuple[int, Value]]
    unit: Unit

    def number(self, name: int) -> int | None:
        """An attribute's value if it is a number."""
        found = self.values.get(name)
        return found[1] if found is not None and isinstance(found[1], int) else None

    def text(self, name: int) -> str | None:
        """An attribute's value if it is a string."""
        found = self.values.get(name)
        return found[1] if found is not None and isinstance(found[1], str) else None


def read_header(info: Section, offset: int) -> Header:
    """The header of the unit at `offset`.  Raises FormatError for what is none."""
    data = info.read(offset, offset + 24)
    if len(data) < 11:
        raise FormatError("a unit that is cut short")
    length, version = struct.unpack_from("<IH", data)
    if length >= 0xFFFFFFF0:
        raise FormatError("64-bit DWARF, which is not supported")
    if version >= 5:
        kind, address_size, abbreviations = struct.unpack_from("<BBI", data, 6)
        size = 12
        if kind in (UT_SKELETON, UT_SPLIT_COMPILE):
            size += 8
        elif kind in (UT_TYPE, UT_SPLIT_TYPE):
            size += 12
    else:
        abbreviations, address_size = struct.unpack_from("<IB", data, 6)
        kind, size = UT_COMPILE, 11
    end = offset + 4 + length
    if not 2 <= version <= 5 or address_size != 8 or end <= offset + size or end > info.size:
        raise FormatError("a unit that is broken")
    return Header(offset, end, version, kind, abbreviations, size)


def headers(info: Section) -> Iterator[Header]:
    """The headers of all units, up to the first that is broken."""
    offset = 0
    for _ in range(MAX_UNITS):
        if offset >= info.size:
            return
        try:
            header = read_header(info, offset)
        except FormatError:
            return
        yield header
        offset = header.end


class Unit:
    """One unit.  Positions in it count from its start; methods raise FormatError, LookupError or
    struct.error for what is broken."""

    def __init__(self, sections: Sections, header: Header, root_only: bool = False) -> None:
        """`root_only` reads no more than the first entry needs."""
        self.sections = sections
        self.header = header
        self.version = header.version
        info = sections.need(".debug_info")
        end = min(header.end, header.offset + 4096) if root_only else header.end
        self.data = info.read(header.offset, end)
        self.abbreviations = Abbreviations(sections.need(".debug_abbrev"), header.abbreviations)
        self._bases: dict[int, int] = {}
        self.root = self.entry(header.size)
        for name in (c.AT_STR_OFFSETS_BASE, c.AT_ADDR_BASE, c.AT_RNGLISTS_BASE):
            self._bases[name] = self.root.number(name) or 0
        if any(isinstance(value, _Later) for _, value in self.root.values.values()):
            self.root = self.entry(header.size)
        self.low = self.root.number(c.AT_LOW_PC) or 0
        # Finds the unit of a place in .debug_info, and the position there.
        self.elsewhere: Callable[[int], tuple[Unit, int]] = _nowhere

    @property
    def base(self) -> int:
        """The place where it begins, as Sections has it."""
        return self.sections.base + self.header.offset

    def place_of(self, form: int, value: Value) -> int | None:
        """The place that a reference leads to, whatever unit that is in; None for what is none."""
        if not isinstance(value, int):
            return None
        if form in (c.FORM_REF1, c.FORM_REF2, c.FORM_REF4, c.FORM_REF8, c.FORM_REF_UDATA):
            return self.base + value
        if form == c.FORM_REF_ADDR:
            return self.sections.base + value
        if form in (c.FORM_GNU_REF_ALT, c.FORM_REF_SUP4, c.FORM_REF_SUP8):
            return SUPPLEMENT + value
        return self.sections.signed(value) if form == c.FORM_REF_SIG8 else None

    def reach(self, place: int) -> Entry:
        """The entry at a place, in this unit or another one."""
        at = place - self.base
        if 0 <= at < len(self.data):
            return self.entry(at)
        unit, at = self.elsewhere(place)
        return unit.entry(at)

    @property
    def lines_offset(self) -> int | None:
        """Where in .debug_line the unit's line number program is."""
        return self.root.number(c.AT_STMT_LIST)

    def entry(self, at: int) -> Entry:
        """The entry at a position; raises FormatError at the null entry that ends siblings."""
        code, position = uleb(self.data, at)
        abbreviation = self.abbreviations[code]
        values: dict[int, tuple[int, Value]] = {}
        for name, form, implicit in abbreviation.attributes:
            if form == c.FORM_IMPLICIT_CONST:
                values[name] = form, implicit
            else:
                value, position = self._value(form, position)
                values[name] = form, value
        return Entry(at, position, abbreviation, values, self)

    def _value(self, form: int, at: int) -> tuple[Value, int]:
        """(the value of a form at a position, where it ends); None for what other files hold.
        References within the unit are positions in it."""
        data = self.data
        size = SIZES.get(form)
        if size is not None:
            if at + size > len(data):
                raise FormatError("an entry that is cut short")
            after = at + size
            number = int.from_bytes(data[at:after], "little")
            if form == c.FORM_STRP:
                return self.sections.need(".debug_str").string(number), after
            if form == c.FORM_LINE_STRP:
                return self.sections.need(".debug_line_str").string(number), after
            if form == c.FORM_FLAG_PRESENT:
                return 1, after
            if form in (c.FORM_STRX1, c.FORM_STRX2, c.FORM_STRX3, c.FORM_STRX4):
                return self._indexed_string(number), after
            if form in (c.FORM_ADDRX1, c.FORM_ADDRX2, c.FORM_ADDRX3, c.FORM_ADDRX4):
                return self.indexed_address(number), after
            if form in (c.FORM_STRP_SUP, c.FORM_GNU_STRP_ALT):
                supplement = self.sections.supplement()
                text = supplement.need(".debug_str").string(number) if supplement else None
                return text, after
            return number, after
        if form == c.FORM_SDATA:
            return sleb(data, at)
        if form == c.FORM_STRING:
            end = data.find(b"\0", at)
            if end < 0:
                raise FormatError("a string that does not end")
            return data[at:end].decode("utf-8", "backslashreplace"), end + 1
        if form in (c.FORM_BLOCK1, c.FORM_BLOCK2, c.FORM_BLOCK4, c.FORM_BLOCK, c.FORM_EXPRLOC):
            if form in (c.FORM_BLOCK, c.FORM_EXPRLOC):
                number, at = uleb(data, at)
            else:
                width = {c.FORM_BLOCK1: 1, c.FORM_BLOCK2: 2, c.FORM_BLOCK4: 4}[form]
                number = int.from_bytes(data[at : at + width], "little")
                at += width
            return data[at : at + number], at + number
        number, after = uleb(data, at)
        if form == c.FORM_STRX:
            return self._indexed_string(number), after
        if form == c.FORM_ADDRX:
            return self.indexed_address(number), after
        return number, after

    def _indexed_string(self, index: int) -> Value:
        base = self._bases.get(c.AT_STR_OFFSETS_BASE)
        if base is None:
            return _LATER
        at = base + 4 * index
        offset = self.sections.need(".debug_str_offsets").read(at, at + 4)
        return self.sections.need(".debug_str").string(_u32(offset)[0])

    def indexed_address(self, index: int) -> Value:
        """An address by its number in .debug_addr."""
        base = self._bases.get(c.AT_ADDR_BASE)
        if base is None:
            return _LATER
        at = base + 8 * index
        address: int = _u64(self.sections.need(".debug_addr").read(at, at + 8))[0]
        return address

    def lists_base(self) -> int:
        """Where in .debug_rnglists the unit's table of lists is."""
        return self._bases.get(c.AT_RNGLISTS_BASE, 0)

    def past(self, abbreviation: Abbreviation, at: int) -> int:
        """Where the entry ends whose attributes begin at a position."""
        if abbreviation.size is not None:
            return at + abbreviation.size
        data = self.data
        for before, step in abbreviation.steps:
            at += before
            if step == LEB:
                while data[at] > 127:
                    at += 1
                at += 1
            elif step == STRING:
                at = data.index(b"\0", at) + 1
            elif step == BLOCK:
                size = data[at]
                if size < 128:
                    at += 1 + size
                else:
                    size, at = uleb(data, at)
                    at += size
            elif step == BLOCK1:
                at += 1 + data[at]
            elif step == BLOCK2:
                at += 2 + _u16(data, at)[0]
            elif step == BLOCK4:
                at += 4 + _u32(data, at)[0]
        return at + abbreviation.rest

    def past_tree(self, abbreviation: Abbreviation, at: int) -> int:
        """Where the entry, with all that it holds, ends whose attributes begin at a position."""
        if not abbreviation.children:
            return self.past(abbreviation, at)
        if abbreviation.sibling is not None:
            after: int = _u32(self.data, at + abbreviation.sibling)[0]
            if after <= at:
                raise FormatError("a sibling that comes before")
            return after
        return self.past_children(self.past(abbreviation, at))

    def past_children(self, at: int) -> int:
        """Where the list of siblings that begins at a position ends."""
        data, abbreviations = self.data, self.abbreviations
        depth = 1
        while depth:
            code = data[at]
            at += 1
            if not code:
                depth -= 1
                continue
            if code > 127:
                code, at = uleb(data, at - 1)
            abbreviation = abbreviations[code]
            if abbreviation.children:
                if abbreviation.sibling is not None:
                    after = _u32(data, at + abbreviation.sibling)[0]
                    if after <= at:
                        raise FormatError("a sibling that comes before")
                    at = after
                    continue
                depth += 1
            if abbreviation.size is not None:
                at += abbreviation.size
            else:
                at = self.past(abbreviation, at)
        return at


def _nowhere(place: int) -> tuple[Unit, int]:
    raise FormatError(f"no unit is at {place:#x}")


class _Later(int):
    """A value that is known only when the unit's bases are."""


_LATER = _Later(0)
