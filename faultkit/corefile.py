"""What a core file says besides its threads: mappings, and whether it is whole."""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Sequence

from faultkit.record import NamedTuple
from faultkit.target import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


PT_LOAD, PT_NOTE = 1, 4
PF_W = 2
NT_FILE = 0x46494C45  # "FILE": include/uapi/linux/elf.h
MOST_HEADERS = 1 << 17
MOST_NOTES = 1 << 26  # bytes of notes that are looked at


class Segment(NamedTuple):
    """A program header, reduced to what is used here."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int


def segments(file: Any) -> list[Segment]:
    """The program headers of a 64-bit little-endian ELF file; [] where it is none, or damaged."""
    header = file.read(64)
    if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
        return []
    at = int.from_bytes(header[32:40], "little")
    size, count = struct.unpack_from("<2H", header, 54)
    if count == 0xFFFF:  # PN_XNUM: the number is in the first section header's sh_info
        file.seek(int.from_bytes(header[40:48], "little"))
        section = file.read(64)
        count = int.from_bytes(section[44:48], "little") if len(section) == 64 else 0
    if size != 56 or count > MOST_HEADERS:
        return []
    file.seek(at)
    table = file.read(size * count)
    found = []
    for place in range(0, len(table) - 55, 56):
        kind, flags, offset, address, _, file_size, memory_size, _ = struct.unpack_from(
            "<2I6Q", table, place
        )
        found.append(Segment(kind, flags, offset, address, file_size, memory_size))
    return found


def core_mappings(path: str) -> Sequence[Mapping]:
    """The mappings that a core tells of: file mappings by its NT_FILE note (fs/binfmt_elf.c,
    fill_files_note), the rest by its PT_LOAD headers.  Whether one is shared, it does not say.
    [] where the file can't be read."""
    try:
        with open(path, "rb") as file:
            all_segments = segments(file)
            files: dict[int, tuple[int, int, str]] = {}
            for segment in all_segments:
                if segment.type == PT_NOTE:
                    file.seek(segment.offset)
                    notes = file.read(min(segment.file_size, MOST_NOTES))
                    files.update(_files(notes))
    except OSError:
        return []
    mappings = []
    for segment in all_segments:
        if segment.type == PT_LOAD and segment.memory_size:
            start, end = segment.address, segment.address + segment.memory_size
            _, offset, name = files.pop(start, (end, 0, ""))
            perms = "".join(
                letter if segment.flags & bit else "-"
                for letter, bit in (("r", 4), ("w", 2), ("x", 1))
            )
            mappings.append(Mapping(start, end, offset, name, perms))
    mappings += [Mapping(start, *rest) for start, rest in files.items()]
    return sorted(mappings)


def _files(notes: bytes) -> dict[int, tuple[int, int, str]]:
    """NT_FILE's table: start -> (end, offset in bytes, path)."""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<3I", notes, at)
        content = at + 12 + (name_size + 3 & ~3)
        if kind == NT_FILE:
            return _file_table(notes[content : content + size])
        at = content + (size + 3 & ~3)
    return {}


def _file_table(table: bytes) -> dict[int, tuple[int, int, str]]:
    if len(table) < 16:
        return {}
    count, page = struct.unpack_from("<2Q", table)
    if count > len(table) // 24:
        return {}
    names = table[16 + 24 * count :].split(b"\0")
    found = {}
    for number in range(min(count, len(names))):
        start, end, offset = struct.unpack_from("<3Q", table, 16 + 24 * number)
        found[start] = (end, offset * page, names[number].decode("utf-8", "replace"))
    return found


class Gaps:
    """The writable memory that a core lacks: left out (core(5), coredump_filter), or cut off.

    A debugger reads there what the mapped file holds, as it was when the program started.
    """

    def __init__(self, path: str) -> None:
        pieces: list[tuple[int, int]] = []
        try:
            with open(path, "rb") as file:
                found = segments(file)
            size = os.path.getsize(path)
        except OSError:
            found, size = [], 0
        for segment in found:
            if segment.type == PT_LOAD and segment.flags & PF_W:
                held = min(segment.file_size, max(size - segment.offset, 0))
                if held < segment.memory_size:
                    end = segment.address + segment.memory_size
                    pieces.append((segment.address + held, end))
        self._pieces = sorted(pieces)

    def touch(self, address: int, size: int) -> bool:
        """Whether a part of [address, address + size) is lacking."""
        last = bisect_left(self._pieces, (address + size, 0)) - 1
        return last >= 0 and address < self._pieces[last][1]


def core_limits(path: str) -> Sequence[str]:
    """What this core lacks, each in a line with the remedy."""
    try:
        with open(path, "rb") as file:
            wanted = max((s.offset + s.file_size for s in segments(file)), default=0)
        present = os.path.getsize(path)
    except OSError:
        return []
    if present < wanted:
        return [
            f"the core is truncated: {present} of {wanted} bytes; make a new one with enough "
            "disk space, `ulimit -c unlimited` and no RLIMIT_FSIZE"
        ]
    return []
