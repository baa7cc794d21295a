"""The functions of a unit, and the chain of inlined ones around an address."""

from __future__ import annotations

import struct
from bisect import bisect_right

from faultkit.code import FormatError
from faultkit.debuginfo import constants as c
from faultkit.debuginfo.leb import uleb
from faultkit.debuginfo.ranges import ranges_of
from faultkit.debuginfo.units import Entry, Unit
from faultkit.record import NamedTuple

MAX_DEPTH = 200

INNER = frozenset((c.TAG_LEXICAL_BLOCK, c.TAG_INLINED_SUBROUTINE, c.TAG_TRY_BLOCK,
                    c.TAG_CATCH_BLOCK))  # fmt: skip
_SCOPES = frozenset((c.TAG_NAMESPACE, c.TAG_MODULE))
_CODE = frozenset((c.AT_LOW_PC, c.AT_RANGES))

_u32 = struct.Struct("<I").unpack_from


class Call(NamedTuple):
    """A function of an inline chain, and where it was called from: the number of a file of the
    unit's line table, line and column; None for the outermost."""

    entry: Entry
    file: int | None = None
    line: int | None = None
    column: int | None = None


class Functions:
    """The functions of one unit by address."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._shallow: list[tuple[int, int, int]] | None = None
        self._deep: list[tuple[int, int, int]] | None = None

    def at(self, address: int) -> int | None:
        """The position of the function that covers `address`.

        Namespaces are looked into, whatever else holds functions (classes, blocks, other
        functions) only if that was in vain.
        """
        if self._shallow is None:
            self._shallow = self._scan(deep=False)
        found = _covering(self._shallow, address)
        if found is None:
            if self._deep is None:
                self._deep = self._scan(deep=True)
            found = _covering(self._deep, address)
        return found

    def _scan(self, deep: bool) -> list[tuple[int, int, int]]:
        """(start, end, position) of the functions, sorted."""
        unit = self._unit
        data, abbreviations = unit.data, unit.abbreviations
        found: list[tuple[int, int, int]] = []
        if not unit.root.abbreviation.children:
            return found
        at = unit.root.after
        size = len(data)
        depth = 1
        while at < size:
            start = at
            code = data[at]
            at += 1
            if not code:
                depth -= 1
                if not depth:
                    break
                continue
            if code > 127:
                code, at = uleb(data, start)
            abbreviation = abbreviations[code]
            tag = abbreviation.tag
            if tag == c.TAG_SUBPROGRAM and not _CODE.isdisjoint(abbreviation.names):
                for low, high in ranges_of(unit, unit.entry(start)):
                    found.append((low, high, start))
            if not abbreviation.children:
                if abbreviation.size is not None:
                    at += abbreviation.size
                else:
                    at = unit.past(abbreviation, at)
            elif deep or tag in _SCOPES:
                at = unit.past(abbreviation, at)
                depth += 1
            elif abbreviation.sibling is not None:
                after = _u32(data, at + abbreviation.sibling)[0]
                if after <= at:
                    raise FormatError("a sibling that comes before")
                at = after
            else:
                at = unit.past_children(unit.past(abbreviation, at))
        found.sort()
        return found

    def chain(self, position: int, address: int) -> list[Call]:
        """The functions around `address`, outermost first, in the one at a position."""
        unit = self._unit
        data, abbreviations = unit.data, unit.abbreviations
        entry = unit.entry(position)
        calls = [Call(entry)]
        for _ in range(MAX_DEPTH):
            if not entry.abbreviation.children:
                break
            at = entry.after
            inner = None
            while inner is None:
                code, after = uleb(data, at)
                if not code:
                    return calls
                abbreviation = abbreviations[code]
                if abbreviation.tag in INNER and not _CODE.isdisjoint(abbreviation.names):
                    candidate = unit.entry(at)
                    if any(low <= address < high for low, high in ranges_of(unit, candidate)):
                        inner = candidate
                        break
                at = unit.past_tree(abbreviation, after)
            entry = inner
            if entry.abbreviation.tag == c.TAG_INLINED_SUBROUTINE:
                calls.append(
                    Call(
                        entry,
                        entry.number(c.AT_CALL_FILE),
                        entry.number(c.AT_CALL_LINE),
                        entry.number(c.AT_CALL_COLUMN),
                    )
                )
        return calls


def _covering(functions: list[tuple[int, int, int]], address: int) -> int | None:
    """The position of the innermost function: the last to begin that reaches to `address`."""
    index = bisect_right(functions, (address, 1 << 64, 0)) - 1
    for start, end, position in reversed(functions[max(0, index - 15) : index + 1]):
        if start <= address < end:
            return position
    return None
