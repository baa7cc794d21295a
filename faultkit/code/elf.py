"""The parts of ELF that images need: headers, program headers, sections and notes.

Layouts are those of the System V gABI, chapters 4 and 5, for 64-bit little-endian x86-64 only.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib

from faultkit.code import FormatError
from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from typing_extensions import TypeAlias


PT_LOAD, PT_DYNAMIC, PT_NOTE = 1, 2, 4
PT_GNU_EH_FRAME = 0x6474E550
SHT_NOBITS = 8
SHF_EXECINSTR, SHF_COMPRESSED = 4, 0x800
EM_X86_64 = 62
HEADER_SIZE = 64
MAX_PROGRAM_HEADERS = 256
MAX_SECTIONS = 10_000
MAX_INFLATED = 256 << 20


def _open(path: str, _: int) -> int:
    """Without waiting for somebody at the other end, where it is a FIFO."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


class FileBytes:
    """A regular file's bytes by slice, read when asked for.

    Not a memory map: a file that is cut short under a map kills its reader (SIGBUS).
    """

    def __init__(self, path: str) -> None:
        """Raises OSError when `path` can't be opened or isn't a regular file."""
        # Closed by its own end, which no Ctrl-C can interrupt as it could a __del__ in Python.
        self._file = io.FileIO(path, opener=_open)
        self._fd = self._file.fileno()
        status = os.fstat(self._fd)
        self.size = status.st_size
        self.identity = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self.size)
        try:
            return os.pread(self._fd, stop - start, start) if stop > start else b""
        except OSError:
            return b""

    def stream(self) -> BinaryIO:
        """The same file to read through."""
        return os.fdopen(os.dup(self._fd), "rb")


Buffer: TypeAlias = "bytes | FileBytes"


class Header(NamedTuple):
    """The ELF header's fields that are used; `type` is 2 for ET_EXEC and 3 for ET_DYN."""

    type: int
    entry: int
    program_offset: int
    section_offset: int
    program_count: int
    section_count: int
    names_index: int


class Segment(NamedTuple):
    """One program header; addresses are the file's own, without a load bias."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    size: int


class Section(NamedTuple):
    """One section header; the address is the file's own, without a load bias."""

    number: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


def parse_header(data: bytes) -> Header:
    """The header at the start of `data`; FormatError if it isn't one of an x86-64 ELF file."""
    if len(data) < HEADER_SIZE or data[:6] != b"\x7fELF\x02\x01":
        raise FormatError("not a 64-bit little-endian ELF image")
    kind, machine, _, entry, programs, sections = struct.unpack_from("<HHIQQQ", data, 16)
    if machine != EM_X86_64:
        raise FormatError(f"an image for machine {machine}, not x86-64")
    program_size, program_count, section_size, section_count, names = struct.unpack_from(
        "<HHHHH", data, 54
    )
    if (program_count and program_size != 56) or program_count > MAX_PROGRAM_HEADERS:
        raise FormatError("unusable program headers")
    if section_size != 64 or section_count > MAX_SECTIONS:
        section_count = 0
    return Header(kind, entry, programs, sections, program_count, section_count, names)


def parse_segments(table: bytes) -> tuple[Segment, ...]:
    """Program headers from the raw table."""
    whole = len(table) - len(table) % 56
    return tuple(
        Segment(kind, flags, offset, address, file_size, size)
        for kind, flags, offset, address, _, file_size, size, _ in struct.iter_unpack(
            "<IIQQQQQQ", table[:whole]
        )
    )


def parse_notes(data: bytes, limit: int = 64) -> list[tuple[bytes, int, bytes]]:
    """(name, type, description) of each note, at most `limit`; a broken one ends the list."""
    notes: list[tuple[bytes, int, bytes]] = []
    position = 0
    while position + 12 <= len(data) and len(notes) < limit:
        name_size, size, kind = struct.unpack_from("<III", data, position)
        name = position + 12
        description = name + (name_size + 3 & ~3)
        if description + size > len(data):
            break
        notes.append((data[name : name + name_size], kind, data[description : description + size]))
        position = description + (size + 3 & ~3)
    return notes


def build_id(notes: list[tuple[bytes, int, bytes]]) -> str | None:
    """The NT_GNU_BUILD_ID among notes, in hex."""
    for name, kind, description in notes:
        if name == b"GNU\0" and kind == 3 and 4 <= len(description) <= 64:
            return description.hex()
    return None


class ElfFile:
    """An ELF file's bytes, and its sections by name (the first of each name)."""

    def __init__(self, data: Buffer) -> None:
        """Raises FormatError when `data` isn't an x86-64 ELF file."""
        self.data = data
        self.header = parse_header(data[:HEADER_SIZE])
        start = self.header.program_offset
        self.segments = parse_segments(data[start : start + 56 * self.header.program_count])
        self._sections: dict[str, Section] | None = None

    def stream(self) -> BinaryIO:
        """The file to read through from its start."""
        return self.data.stream() if isinstance(self.data, FileBytes) else io.BytesIO(self.data)

    @property
    def build_id(self) -> str | None:
        """The build-id in hex, None if there is none."""
        for segment in self.segments:
            if segment.type == PT_NOTE and segment.file_size <= 1 << 16:
                notes = self.data[segment.offset : segment.offset + segment.file_size]
                found = build_id(parse_notes(notes))
                if found:
                    return found
        return None

    @property
    def sections(self) -> dict[str, Section]:
        """Sections by name; empty when there are no (usable) section headers."""
        if self._sections is None:
            self._sections = self._parse_sections()
        return self._sections

    def _parse_sections(self) -> dict[str, Section]:
        header = self.header
        count = header.section_count
        start = header.section_offset
        table = self.data[start : start + 64 * count]
        if len(table) < 64 * count or not header.names_index < count:
            return {}
        raw = list(struct.iter_unpack("<IIQQQQIIQQ", table))
        names_offset, names_size = raw[header.names_index][4:6]
        names = self.data[names_offset : names_offset + min(names_size, 1 << 20)]
        found: dict[str, Section] = {}
        for index, (name, kind, flags, address, offset, size, link, _, _, _) in enumerate(raw):
            end = names.find(b"\0", name)
            if end > name:
                section = Section(index, kind, flags, address, offset, size, link)
                found.setdefault(names[name:end].decode("ascii", "replace"), section)
        return found

    def section_data(self, name: str) -> bytes:
        """A section's content, inflated if it is compressed; b"" when absent.

        Raises FormatError for a compression that isn't zlib, or one that is too large.
        """
        section = self.sections.get(name)
        if section is None or section.type == SHT_NOBITS:
            return b""
        data = self.data[section.offset : section.offset + section.size]
        if not section.flags & SHF_COMPRESSED:
            return data
        if len(data) < 24 or struct.unpack_from("<I", data)[0] != 1:
            raise FormatError(f"section {name} is compressed, but not with zlib")
        try:
            return zlib.decompressobj().decompress(data[24:], MAX_INFLATED)
        except zlib.error as error:
            raise FormatError(f"section {name} does not inflate: {error}") from error


def open_elf(path: str) -> ElfFile | None:
    """The ELF file at `path`; None if it can't be opened or isn't one."""
    try:
        return ElfFile(FileBytes(path))
    except (OSError, ValueError, FormatError):  # ValueError: a null byte in the path
        return None
