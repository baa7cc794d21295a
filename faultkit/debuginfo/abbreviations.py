"""Tables of abbreviations (DWARF 5, 7.5.3), of which only what is used is unpacked."""

from __future__ import annotations

import re

from faultkit.code import FormatError
from faultkit.debuginfo import constants as c
from faultkit.debuginfo.leb import sleb, uleb
from faultkit.debuginfo.sections import Section
from faultkit.record import NamedTuple

_PIECE = 1 << 14
_NUMBER = rb"[\x80-\xff]*[\x01-\x7f]"
_ATTRIBUTE = (
    rb"%(number)s(?:\x21[\x80-\xff]*[\x00-\x7f]|[\x01-\x20\x22-\x7f]|[\x80-\xff]+[\x01-\x7f])"
    % {b"number": _NUMBER}
)
_DECLARATION = re.compile(
    rb"(%(number)s)(%(number)s)([\x00\x01])((?:%(attribute)s)*)\x00\x00"
    % {b"number": _NUMBER, b"attribute": _ATTRIBUTE},
    re.DOTALL,
)

SIZES = {
    c.FORM_ADDR: 8, c.FORM_DATA1: 1, c.FORM_DATA2: 2, c.FORM_DATA4: 4, c.FORM_DATA8: 8,
    c.FORM_DATA16: 16, c.FORM_FLAG: 1, c.FORM_FLAG_PRESENT: 0, c.FORM_IMPLICIT_CONST: 0,
    c.FORM_STRP: 4, c.FORM_LINE_STRP: 4, c.FORM_SEC_OFFSET: 4, c.FORM_REF_ADDR: 4,
    c.FORM_REF1: 1, c.FORM_REF2: 2, c.FORM_REF4: 4, c.FORM_REF8: 8, c.FORM_REF_SIG8: 8,
    c.FORM_REF_SUP4: 4, c.FORM_REF_SUP8: 8, c.FORM_STRP_SUP: 4, c.FORM_STRX1: 1,
    c.FORM_STRX2: 2, c.FORM_STRX3: 3, c.FORM_STRX4: 4, c.FORM_ADDRX1: 1, c.FORM_ADDRX2: 2,
    c.FORM_ADDRX3: 3, c.FORM_ADDRX4: 4, c.FORM_GNU_REF_ALT: 4, c.FORM_GNU_STRP_ALT: 4,
}  # fmt: skip

# How the other forms are stepped over.
LEB, STRING, BLOCK, BLOCK1, BLOCK2, BLOCK4 = range(6)
_STEPS = {
    c.FORM_UDATA: LEB, c.FORM_SDATA: LEB, c.FORM_REF_UDATA: LEB, c.FORM_STRX: LEB,
    c.FORM_ADDRX: LEB, c.FORM_LOCLISTX: LEB, c.FORM_RNGLISTX: LEB, c.FORM_STRING: STRING,
    c.FORM_EXPRLOC: BLOCK, c.FORM_BLOCK: BLOCK, c.FORM_BLOCK1: BLOCK1, c.FORM_BLOCK2: BLOCK2,
    c.FORM_BLOCK4: BLOCK4,
}  # fmt: skip


class Abbreviation(NamedTuple):
    """What a debugging information entry of one code consists of.

    `attributes` are (name, form, implicit value); `size` is that of all attributes where it is
    fixed, else `steps` are (bytes before, what to step over), and `rest` the bytes after them.
    `sibling` is where in the entry the offset of its sibling lies, if that is fixed.
    """

    tag: int
    children: bool
    attributes: tuple[tuple[int, int, int], ...]
    names: frozenset[int]
    size: int | None
    steps: tuple[tuple[int, int], ...]
    rest: int
    sibling: int | None


class Abbreviations(dict[int, Abbreviation]):
    """A unit's abbreviations by their codes; a lookup raises FormatError where there is none."""

    def __init__(self, section: Section, offset: int) -> None:
        super().__init__()
        self._section = section
        self._start = offset
        self._data = section.read(offset, offset + _PIECE)
        self._at = 0
        self._raw: dict[int, re.Match[bytes]] = {}

    def __missing__(self, code: int) -> Abbreviation:
        while code not in self._raw:
            match = _DECLARATION.match(self._data, self._at)
            if match is None:
                if not self._more():
                    raise FormatError(f"no abbreviation {code}")
                continue
            self._at = match.end()
            self._raw[uleb(match[1], 0)[0]] = match
        self[code] = _unpack(self._raw[code])
        return self[code]

    def _more(self) -> bool:
        """Read on, if there is more of the table."""
        if self._data[self._at : self._at + 1] == b"\0":
            return False
        have = len(self._data)
        self._data += self._section.read(self._start + have, self._start + 2 * have)
        return len(self._data) > have


def _unpack(match: re.Match[bytes]) -> Abbreviation:
    data = match[4]
    at = 0
    attributes = []
    steps: list[tuple[int, int]] = []
    sibling = None
    run = 0
    while at < len(data):
        name, at = uleb(data, at)
        form, at = uleb(data, at)
        implicit = 0
        if form == c.FORM_IMPLICIT_CONST:
            implicit, at = sleb(data, at)
        attributes.append((name, form, implicit))
        if name == c.AT_SIBLING and form == c.FORM_REF4 and not steps:
            sibling = run
        size = SIZES.get(form)
        if size is not None:
            run += size
        elif form in _STEPS:
            steps.append((run, _STEPS[form]))
            run = 0
        else:
            raise FormatError(f"attributes of a form that is not known ({form:#x})")
    return Abbreviation(
        uleb(match[2], 0)[0],
        match[3] == b"\1",
        tuple(attributes),
        frozenset(name for name, _, _ in attributes),
        None if steps else run,
        tuple(steps),
        run,
        sibling,
    )
