"""The code of a kernel module's file (.ko): relocatable, so it is given addresses, and its calls of
the kernel's functions are made to lead somewhere, as the module loader does."""

import os
import struct
from bisect import bisect_left
from collections.abc import Iterator

from faultkit.code.elf import SHF_EXECINSTR, SHT_NOBITS, Section, open_elf
from faultkit.senders.text import Function, KernelText
from faultkit.target import FaultkitError, ReadError

BASE = 0xFFFF_FFFF_C000_0000  # where sections are put
OUTSIDE = 0xFFFF_FFFF_B000_0000  # where functions of others are put
ET_REL, STT_FUNC, SHT_RELA = 1, 2, 4
# x86-64 psABI, table 4.9: distances, and addresses
_DISTANCES, _ADDRESSES = (2, 4), (10, 11)  # R_X86_64_PC32, PLT32; 32, 32S
MOST_SYMBOLS = 1_000_000
MOST_RELOCATIONS = 2_000_000


def module_name(path: str) -> str:
    """The module's name, by its file's."""
    return os.path.basename(path).partition(".ko")[0].replace("-", "_")


class ModuleText(KernelText):
    """The functions of a module; `outside` has where each function of others was put."""

    def __init__(self, path: str) -> None:
        """Raises FaultkitError where `path` is no module with code and symbols."""
        file = open_elf(path)
        if file is None or file.header.type != ET_REL:
            raise FaultkitError(
                f"{path} is no module that can be read", "name a NAME.ko, uncompressed"
            )
        self.path, self.file = path, file
        self._symbols = None
        self._placed: list[tuple[int, Section]] = []
        self._bytes_of: dict[int, bytearray] = {}
        where: dict[int, int] = {}
        at = BASE
        for section in file.sections.values():
            if section.flags & SHF_EXECINSTR and section.type != SHT_NOBITS and section.size:
                data = file.data[section.offset : section.offset + section.size]
                self._placed.append((at, section))
                self._bytes_of[at] = bytearray(data)
                where[section.number] = at
                at += (len(data) + 0xFFFF) & ~0xFFF
        self.outside: dict[str, int] = {}
        values = self._read_symbols(where)
        self.functions.sort()
        self._starts = [function.start for function in self.functions]
        for start, section in self._placed:
            self._relocate(section, start, values)

    def _read_symbols(self, where: dict[int, int]) -> dict[int, int]:
        """Fills `functions`; the address of each symbol by its number."""
        self.functions = []
        table = self.file.section_data(".symtab")
        names = self.file.section_data(".strtab")
        values: dict[int, int] = {}
        whole = min(len(table) - len(table) % 24, MOST_SYMBOLS * 24)
        for number, entry in enumerate(struct.iter_unpack("<IBBHQQ", table[:whole])):
            name_at, info, _, section, value, size = entry
            end = names.find(b"\0", name_at)
            name = names[name_at : max(end, name_at)].decode("utf-8", "replace")
            if not section and name:
                if name not in self.outside:
                    self.outside[name] = OUTSIDE + 16 * len(self.outside)
                    start = self.outside[name]
                    self.functions.append(Function(start, start + 1, name))
                values[number] = self.outside[name]
            elif section in where:
                values[number] = where[section] + value
                if info & 15 == STT_FUNC and size:
                    start = values[number]
                    self.functions.append(Function(start, start + size, name))
        return values

    def _relocate(self, section: Section, start: int, values: dict[int, int]) -> None:
        data = self._bytes_of[start]
        for table in self.file.sections.values():
            if table.type != SHT_RELA:
                continue
            name = next((n for n, s in self.file.sections.items() if s is table), "")
            if self.file.sections.get(name.removeprefix(".rela")) is not section:
                continue
            entries = self.file.data[table.offset : table.offset + table.size]
            whole = min(len(entries) - len(entries) % 24, MOST_RELOCATIONS * 24)
            for place, info, addend in struct.iter_unpack("<QQq", entries[:whole]):
                symbol, kind = info >> 32, info & 0xFFFFFFFF
                if symbol not in values or place + 4 > len(data):
                    continue
                value = values[symbol] + addend
                if kind in _DISTANCES:
                    value -= start + place
                elif kind not in _ADDRESSES:
                    continue
                data[place : place + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")

    @property
    def hidden(self) -> dict[int, list[int]]:
        """Nothing: static branches and fixups of modules are not followed."""
        return {}

    def code(self) -> Iterator[tuple[int, bytes]]:
        """(address, bytes) of each section with code."""
        for start, _ in self._placed:
            yield start, bytes(self._bytes_of[start])

    def read(self, address: int, size: int) -> bytes:
        """Code at `address`.  Raises ReadError."""
        index = bisect_left([start for start, _ in self._placed], address + 1) - 1
        if index >= 0:
            start = self._placed[index][0]
            data = bytes(self._bytes_of[start][address - start : address - start + size])
            if len(data) == size:
                return data
        raise ReadError(address, size)

    def place(self, address: int) -> tuple[int, int]:
        """(number of the section, offset in it) of an address."""
        for start, section in reversed(self._placed):
            if start <= address:
                return section.number, address - start
        return 0, 0
