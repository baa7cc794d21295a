"""A function's bytes as its file has them, to tell what was patched since."""

from __future__ import annotations

import os
import struct

from faultkit.code.elf import SHF_EXECINSTR, SHT_NOBITS, ElfFile, Section, open_elf
from faultkit.debuginfo.lookup import Lookup, build_id_of
from faultkit.debuginfo.sections import PLACE
from faultkit.decode.patches import Original, relocations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MAX_TABLE = 1 << 28
_WIDE = frozenset((1, 24))  # R_X86_64_64, R_X86_64_PC64: eight bytes, all others four


Relocated: TypeAlias = "dict[int, tuple[int, str | None]]"


class CodeOf:
    """The code in one file; addresses are as in faultkit.debuginfo: section << PLACE | offset in
    a module."""

    def __init__(self, file: ElfFile) -> None:
        self.file = file
        self.relocatable = file.header.type == 1
        self._code = [
            section
            for section in file.sections.values()
            if section.flags & SHF_EXECINSTR and section.type != SHT_NOBITS
        ]
        self._names = {section.number: name for name, section in file.sections.items()}
        self._tables: dict[int, bytes] = {}
        self._symbols: bytes | None = None
        self._strings = b""

    def at(self, place: int, size: int) -> tuple[bytes, Relocated] | None:
        """(bytes, what loading fills in: offset -> (size, symbol's name)) of the code there; None
        if the file holds none, as one with debug information alone."""
        for section in self._code:
            offset = self._offset(section, place)
            if offset is not None and 0 <= offset < section.size:
                start = section.offset + offset
                data = self.file.data[start : start + min(size, section.size - offset)]
                return data, self._relocated(section, offset, len(data))
        return None

    def _offset(self, section: Section, place: int) -> int | None:
        if not self.relocatable:
            return place - section.address
        return place & (1 << PLACE) - 1 if place >> PLACE == section.number else None

    def _relocated(self, section: Section, offset: int, size: int) -> Relocated:
        if not self.relocatable:
            return {}
        if section.number not in self._tables:
            table = self.file.sections.get(".rela" + self._names[section.number])
            good = table is not None and table.size <= MAX_TABLE
            self._tables[section.number] = (
                self.file.data[table.offset : table.offset + table.size] if table and good else b""
            )
        return {
            place - offset: (8 if kind in _WIDE else 4, self._name(symbol))
            for place, kind, symbol, _ in relocations(
                self._tables[section.number], offset, offset + size
            )
        }

    def _name(self, number: int) -> str | None:
        if self._symbols is None:
            self._symbols = self.file.section_data(".symtab")
            self._strings = self.file.section_data(".strtab")
        if 24 * number + 24 > len(self._symbols):
            return None
        (at,) = struct.unpack_from("<I", self._symbols, 24 * number)
        end = self._strings.find(b"\0", at)
        return self._strings[at:end].decode("ascii", "replace") or None if at else None


def code_of(lookup: Lookup) -> CodeOf | None:
    """The code of the file whose debug information `lookup` is: its own, or that of the stripped
    file which lies beside it or where modules are."""
    known: dict[str, CodeOf | None] = lookup.__dict__.setdefault("_code_of", {})
    if "" not in known:
        known[""] = _open(lookup)
    return known[""]


def _open(lookup: Lookup) -> CodeOf | None:
    own = CodeOf(lookup.file)
    if own._code:
        return own
    if not lookup.path.endswith(".debug"):
        return None
    stripped = lookup.path[: -len(".debug")]
    name = os.path.basename(stripped)
    folder = os.path.dirname(lookup.path)
    for path in (stripped, stripped.replace("/usr/lib/debug", "", 1),
                 os.path.join(os.path.dirname(folder), "modules", name)):  # fmt: skip
        file = open_elf(path)
        if file is not None and lookup.build_id and build_id_of(file) == lookup.build_id:
            return CodeOf(file)
    return None


def original(code: CodeOf, place: int, start: int, size: int, slide: int) -> Original | None:
    """What the file has at `place`, which is at `start` in the target."""
    found = code.at(place, size)
    return Original(start, found[0], found[1], slide) if found is not None else None
