"""Debug sections by pieces: unpacked where compressed, relocated where the file needs it."""

from __future__ import annotations

import struct
from collections.abc import Callable

from faultkit.code import FormatError
from faultkit.code.elf import SHF_COMPRESSED, SHT_NOBITS, Buffer, ElfFile
from faultkit.debuginfo.inflate import inflate

ET_REL = 1
SHF_ALLOC = 2
R_X86_64_NONE, R_X86_64_64, R_X86_64_32, R_X86_64_32S = 0, 1, 10, 11
PLACE = 32  # a relocatable file's section number n lies at n << PLACE
LONGEST = 1 << 20  # bytes of a string
WINDOW = 1 << 16
SAMPLES = 200  # relocations that are looked at to tell whether all are in order
_ENTRY = 24  # bytes of an Elf64_Rela
_WORDS = (R_X86_64_32, R_X86_64_32S)

SUPPLEMENT = 1 << 40  # where .debug_info of the file that others share is said to begin

_pack_u32 = struct.Struct("<I").pack_into
_pack_u64 = struct.Struct("<Q").pack_into


class Section:
    """One section's content by [start, stop)."""

    def __init__(self, data: Buffer, offset: int, size: int) -> None:
        self._data = data
        self._offset = offset
        self.size = size
        self._window = (0, b"")

    def read(self, start: int, stop: int) -> bytes:
        """The bytes, fewer at the section's end."""
        if start < 0 or start >= self.size:
            return b""
        return self._data[self._offset + start : self._offset + min(stop, self.size)]

    def near(self, at: int, size: int) -> tuple[bytes, int]:
        """(some bytes that hold `size` from `at` on, where in them that is): for many small
        pieces that lie close together."""
        start, data = self._window
        if not (start <= at and at + size <= start + len(data)):
            start, data = at, self.read(at, at + max(size, WINDOW))
            self._window = start, data
        return data, at - start

    def string(self, at: int) -> str:
        """The string at an offset.  Raises FormatError if there is none."""
        for size in (256, 4096, LONGEST):
            data = self.read(at, at + size)
            end = data.find(b"\0")
            if end >= 0:
                return data[:end].decode("utf-8", "backslashreplace")
        raise FormatError("a string that does not end")


class Relocated(Section):
    """A section of a relocatable file: each piece is relocated when it is read."""

    def __init__(self, section: Section, table: Section, values: SymbolValues) -> None:
        super().__init__(section._data, section._offset, section.size)
        self._table = table
        self._count = table.size // _ENTRY
        self._values = values
        if not self._seems_ordered():
            self._order()

    def _seems_ordered(self) -> bool:
        """Whether the relocations are in the order of their places, as assemblers and linkers
        leave them, though ELF does not ask for it: by some hundred of them."""
        step = max(self._count // SAMPLES, 1)
        pairs = [
            (self._place(index), self._place(index + 1))
            for index in range(0, self._count - 1, step)
        ]
        flat = [place for pair in pairs for place in pair]
        return flat == sorted(flat)

    def _order(self) -> None:
        data = self._table.read(0, self._count * _ENTRY)
        entries = [data[at : at + _ENTRY] for at in range(0, len(data), _ENTRY)]
        entries.sort(key=lambda entry: int.from_bytes(entry[:8], "little"))
        data = b"".join(entries)
        self._table = Section(data, 0, len(data))

    def _place(self, index: int) -> int:
        return int.from_bytes(self._table.read(_ENTRY * index, _ENTRY * index + 8), "little")

    def _first(self, place: int) -> int:
        """The number of the first relocation at or behind a place."""
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._place(middle) < place:
                low = middle + 1
            else:
                high = middle
        return low

    def read(self, start: int, stop: int) -> bytes:
        data = bytearray(super().read(start, stop))
        first, last = self._first(start), self._first(start + len(data))
        values = self._values
        entries = struct.iter_unpack("<QIIq", self._table.read(_ENTRY * first, _ENTRY * last))
        try:
            for place, kind, symbol, addend in entries:
                if kind in _WORDS:
                    _pack_u32(data, place - start, values[symbol] + addend & 0xFFFFFFFF)
                elif kind == R_X86_64_64:
                    value = values[symbol] + addend & 0xFFFFFFFFFFFFFFFF
                    _pack_u64(data, place - start, value)
        except struct.error:  # the last one reaches beyond the piece
            pass
        return bytes(data)


class SymbolValues(dict[int, int]):
    """The values of a relocatable file's symbols by number, each section at its place."""

    def __init__(self, file: ElfFile, placed: frozenset[int]) -> None:
        super().__init__()
        table = file.sections.get(".symtab")
        self._symbols = b""
        if table is not None:
            self._symbols = file.data[table.offset : table.offset + table.size]
        self._placed = placed

    def __missing__(self, number: int) -> int:
        if 24 * number + 24 > len(self._symbols):
            raise FormatError("a relocation against a symbol that does not exist")
        section, value = struct.unpack_from("<6xHQ", self._symbols, 24 * number)
        self[number] = value + (section << PLACE if section in self._placed else 0)
        return self[number]


class Sections:
    """The sections of one file that debug information needs.

    A place in .debug_info is its offset there, and in the supplementary file SUPPLEMENT more, its
    `base`.  `signed` finds the place of the type with a signature, `supplement` the sections of
    the supplementary file.
    """

    def __init__(self, file: ElfFile, base: int = 0) -> None:
        self.file = file
        self.base = base
        self.signed: Callable[[int], int | None] = lambda signature: None
        self.supplement: Callable[[], Sections | None] = lambda: None
        self.relocatable = file.header.type == ET_REL
        self._values: SymbolValues | None = None
        self._open: dict[str, Section | None] = {}

    @property
    def placed(self) -> frozenset[int]:
        """The numbers of a relocatable file's sections that are loaded."""
        sections = self.file.sections.values()
        return frozenset(each.number for each in sections if each.flags & SHF_ALLOC)

    def get(self, name: str) -> Section | None:
        """The section, None if there is none.  Raises FormatError if it can't be unpacked."""
        if name not in self._open:
            self._open[name] = self._make(name)
        return self._open[name]

    def need(self, name: str) -> Section:
        """The section.  Raises FormatError if there is none, or it can't be unpacked."""
        section = self.get(name)
        if section is None:
            raise FormatError(f"debug information without its section {name}")
        return section

    def _make(self, name: str) -> Section | None:
        section = self._plain(name)
        if section is None or not self.relocatable:
            return section
        table = self._plain(".rela" + name)
        if table is None:
            return section
        if self._values is None:
            self._values = SymbolValues(self.file, self.placed)
        return Relocated(section, table, self._values)

    def _plain(self, name: str) -> Section | None:
        found = self.file.sections.get(name)
        if found is None or found.type == SHT_NOBITS:
            return None
        if not found.flags & SHF_COMPRESSED:
            return Section(self.file.data, found.offset, found.size)
        data = inflate(self.file.data, found.offset, found.size, name)
        return Section(data, 0, len(data) if isinstance(data, bytes) else data.size)
