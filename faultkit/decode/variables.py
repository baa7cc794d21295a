"""The arguments and locals that are in scope at an address, by debug information.

Entries are read from the function's own tree only: its blocks and inlined calls around the
address (DWARF 5, sections 3.3 to 3.5 and 4.1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from faultkit.code import FormatError
from faultkit.debuginfo import constants as c
from faultkit.debuginfo.leb import uleb
from faultkit.debuginfo.ranges import ranges_of
from faultkit.debuginfo.units import Entry, Unit
from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


TAG_FORMAL_PARAMETER, TAG_VARIABLE, TAG_CALL_SITE_PARAMETER = 0x05, 0x34, 0x49
TAG_GNU_CALL_SITE_PARAMETER = 0x410A
AT_LOCATION, AT_CONST_VALUE, AT_DECLARATION, AT_FRAME_BASE = 0x02, 0x1C, 0x3C, 0x40
AT_TYPE, AT_DECL_LINE, AT_ARTIFICIAL, AT_LOCLISTS_BASE = 0x49, 0x3B, 0x34, 0x8C
AT_CALL_VALUE, AT_CALL_TARGET, AT_CALL_ORIGIN = 0x7E, 0x83, 0x7F
AT_GNU_CALL_SITE_VALUE, AT_GNU_CALL_SITE_TARGET = 0x2111, 0x2113
FORM_LOCLISTX = 0x22
MASK = (1 << 64) - 1
MOST = 512  # variables of one frame
MAX_DEPTH = 64
MAX_LIST = 1 << 14  # entries of one location list

_INNER = (c.TAG_LEXICAL_BLOCK, c.TAG_TRY_BLOCK, c.TAG_CATCH_BLOCK, c.TAG_INLINED_SUBROUTINE)
Constant: TypeAlias = "int | bytes"


class Variable(NamedTuple):
    """A variable in scope.  `type_at` is its type's place, as Unit.reach() takes it, None for none.

    It has a `constant`, or `location`, the expression that holds at the address; where both are
    None it was optimized out there.  `function` is the inlined function that it belongs to,
    None for the frame's own.
    """

    name: str
    is_argument: bool
    type_at: int | None
    location: bytes | None
    constant: Constant | None
    function: str | None
    elsewhere: bool  # it has a location, but not at this address


class Scope(NamedTuple):
    """A function at an address: its frame base, and its variables from the innermost inlined
    function out."""

    entry: Entry
    frame_base: bytes | None
    variables: list[Variable]
    declared: dict[str, int]  # function -> line of its declaration


def scope_at(unit: Unit, function: int, place: int) -> Scope:
    """What is in scope at `place` (the file's own address) in the function whose entry is at
    position `function` of the unit.  Raises what Unit does for what is broken."""
    entry = unit.entry(function)
    base = _expression(unit, entry, AT_FRAME_BASE, place)
    levels: list[list[Variable]] = [[]]
    declared: dict[str, int] = {}
    _declared(entry, declared)
    at = entry.after if entry.abbreviation.children else None
    inlined: str | None = None
    for _ in range(MAX_DEPTH):
        if at is None:
            break
        following: Entry | None = None
        for child in children(unit, at):
            tag = child.abbreviation.tag
            if tag in (TAG_FORMAL_PARAMETER, TAG_VARIABLE):
                variable = _variable(unit, child, place, inlined)
                if variable is not None and sum(map(len, levels)) < MOST:
                    levels[-1].append(variable)
            elif following is None and tag in _INNER and _covers(unit, child, place):
                following = child
        if following is None:
            break
        if following.abbreviation.tag == c.TAG_INLINED_SUBROUTINE:
            inlined = _declared(following, declared)
            levels.append([])
        at = following.after if following.abbreviation.children else None
    found = [variable for level in reversed(levels) for variable in level]
    return Scope(entry, base[0], found, declared)


def children(unit: Unit, at: int) -> Iterator[Entry]:
    """The entries of the list of siblings that begins at a position."""
    data = unit.data
    while True:
        code, after = uleb(data, at)
        if not code:
            return
        abbreviation = unit.abbreviations[code]
        yield unit.entry(at)
        at = unit.past_tree(abbreviation, after)


def _covers(unit: Unit, entry: Entry, place: int) -> bool:
    return any(start <= place < end for start, end in ranges_of(unit, entry))


def origin_of(entry: Entry) -> Entry | None:
    """The entry that this one is an instance of, or whose declaration it completes."""
    for name in (c.AT_ABSTRACT_ORIGIN, c.AT_SPECIFICATION):
        if name in entry.values:
            place = entry.unit.place_of(*entry.values[name])
            return entry.unit.reach(place) if place is not None else None
    return None


def type_of(entry: Entry) -> int | None:
    """The place of the type of a variable or member, or of what a pointer, array, typedef or
    qualified type is of; None for none."""
    found = inherited(entry, AT_TYPE)
    return found[0].unit.place_of(*found[0].values[AT_TYPE]) if found is not None else None


def inherited(entry: Entry, name: int) -> tuple[Entry, object] | None:
    """(who has it, value) of an attribute of the entry, or of what it is an instance of."""
    current: Entry | None = entry
    for _ in range(8):
        if current is None:
            return None
        if name in current.values:
            return current, current.values[name][1]
        current = origin_of(current)
    return None


def _declared(entry: Entry, declared: dict[str, int]) -> str | None:
    """The function's name; its line is noted."""
    name = inherited(entry, c.AT_NAME)
    line = inherited(entry, AT_DECL_LINE)
    if name is None or not isinstance(name[1], str):
        return None
    if line is not None and isinstance(line[1], int):
        declared[name[1]] = line[1]
    return name[1]


def _variable(unit: Unit, entry: Entry, place: int, function: str | None) -> Variable | None:
    name = inherited(entry, c.AT_NAME)
    if name is None or not isinstance(name[1], str) or AT_DECLARATION in entry.values:
        return None
    type_at = type_of(entry)
    constant = inherited(entry, AT_CONST_VALUE)
    value: Constant | None = None
    if constant is not None and isinstance(constant[1], (int, bytes)):
        value = constant[1]
    elif constant is not None and isinstance(constant[1], str):
        value = constant[1].encode("utf-8", "replace") + b"\0"
    location, elsewhere = _expression(unit, entry, AT_LOCATION, place)
    if location is None and not elsewhere and value is None:
        origin = origin_of(entry)  # a static variable of an inlined function
        if origin is not None:
            location, elsewhere = _expression(origin.unit, origin, AT_LOCATION, place)
    is_argument = entry.abbreviation.tag == TAG_FORMAL_PARAMETER
    return Variable(name[1], is_argument, type_at, location, value, function, elsewhere)


def _expression(unit: Unit, entry: Entry, name: int, place: int) -> tuple[bytes | None, bool]:
    """(the expression that an attribute has at `place`, whether it only has others elsewhere)."""
    found = entry.values.get(name)
    if found is None:
        return None, False
    form, value = found
    if isinstance(value, bytes):
        return value, False
    if not isinstance(value, int):
        return None, False
    if unit.version >= 5:
        if form == FORM_LOCLISTX:
            base = unit.root.number(AT_LOCLISTS_BASE) or 12
            at = base + 4 * value
            offset = unit.sections.need(".debug_loclists").read(at, at + 4)
            value = base + int.from_bytes(offset, "little")
        location = _listed(unit, value, place)
    else:
        location = _old_listed(unit, value, place)
    return location, location is None


def _listed(unit: Unit, at: int, place: int) -> bytes | None:
    """The expression for `place` in a list of .debug_loclists (DWARF 5, 7.7.3)."""
    section = unit.sections.need(".debug_loclists")
    base = unit.low
    default: bytes | None = None
    for _ in range(MAX_LIST):
        data, position = section.near(at, 64)
        began = position
        kind = data[position]
        position += 1
        start = end = 0
        if kind == 0:
            return default
        if kind == 1:
            index, position = uleb(data, position)
            base = _indexed(unit, index)
        elif kind in (2, 3):
            index, position = uleb(data, position)
            start = _indexed(unit, index)
            index, position = uleb(data, position)
            end = _indexed(unit, index) if kind == 2 else start + index
        elif kind == 4:
            start, position = uleb(data, position)
            end, position = uleb(data, position)
            start, end = base + start, base + end
        elif kind == 6:
            base = struct.unpack_from("<Q", data, position)[0]
            position += 8
        elif kind == 7:
            start, end = struct.unpack_from("<QQ", data, position)
            position += 16
        elif kind == 8:
            start = struct.unpack_from("<Q", data, position)[0]
            end, position = uleb(data, position + 8)
            end += start
        elif kind == 9:  # GNU's view pair
            _, position = uleb(data, position)
            _, position = uleb(data, position)
        elif kind != 5:
            raise FormatError("a list of locations that is broken")
        if kind in (2, 3, 4, 5, 7, 8):
            size, position = uleb(data, position)
            after = at + position - began
            if kind == 5 or start <= place < end:
                block = section.read(after, after + size)
                if kind != 5:
                    return block
                default = block
            at = after + size
        else:
            at += position - began
    raise FormatError("a list of locations that does not end")


def _old_listed(unit: Unit, at: int, place: int) -> bytes | None:
    """The expression for `place` in a list of .debug_loc (DWARF 4, 2.6.2)."""
    section = unit.sections.need(".debug_loc")
    base = unit.low
    for _ in range(MAX_LIST):
        data, position = section.near(at, 18)
        start, end = struct.unpack_from("<QQ", data, position)
        at += 16
        if start == MASK:
            base = end
        elif not start and not end:
            return None
        else:
            size = struct.unpack_from("<H", data, position + 16)[0]
            if base + start <= place < base + end:
                return section.read(at + 2, at + 2 + size)
            at += 2 + size
    raise FormatError("a list of locations that does not end")


def _indexed(unit: Unit, index: int) -> int:
    value = unit.indexed_address(index)
    return value if isinstance(value, int) else 0


class CallSite(NamedTuple):
    """A call in a function: `values` are the expressions of what it passes, by the number of the
    register; `target` that of the function called where the call is indirect."""

    values: dict[int, bytes]
    target: bytes | None


def call_site(unit: Unit, function: int, returns_to: int) -> CallSite | None:
    """What is known of the call that returns to `returns_to` (the file's own address), in the
    function whose entry is at a position; None if debug information does not have it."""
    place = returns_to - 1
    at: int | None = unit.entry(function).after
    for _ in range(MAX_DEPTH):
        if at is None:
            return None
        following: Entry | None = None
        for child in children(unit, at):
            tag = child.abbreviation.tag
            if tag in (c.TAG_CALL_SITE, c.TAG_GNU_CALL_SITE):
                returns = child.number(c.AT_CALL_RETURN_PC)
                if returns is None:  # DWARF 4: DW_AT_low_pc
                    returns = child.number(c.AT_LOW_PC)
                if returns == returns_to:
                    return _call_site(unit, child)
            elif following is None and tag in _INNER and _covers(unit, child, place):
                following = child
        if following is None or not following.abbreviation.children:
            return None
        at = following.after
    return None


def _call_site(unit: Unit, entry: Entry) -> CallSite:
    values: dict[int, bytes] = {}
    target = entry.values.get(AT_CALL_TARGET) or entry.values.get(AT_GNU_CALL_SITE_TARGET)
    if entry.abbreviation.children:
        for child in children(unit, entry.after):
            if child.abbreviation.tag not in (
                TAG_CALL_SITE_PARAMETER, TAG_GNU_CALL_SITE_PARAMETER,
            ):  # fmt: skip
                continue
            location = child.values.get(AT_LOCATION)
            value = child.values.get(AT_CALL_VALUE) or child.values.get(AT_GNU_CALL_SITE_VALUE)
            if location is None or value is None:
                continue
            where, what = location[1], value[1]
            in_register = isinstance(where, bytes) and len(where) == 1 and 0x50 <= where[0] <= 0x6F
            if in_register and isinstance(where, bytes) and isinstance(what, bytes):
                values[where[0] - 0x50] = what
    block = target[1] if target is not None and isinstance(target[1], bytes) else None
    return CallSite(values, block)
