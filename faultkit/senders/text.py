"""The code of a vmlinux: its functions by name and address, and their bytes."""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property

from faultkit.code.elf import SHF_EXECINSTR, SHT_NOBITS, ElfFile, FileBytes, open_elf
from faultkit.code.symbols import full_table
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, ReadError

# Suffixes of parts that gcc and clang move away from a function, without a beginning of their own
_COLD = re.compile(r"\.cold(?:\.\d+)?$")


class Function(NamedTuple):
    """A function's symbol: [start, end) in the file's own addresses."""

    start: int
    end: int
    name: str

    @property
    def base(self) -> str:
        """The name without the suffixes of compiler-made clones and parts."""
        return self.name.partition(".")[0]

    @property
    def is_part(self) -> bool:
        """Whether it is the cold part of another function."""
        return _COLD.search(self.name) is not None


class KernelText:
    """The functions of a vmlinux.  Addresses are those of the file, without KASLR."""

    def __init__(self, path: str) -> None:
        """Raises FaultkitError where `path` is no vmlinux with symbols."""
        file = open_elf(path)
        if file is None:
            raise FaultkitError(
                f"{path} is no ELF file of x86-64 that can be read",
                "name the kernel's vmlinux, uncompressed and with symbols",
            )
        self.path = path
        self.file: ElfFile = file
        self.build_id = file.build_id
        self.size = file.data.size if isinstance(file.data, FileBytes) else len(file.data)
        self._sections = [
            section
            for section in file.sections.values()
            if section.type != SHT_NOBITS and section.address
        ]
        self._symbols = full_table(file)
        found = self._symbols.functions() if self._symbols is not None else []
        self.functions = [Function(*function) for function in found]
        self._starts = [function.start for function in self.functions]
        if not self.functions:
            raise FaultkitError(
                f"{path} has no symbols of functions", "name the vmlinux of a debug package"
            )
        self._data: dict[int, bytes] = {}

    @cached_property
    def named(self) -> dict[str, list[Function]]:
        """All functions of each name: static ones share names."""
        found: dict[str, list[Function]] = {}
        for function in self.functions:
            found.setdefault(function.name, []).append(function)
        return found

    @cached_property
    def parts(self) -> dict[str, list[Function]]:
        """The cold parts, by the name of the functions that they may belong to."""
        found: dict[str, list[Function]] = {}
        for function in self.functions:
            if function.is_part:
                found.setdefault(_COLD.sub("", function.name), []).append(function)
        return found

    def at(self, address: int) -> Function | None:
        """The function that covers `address`."""
        place = bisect_right(self._starts, address) - 1
        for index in range(place, max(place - 4, -1), -1):
            if address < self.functions[index].end:
                return self.functions[index]
        return None

    def starting(self, address: int) -> Function | None:
        """The function that starts at `address`."""
        found = self.at(address)
        return found if found is not None and found.start == address else None

    def code(self) -> Iterator[tuple[int, bytes]]:
        """(address, bytes) of each section with code."""
        for section in self._sections:
            if section.flags & SHF_EXECINSTR:
                yield section.address, self._bytes(section.address, section.offset, section.size)

    def _bytes(self, address: int, offset: int, size: int) -> bytes:
        if address not in self._data:
            self._data[address] = self.file.data[offset : offset + size]
        return self._data[address]

    @cached_property
    def hidden(self) -> dict[int, list[int]]:
        """Where code leads that its instructions don't show: static branches, which are NOPs until
        they are patched, and fixups of instructions that may fault; by the instruction's address.

        struct jump_entry (include/linux/jump_label.h) and struct exception_table_entry
        (arch/x86/include/asm/extable.h): distances from where they stand.
        """
        found: dict[int, list[int]] = {}
        for name, size in (("__jump_table", 16), ("__ex_table", 12)):
            start, data = self._table(name)
            for place in range(0, len(data) - size + 1, size):
                code, target = struct.unpack_from("<ii", data, place)
                at = start + place
                found.setdefault(at + code, []).append(at + 4 + target)
        return found

    def _table(self, name: str) -> tuple[int, bytes]:
        if self._symbols is None:
            return 0, b""
        start, end = (self._symbols.label(f"__{edge}_{name}") for edge in ("start", "stop"))
        if start is None or end is None or not 0 < end - start < 16 << 20:
            return 0, b""
        try:
            return start, self.read(start, end - start)
        except ReadError:
            return 0, b""

    @cached_property
    def release(self) -> str | None:
        """The kernel's release, as its banner says it (init/version-timestamp.c)."""
        start = self._symbols.label("linux_banner") if self._symbols is not None else None
        if start is None:
            return None
        try:
            words = self.read(start, 128).split(b"\0")[0].split()
        except ReadError:
            return None
        if words[:2] != [b"Linux", b"version"] or len(words) < 3:
            return None
        return words[2].decode("ascii", "replace")

    def read(self, address: int, size: int) -> bytes:
        """What the file has at `address`.  Raises ReadError."""
        for section in self._sections:
            if section.address <= address and address + size <= section.address + section.size:
                data = self._bytes(section.address, section.offset, section.size)
                place = address - section.address
                if len(data) >= place + size:
                    return data[place : place + size]
        raise ReadError(address, size)
