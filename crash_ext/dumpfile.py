"""What a dump file leaves out: what crash says of it, and whether its end is missing."""

from __future__ import annotations

import os
import re
import struct

from crash_ext.bridge import Bridge, BridgeError
from faultkit.code.elf import FileBytes, open_elf
from faultkit.record import NamedTuple

# makedumpfile(8), -d: what a level leaves out.  Shared memory, and what is mapped of files, is page
# cache.
CACHE, USER_PAGES = 2 | 4, 8
PAGE_DESCRIPTOR = struct.Struct("<QIIQ")  # diskdump.h, struct page_desc: offset, size, flags


class Dump(NamedTuple):
    """How much of memory a dump holds.  `level` is makedumpfile's, None if the file tells none."""

    level: int | None = None
    incomplete: bool = False
    zero_excluded: bool = False  # what is left out reads as zeros
    running: bool = False  # taken while the kernel ran

    @property
    def user_pages(self) -> bool:
        """Whether user pages are in it, as far as is known."""
        return self.level is None or not self.level & USER_PAGES

    @property
    def cache(self) -> bool:
        """Whether the page cache is in it, as far as is known."""
        return self.level is None or not self.level & CACHE


def look(bridge: Bridge) -> Dump:
    """What `help -p` and `help -D` say of the dump (main.c, dump_program_context(); diskdump.c,
    __diskdump_memory_dump()), and its file."""
    flags = _text(bridge, "help -p")
    header = _text(bridge, "help -D")
    level = re.search(r"^\s*dump_level: (\d+)", header, re.MULTILINE)
    return Dump(
        int(level[1]) if level else None,
        "INCOMPLETE_DUMP" in flags or _cut_short(bridge.dumpfile),
        "ZERO_EXCLUDED" in header,
        "LIVE_DUMP" in flags,
    )


def _text(bridge: Bridge, command: str) -> str:
    try:
        return bridge.run(command)
    except BridgeError:
        return ""


def _cut_short(path: str | None) -> bool:
    """Whether the file ends before the last page that its headers promise."""
    if not path or not os.path.isfile(path):
        return False
    try:
        file = FileBytes(path)
    except OSError:
        return False
    if file[:8] == b"KDUMP   ":
        return _kdump_end(file) > file.size
    elf = open_elf(path)
    ends = [segment.offset + segment.file_size for segment in elf.segments] if elf else []
    return max(ends, default=0) > file.size


def _kdump_end(file: FileBytes) -> int:
    """Where the last page ends in a compressed kdump (diskdump.h, struct disk_dump_header): page
    descriptors lie in order before the data, and the data of the first one is the first."""
    block, sub_header, bitmaps = struct.unpack("<iii", file[428:440].ljust(12, b"\0"))
    table = int(1 + sub_header + bitmaps) * int(block)
    size = PAGE_DESCRIPTOR.size
    first = file[table : table + size]
    if len(first) < size:
        return table + size
    data = int(PAGE_DESCRIPTOR.unpack(first)[0])
    if data <= table or (data - table) % size:
        return 0
    last = file[data - size : data]
    if len(last) < size:
        return data
    offset, length, _, _ = PAGE_DESCRIPTOR.unpack(last)
    return int(offset + length)
