"""Debug sections by pieces: unpacked where compressed, relocated where the file needs it."""

import struct
from array import array
from bisect import bisect_left
from typing import Optional

from faultkit.code import FormatError
from faultkit.code.elf import SHF_COMPRESSED, SHT_NOBITS, Buffer, ElfFile
from faultkit.debuginfo.inflate import inflate

ET_REL = 1
SHF_ALLOC = 2
R_X86_64_NONE, R_X86_64_64, R_X86_64_32, R_X86_64_32S = 0, 1, 10, 11
PLACE = 32  # a relocatable file's section number n lies at n << PLACE
LONGEST = 1 << 20  # bytes of a string
WINDOW = 1 << 16
_WORDS = (R_X86_64_32, R_X86_64_32S)

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

    def __init__(self, section: Section, relocations: bytes, values: "SymbolValues") -> None:
        super().__init__(section._data, section._offset, section.size)
        self._relocations = relocations
        self._values = values
        count = len(relocations) // 24
        column = memoryview(relocations)[: count * 24].cast("Q")[::3]
        self._places = array("Q", column.tobytes())
        ordered = sorted(self._places)
        if ordered != self._places.tolist():
            order = sorted(range(count), key=self._places.__getitem__)
            self._relocations = b"".join(relocations[24 * i : 24 * i + 24] for i in order)
            self._places = array("Q", ordered)

    def read(self, start: int, stop: int) -> bytes:
        data = bytearray(super().read(start, stop))
        first = bisect_left(self._places, start)
        last = bisect_left(self._places, start + len(data))
        values = self._values
        entries = struct.iter_unpack("<QIIq", self._relocations[24 * first : 24 * last])
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
    """The sections of one file that debug information needs."""

    def __init__(self, file: ElfFile) -> None:
        self.file = file
        self.relocatable = file.header.type == ET_REL
        self._values: Optional[SymbolValues] = None
        self._open: dict[str, Optional[Section]] = {}

    @property
    def placed(self) -> frozenset[int]:
        """The numbers of a relocatable file's sections that are loaded."""
        sections = self.file.sections.values()
        return frozenset(each.number for each in sections if each.flags & SHF_ALLOC)

    def get(self, name: str) -> Optional[Section]:
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

    def _make(self, name: str) -> Optional[Section]:
        section = self._plain(name)
        if section is None or not self.relocatable:
            return section
        table = self._plain(".rela" + name)
        if table is None:
            return section
        if self._values is None:
            self._values = SymbolValues(self.file, self.placed)
        return Relocated(section, table.read(0, table.size), self._values)

    def _plain(self, name: str) -> Optional[Section]:
        found = self.file.sections.get(name)
        if found is None or found.type == SHT_NOBITS:
            return None
        if not found.flags & SHF_COMPRESSED:
            return Section(self.file.data, found.offset, found.size)
        data = inflate(self.file.data, found.offset, found.size, name)
        return Section(data, 0, len(data) if isinstance(data, bytes) else data.size)
