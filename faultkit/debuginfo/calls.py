"""Calls that debug information tells of (DWARF 5, 3.4; DWARF 4: GNU's extension of it)."""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.debuginfo import constants as c
from faultkit.debuginfo.functions import INNER
from faultkit.debuginfo.leb import uleb
from faultkit.debuginfo.units import Entry, Unit
from faultkit.record import NamedTuple

MAX_CALLS = 10_000  # of one function
_SITES = frozenset((c.TAG_CALL_SITE, c.TAG_GNU_CALL_SITE))


class Site(NamedTuple):
    """A call: `tail` if it is a jump at the function's end; `origin` is the attribute that names
    the function called, None for a call through a pointer."""

    entry: Entry
    return_address: int | None
    tail: bool
    origin: int | None


def sites(unit: Unit, position: int) -> Iterator[Site]:
    """The calls of the function at a position, in what is inlined there too."""
    pending = [unit.entry(position)]
    count = 0
    while pending:
        parent = pending.pop()
        at = parent.after
        while parent.abbreviation.children:
            code, after = uleb(unit.data, at)
            if not code:
                break
            abbreviation = unit.abbreviations[code]
            if abbreviation.tag in _SITES:
                yield _site(unit.entry(at))
                count += 1
                if count >= MAX_CALLS:
                    return
            elif abbreviation.tag in INNER and abbreviation.children:
                pending.append(unit.entry(at))
            at = unit.past_tree(abbreviation, after)


def _site(entry: Entry) -> Site:
    if entry.abbreviation.tag == c.TAG_GNU_CALL_SITE:
        address, flag, origin = c.AT_LOW_PC, c.AT_GNU_TAIL_CALL, c.AT_ABSTRACT_ORIGIN
    else:
        address, flag, origin = c.AT_CALL_RETURN_PC, c.AT_CALL_TAIL_CALL, c.AT_CALL_ORIGIN
    return Site(
        entry,
        entry.number(address),
        bool(entry.number(flag)),
        origin if origin in entry.values else None,
    )
