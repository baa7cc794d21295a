"""The symbol table of a kernel or module, read for a few names or addresses at a time.

Unlike `faultkit.code.symbols` it knows the sizes that the kernel prints, and sorts as little as
it can: a vmlinux has 130,000 symbols, a back trace 60.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable

from faultkit.code.elf import SHF_EXECINSTR
from faultkit.debuginfo.sections import PLACE, Sections
from faultkit.record import NamedTuple

STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC = 0, 2, 10
_KINDS = frozenset((STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC))
MAX_TABLE = 1 << 28  # bytes
MOST_BACK = 64  # symbols without code that may lie between a function's start and an address
NEXT = 6  # symbols behind one that may be the next that the kernel knows

_first = struct.Struct("<IBBH").unpack_from


class Symbol(NamedTuple):
    """A function: its own address, the size that the table gives (0: none), and the distances to
    the symbols behind it: for the kernel, one of these is its size (kernel/kallsyms.c,
    get_symbol_pos()); `last` if it is the last of its section."""

    name: str
    address: int
    size: int
    reaches: tuple[int, ...] = ()
    last: bool = False

    @property
    def reach(self) -> int:
        """How far its name may reach: to its end, and over what follows without a symbol of its
        own; 0 where its end is not known."""
        return max(self.size, min(self.reaches, default=0)) if self.size else 0

    def has_size(self, size: int) -> bool:
        """Whether the kernel would print this size for it."""
        return size == self.size or size in self.reaches or (self.last and size >= self.size)


class Symbols:
    """The code symbols of one file; addresses are the file's own, as DebugFile's."""

    def __init__(self, sections: Sections) -> None:
        self._sections = sections
        file = sections.file
        table = file.sections.get(".symtab")
        strings = None
        if table is not None and table.size <= MAX_TABLE:
            linked = [each for each in file.sections.values() if each.number == table.link]
            strings = linked[0] if linked and linked[0].size <= MAX_TABLE else None
        self._table = self._strings = b""
        if table is not None and strings is not None:
            data = file.data[table.offset : table.offset + table.size]
            self._table = data[: len(data) - len(data) % 24]
            self._strings = file.data[strings.offset : strings.offset + strings.size]
        self._code = {s.number: s for s in file.sections.values() if s.flags & SHF_EXECINSTR}
        self._values: list[int] | None = None
        self._ordered: list[int] = []

    def named(self, names: Iterable[str]) -> dict[str, list[Symbol]]:
        """The functions of each name, by address; [] where there is none."""
        offsets: dict[int, str] = {}
        found: dict[str, dict[int, int]] = {}
        for name in names:
            found[name] = {}
            wanted = name.encode() + b"\0"
            at = self._strings.find(wanted)
            while at >= 0:  # names share tails: every place may be the start of one
                offsets[at] = name
                at = self._strings.find(wanted, at + 1)
        column = memoryview(self._table).cast("I")[::6].tolist() if offsets else []
        for index, offset in enumerate(column):
            if offset in offsets and self._is_code(index):
                found[offsets[offset]].setdefault(self._value(index), index)
        return {
            name: [self._symbol(name, address, by[address]) for address in sorted(by)]
            for name, by in found.items()
        }

    def at(self, addresses: Iterable[int]) -> dict[int, Symbol | None]:
        """The function that each address is in; None where there is none.

        Of names for the same place, a sized one goes before a bare label, then the one with
        fewest leading underscores.
        """
        found: dict[int, Symbol | None] = {}
        values = self._sorted()
        left = {address: bisect_right(values, address) - 1 for address in addresses}
        for _ in range(MOST_BACK):
            starts: dict[int, list[int]] = {
                values[position]: [] for position in left.values() if position >= 0
            }
            if not starts:
                break
            for index, value in enumerate(self._values or ()):
                if value in starts:
                    starts[value].append(index)
            for address, position in list(left.items()):
                start = values[position] if position >= 0 else 0
                names = [i for i in starts.get(start, ()) if self._is_code(i)]
                if names or position < 0:
                    found[address] = self._best(names, start, address)
                    del left[address]
                else:
                    left[address] = position - 1
        return {address: found.get(address) for address in [*found, *left]}

    def _best(self, indices: list[int], start: int, address: int) -> Symbol | None:
        candidates = []
        for index in indices:
            name = self._name(index)
            symbol = self._symbol(name, start, index)
            underscores = len(name) - len(name.lstrip("_"))
            candidates.append(((not symbol.size, underscores, name), symbol))
        if not candidates:
            return None
        symbol = min(candidates)[1]
        return symbol if address - start < max(symbol.size, *symbol.reaches) else None

    def _symbol(self, name: str, address: int, index: int) -> Symbol:
        size = struct.unpack_from("<Q", self._table, 24 * index + 16)[0]
        values = self._sorted()
        section = self._code[_first(self._table, 24 * index)[3]]
        end = self._end(section.number)
        position = bisect_right(values, address)
        reaches: list[int] = []
        while len(reaches) < NEXT and position < len(values) and values[position] <= end:
            if not reaches or reaches[-1] != values[position] - address:
                reaches.append(values[position] - address)
            position += 1
        last = address + size >= end or not any(address + reach < end for reach in reaches)
        if end - address not in reaches:
            reaches.append(end - address)
        return Symbol(name, address, size, tuple(reaches), last)

    def _end(self, number: int) -> int:
        """The end of a section."""
        section = self._code[number]
        place = number << PLACE if self._sections.relocatable else section.address
        return place + section.size

    def _is_code(self, index: int) -> bool:
        name, kind, _, section = _first(self._table, 24 * index)
        return kind & 15 in _KINDS and section in self._code and name != 0

    def _value(self, index: int) -> int:
        section, value = struct.unpack_from("<6xHQ", self._table, 24 * index)
        return int(value) + (section << PLACE if self._sections.relocatable else 0)

    def _name(self, index: int) -> str:
        start = _first(self._table, 24 * index)[0]
        end = self._strings.find(b"\0", start)
        return self._strings[start:end].decode("utf-8", "backslashreplace")

    def _sorted(self) -> list[int]:
        """All symbols' values in order, which may repeat."""
        if self._values is None:
            if self._sections.relocatable:
                self._values = [self._value(index) for index in range(len(self._table) // 24)]
            else:
                self._values = memoryview(self._table).cast("Q")[1::3].tolist()
            self._ordered = sorted(self._values)
        return self._ordered
