"""One file with debug information: from addresses to inline chains."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable

from faultkit.code import FormatError
from faultkit.code.elf import ElfFile, open_elf
from faultkit.debuginfo import constants as c
from faultkit.debuginfo.calls import Site, sites
from faultkit.debuginfo.functions import Call, Functions
from faultkit.debuginfo.linetable import LineTable, Row
from faultkit.debuginfo.progress import tell
from faultkit.debuginfo.ranges import Coverage, ranges_of, read_aranges
from faultkit.debuginfo.sections import SUPPLEMENT, Sections
from faultkit.debuginfo.units import (
    UT_COMPILE,
    UT_PARTIAL,
    UT_SKELETON,
    UT_TYPE,
    Entry,
    Header,
    Unit,
    headers,
    read_header,
)  # fmt: skip
from faultkit.model import SourceLine
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


Chain = tuple[SourceLine, ...]
# From where on code is of which file and line, in order.
Near: TypeAlias = "tuple[tuple[int, str | None, int | None], ...]"

# What a reader of broken debug information raises; FormatError is no ValueError.
BROKEN = (FormatError, LookupError, ValueError, struct.error, OverflowError)
MAX_KEPT = 64  # units
_WITH_CODE = (UT_COMPILE, UT_PARTIAL, UT_SKELETON)
_SPLIT = frozenset((c.AT_DWO_NAME, c.AT_GNU_DWO_NAME))
_ORIGINS = (c.AT_ABSTRACT_ORIGIN, c.AT_SPECIFICATION)


class DebugFile:
    """One ELF file.  Addresses are the file's own; in a relocatable one (a kernel module)
    offset o of section n is at n << sections.PLACE | o."""

    def __init__(self, file: ElfFile, path: str, base: int = 0) -> None:
        """`base` is SUPPLEMENT for a file that another one refers to."""
        self.file = file
        self.path = path
        self.sections = Sections(file, base)
        self.sections.signed = self._signed
        self.sections.supplement = self._supplement_sections
        self._supplement: DebugFile | None = None
        self._sought = False
        self._signatures: dict[int, int] | None = None
        self.near: dict[int, Near] = {}  # the lines around addresses
        self.declared: dict[int, dict[str, int]] = {}  # the lines of the declarations of functions
        self._coverage: Coverage | None = None
        self._rest: Coverage | None = None
        self._told: set[int] = set()
        self._headers: list[Header] | None = None
        self._units: dict[int, tuple[Unit, Functions]] = {}

    @property
    def has_lines(self) -> bool:
        """Whether it holds debug information of its own."""
        found = self.file.sections
        return ".debug_info" in found and ".debug_abbrev" in found

    def chain(self, address: int) -> Chain:
        """The inline chain at a code address, innermost first: for a return address pass it less
        one.  () where nothing is known.  Raises FormatError only if nothing can be read at all,
        as for a compression that is not known, or all that is asked for lies in .dwo files."""
        return self.chains((address,))[address]

    def chains(self, addresses: Iterable[int], around: int = 0) -> dict[int, Chain]:
        """The same of many at once, which is cheaper: each unit is read once.  With `around` the
        lines of the code so many bytes before and behind each address are put into `near`."""
        found: dict[int, Chain] = {}
        by_unit: dict[int, list[int]] = {}
        for address in sorted(set(addresses)):
            found[address] = ()
            try:
                unit = self.unit_at(address)
            except BROKEN as error:
                if isinstance(error, FormatError) and error.remedy:
                    raise
                unit = None
            if unit is not None:
                by_unit.setdefault(unit, []).append(address)
        unreadable: FormatError | None = None
        for number, (offset, wanted) in enumerate(by_unit.items()):
            tell(f"{self.path}: unit {number + 1} of {len(by_unit)}")
            try:
                self._resolve(offset, wanted, found, around)
            except BROKEN as error:
                if isinstance(error, FormatError) and error.remedy:
                    unreadable = error  # other units may be sound, as a Rust program's library
        if unreadable is not None and not any(found.values()):
            raise unreadable
        return found

    def unit_at(self, address: int) -> int | None:
        """The offset of the unit that covers `address`: by .debug_aranges, else (clang and rustc
        write none) by the units' own ranges."""
        if self._coverage is None:
            section = self.sections.get(".debug_aranges")
            if section is not None:
                self._coverage, self._told = read_aranges(section)
            else:
                self._coverage = Coverage([])
        offset = self._coverage.unit(address)
        if offset is not None:
            return offset
        if self._rest is None:
            self._rest = self._cover()
        return self._rest.unit(address)

    def _cover(self) -> Coverage:
        """The ranges of the units that .debug_aranges does not speak of."""
        found = []
        for header in self.headers():
            if header.offset in self._told or header.kind not in _WITH_CODE:
                continue
            try:
                unit = Unit(self.sections, header, root_only=True)
                ranges = ranges_of(unit, unit.root)
            except BROKEN as error:
                if isinstance(error, FormatError) and error.remedy:
                    raise
                continue
            found += [(start, end, header.offset) for start, end in ranges if start]
        return Coverage(found)

    def headers(self) -> list[Header]:
        """The headers of all units."""
        if self._headers is None:
            info = self.sections.get(".debug_info")
            self._headers = list(headers(info)) if info is not None else []
        return self._headers

    def unit(self, offset: int) -> tuple[Unit, Functions]:
        """The unit at an offset, and its functions; may raise any of BROKEN."""
        if offset not in self._units:
            unit = Unit(self.sections, read_header(self.sections.need(".debug_info"), offset))
            if not _SPLIT.isdisjoint(unit.root.values):  # functions are elsewhere, lines are here
                raise FormatError(
                    f"{self.path} has its debug information split into .dwo files, not read here",
                    "build without -gsplit-dwarf (CONFIG_DEBUG_INFO_SPLIT)",
                )
            while len(self._units) >= MAX_KEPT:
                del self._units[next(iter(self._units))]
            unit.elsewhere = self._anywhere
            self._units[offset] = unit, Functions(unit)
        return self._units[offset]

    def _resolve(
        self, offset: int, wanted: list[int], found: dict[int, Chain], around: int
    ) -> None:
        """Put the chains of addresses of one unit into `found`."""
        unit, functions = self.unit(offset)
        rows: dict[int, Row] = {}
        table = None
        try:
            table = LineTable(unit)
            every = {a + distance for a in wanted for distance in range(-around, around + 1)}
            rows = table.rows(sorted(every))
            if around:
                self.near.update((a, _lines_near(table, rows, a, around)) for a in wanted)
        except BROKEN:  # names and call lines may be sound all the same
            pass
        for address in wanted:
            calls: list[Call] = []
            try:
                position = functions.at(address)
                if position is not None:
                    calls = functions.chain(position, address)
            except BROKEN:
                pass
            if around:
                self.declared[address] = self._declared(unit, calls)
            place: tuple[int, int, int] | None = rows.get(address)
            chain = []
            for call in reversed(calls):
                chain.append(self._source_line(self.name(unit, call.entry), place, table))
                known = call.file is not None
                place = (call.file or 0, call.line or 0, call.column or 0) if known else None
            if not calls and place is not None:
                chain.append(self._source_line(None, place, table))
            found[address] = tuple(chain)

    def _source_line(
        self, name: str | None, place: tuple[int, int, int] | None, table: LineTable | None
    ) -> SourceLine:
        if place is None or table is None:
            return SourceLine(name, None, None)
        file, line, column = place
        try:
            path = table.path(file)
        except BROKEN:
            path = None
        return SourceLine(name, path, line or None, column or None)

    def _declared(self, unit: Unit, calls: list[Call]) -> dict[str, int]:
        """The lines at which functions are declared, by their names."""
        found = {}
        for call in calls:
            entry = self._named(unit, call.entry)
            name = entry.text(c.AT_NAME) if entry is not None else None
            line = entry.number(c.AT_DECL_LINE) if entry is not None else None
            if name is not None and line:
                found[name] = line
        return found

    def name(self, unit: Unit, entry: Entry) -> str | None:
        """A function's name: its own, or that of its origin or declaration."""
        named = self._named(unit, entry)
        return named.text(c.AT_NAME) if named is not None else None

    def _named(self, unit: Unit, entry: Entry) -> Entry | None:
        """The entry that has a function's name."""
        for _ in range(8):
            if entry.text(c.AT_NAME) is not None:
                return entry
            attribute = next((a for a in _ORIGINS if a in entry.values), None)
            found = self._referred(unit, entry, attribute)
            if found is None:
                return None
            unit, entry = found
        return None

    def _referred(
        self, unit: Unit, entry: Entry, attribute: int | None
    ) -> tuple[Unit, Entry] | None:
        """The entry that an attribute refers to, and its unit."""
        place = unit.place_of(*entry.values.get(attribute or 0, (0, None)))
        try:
            found = unit.reach(place) if place is not None else None
        except BROKEN:
            return None
        return (found.unit, found) if found is not None else None

    def callee(self, return_address: int) -> str | None:
        """The function that a call before `return_address` calls, by name; None for one through a
        pointer, and where nothing is known."""
        for unit, site in self._sites(return_address - 1):
            if site.return_address == return_address and not site.tail:
                return self._called(unit, site)
        return None

    def tail_calls(self, address: int) -> set[str]:
        """The functions that the one at `address` may end with a jump to."""
        names = {self._called(unit, site) for unit, site in self._sites(address) if site.tail}
        return {name for name in names if name is not None}

    def _sites(self, address: int) -> list[tuple[Unit, Site]]:
        """The calls of the function that covers `address`."""
        try:
            offset = self.unit_at(address)
            if offset is None:
                return []
            unit, functions = self.unit(offset)
            position = functions.at(address)
            return [(unit, each) for each in sites(unit, position)] if position is not None else []
        except BROKEN:
            return []

    def _called(self, unit: Unit, site: Site) -> str | None:
        found = self._referred(unit, site.entry, site.origin)
        return self.name(*found) if found is not None else None

    def _anywhere(self, place: int) -> tuple[Unit, int]:
        """(the unit that holds a place in .debug_info, of this file or the supplementary one, the
        position in it)."""
        offset = place - self.sections.base
        if offset >= SUPPLEMENT:
            self._supplement_sections()
            if self._supplement is None:
                raise FormatError("the supplementary file is not here")
            return self._supplement._anywhere(place)
        known = self.headers()
        starts = [header.offset for header in known]
        header = known[bisect_right(starts, offset) - 1]
        return self.unit(header.offset)[0], offset - header.offset

    def _supplement_sections(self) -> Sections | None:
        """The sections of the file that this one and others share; None if it is not here."""
        if self._supplement is None and not self._sought and not self.sections.base:
            from faultkit.debuginfo.supplement import find_supplement

            self._sought = True
            found = find_supplement(self.file, self.path)
            if found is not None:
                self._supplement = DebugFile(*found, SUPPLEMENT)
        return self._supplement.sections if self._supplement is not None else None

    def _signed(self, signature: int) -> int | None:
        """The place of the type that has a signature (DWARF 5, 7.5.1.3); None if it is not in
        .debug_info."""
        if self._signatures is None:
            self._signatures = {}
            for header in self.headers():
                if header.kind == UT_TYPE:
                    data = self.sections.need(".debug_info").read(header.offset, header.offset + 24)
                    number, at = struct.unpack_from("<QI", data, 12)
                    self._signatures[number] = self.sections.base + header.offset + at
        return self._signatures.get(signature)


def _lines_near(table: LineTable, rows: dict[int, Row], address: int, around: int) -> Near:
    found = []
    last: object = None
    for place in range(address - around, address + around + 1):
        row = rows.get(place)
        told = None if row is None else row[:2]
        if told != last:
            last = told
            path = table.path(row.file) if row is not None else None
            found.append((place, path, row.line or None if row is not None else None))
    return tuple(found)


def open_debug_file(path: str) -> DebugFile:
    """The file at `path`.  Raises FaultkitError if it can't be read or is no ELF file of x86-64."""
    file = open_elf(path)
    if file is None:
        raise FaultkitError(
            f"{path} can't be read, or is no ELF file for x86-64", "give a vmlinux or .ko file"
        )
    return DebugFile(file, path)
