"""The ELF objects that a process has loaded: executable, libraries, the vdso."""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from faultkit.code import FormatError
from faultkit.code.elf import (
    HEADER_SIZE,
    PT_DYNAMIC,
    PT_LOAD,
    PT_NOTE,
    ElfFile,
    Segment,
    build_id,
    open_elf,
    parse_header,
    parse_notes,
    parse_segments,
)
from faultkit.target import Mapping, ReadError

Read = Callable[[int, int], bytes]
PAGE = 4096
_MASK = (1 << 64) - 1
_DELETED = " (deleted)"

# Images by whose name alone a runtime with its own threads, frames or waits is known.
_RUNTIMES = (
    ("libjvm.so", "java"),
    ("libcoreclr.so", "dotnet"),
    ("libmono", "mono"),
    ("beam.smp", "beam"),
    ("beam.", "beam"),
    ("node", "node"),
    ("libnode.so", "node"),
    ("libpython", "python"),
    ("python3", "python"),
    ("libruby", "ruby"),
)


class Image:
    """One loaded ELF object.

    `bias` is what loading added to the file's own addresses; [start, end) spans its segments.
    """

    def __init__(
        self, read: Read, mappings: Sequence[Mapping], pid: int | None, here: bool = True
    ) -> None:
        """`mappings` are those of one file in address order, the first at file offset 0 (more
        than one load of the file may be among them: `end` tells what belongs to this one).
        `here`: their path is this machine's; else only a build-id shows that a file is it.

        Raises FormatError when there is no x86-64 image, ReadError when neither memory nor
        file tells.
        """
        first = mappings[0]
        self.read = read
        self.pid = pid
        self.here = here
        self.mapped_path = first.path
        self.deleted = first.path.endswith(_DELETED)
        self.path = first.path[: -len(_DELETED)] if self.deleted else first.path
        self._mappings = mappings
        self._file: ElfFile | None = None
        self._file_tried = False
        self._build_id: str | None = None
        self._notes: list[tuple[bytes, int, bytes]] | None = None
        self._dynamic: dict[int, int] | None = None
        try:
            raw = read(first.start, HEADER_SIZE)
            self.header = parse_header(raw)
            self._table = read(
                first.start + self.header.program_offset, 56 * self.header.program_count
            )
            self.segments: tuple[Segment, ...] = parse_segments(self._table)
            self.in_memory = True
        except ReadError:  # cores may lack pages that the file still has
            self.in_memory = False
            file = open_elf(self.path) if here and not self.deleted else None
            if file is None:
                raise
            self._file, self._file_tried = file, True
            self.header, self.segments = file.header, file.segments
        loads = [s for s in self.segments if s.type == PT_LOAD]
        base = next((s for s in loads if s.offset < PAGE), None)
        if base is None:
            raise FormatError("no segment holds the ELF header")
        self.bias = first.start - (base.address & -PAGE) & _MASK
        self.start = first.start
        self.end = max(s.address + s.size for s in loads) + self.bias & _MASK
        self.executable = any(s.flags & 1 for s in loads)
        if not self.start < self.end <= 1 << 63:
            raise FormatError("segments outside the address space")

    def __repr__(self) -> str:
        return f"Image({self.path!r}, {self.start:#x}-{self.end:#x}, bias {self.bias:#x})"

    @property
    def name(self) -> str:
        """The file's name without its directories."""
        return os.path.basename(self.path) or self.path

    def contains(self, address: int) -> bool:
        """Whether `address` lies between the first and the last byte of its segments."""
        return self.start <= address < self.end

    def segment(self, kind: int) -> tuple[int, int] | None:
        """(address in the target, size) of the first segment of type `kind`."""
        for segment in self.segments:
            if segment.type == kind:
                return segment.address + self.bias & _MASK, segment.size
        return None

    def is_code(self, address: int) -> bool:
        """Whether `address` lies in an executable segment."""
        return any(
            s.type == PT_LOAD and s.flags & 1 and 0 <= address - self.bias - s.address < s.size
            for s in self.segments
        )

    @property
    def notes(self) -> list[tuple[bytes, int, bytes]]:
        """(name, type, description) of the notes that are loaded with the image."""
        if self._notes is None:
            self._notes = []
            for segment in self.segments:
                if segment.type == PT_NOTE and segment.size <= 1 << 16:
                    try:
                        data = self.read(segment.address + self.bias & _MASK, segment.size)
                    except ReadError:
                        continue
                    self._notes += parse_notes(data)
        return self._notes

    @property
    def build_id(self) -> str | None:
        """The build-id in hex as the target's memory has it (the file's if it has none)."""
        if self._build_id is None:
            self._build_id = build_id(self.notes)
            if self._build_id is None and self.file is not None:
                self._build_id = self.file.build_id
        return self._build_id

    @property
    def file(self) -> ElfFile | None:
        """The file that was loaded, or None when it is gone or has been replaced."""
        if not self._file_tried:
            self._file_tried = True
            self._file = next((f for f in self._candidates() if self._is_loaded(f)), None)
        return self._file

    def _candidates(self) -> Iterator[ElfFile]:
        paths = []
        if self.pid is not None:
            first = self._mappings[0]
            # The mapped inode itself, also when deleted or replaced; needs a capability.
            paths.append(f"/proc/{self.pid}/map_files/{first.start:x}-{first.end:x}")
            paths.append(f"/proc/{self.pid}/root{self.path}")
        paths.append(self.path)
        if not self.path.startswith("/"):
            if self.path == "[vdso]":
                try:  # its section headers are mapped too
                    first = self._mappings[0]
                    yield ElfFile(self.read(first.start, min(first.end - first.start, 1 << 16)))
                except (ReadError, FormatError):
                    pass
            return
        for path in paths:
            file = open_elf(path)
            if file is not None:
                yield file

    def _is_loaded(self, file: ElfFile) -> bool:
        """Whether `file` is what is in memory: the same build-id, else the same segments."""
        loaded = build_id(self.notes)
        if loaded is not None:
            return file.build_id == loaded
        same = file.segments == self.segments and file.header.entry == self.header.entry
        return self.here and same

    @property
    def dynamic(self) -> dict[int, int]:
        """The first value of each tag of the dynamic section, as it is in the target's memory.

        glibc adds the bias to addresses there, musl and the vdso do not: use `dynamic_address`.
        """
        if self._dynamic is None:
            self._dynamic = {}
            found = self.segment(PT_DYNAMIC)
            if found is not None:
                address, size = found
                try:
                    data = self.read(address, min(size, 1 << 14) & ~15)
                except ReadError:
                    data = b""
                for tag, value in struct.iter_unpack("<QQ", data):
                    if tag == 0:
                        break
                    self._dynamic.setdefault(tag, value)
        return self._dynamic

    def dynamic_address(self, tag: int) -> int | None:
        """The address in the target that the dynamic section's `tag` holds."""
        value = self.dynamic.get(tag)
        if value is None:
            return None
        if self.contains(value):
            return value
        value = value + self.bias & _MASK
        return value if self.contains(value) else None

    @property
    def runtime(self) -> str | None:
        """The language runtime that this image is or carries: "go", "java", "python"...

        Frames, threads or waits of such a process may not be what the system's are.
        """
        for prefix, runtime in _RUNTIMES:
            if self.name == prefix or (self.name.startswith(prefix) and prefix != "node"):
                return runtime
        if any(name == b"Go\0\0" for name, _, _ in self.notes):
            return "go"
        file = self.file if self.path.startswith("/") else None
        return "go" if file is not None and ".go.buildinfo" in file.sections else None


class Images:
    """All images of a process, found lazily from its mappings."""

    def __init__(
        self,
        read: Read,
        mappings: Sequence[Mapping],
        pid: int | None = None,
        here: bool = True,
    ) -> None:
        """`pid` only for a live process of this machine: then files are taken from /proc; `here`
        as for Process."""
        self.read = read
        self.pid = pid
        self.here = here
        self._runs: list[list[Mapping]] = []  # consecutive mappings of one file
        for mapping in sorted(mappings, key=lambda m: m.start):
            path = mapping.path
            if path.startswith("/dev/") or (path[:1] != "/" and path != "[vdso]"):
                continue
            if self._runs:
                last = self._runs[-1][-1]
                if (last.path, last.inode) == (mapping.path, mapping.inode):
                    self._runs[-1].append(mapping)
                    continue
            self._runs.append([mapping])
        self._starts = [run[0].start for run in self._runs]
        self._told = all(mapping.perms for mapping in mappings)
        self._executable = sorted((m.start, m.end) for m in mappings if "x" in m.perms)
        self._images: dict[int, list[Image]] = {}  # by index of the run

    def at(self, address: int) -> Image | None:
        """The image that `address` belongs to (also its .bss), or None."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        for image in self._run(index):
            if image.contains(address):
                return image
        return None

    def is_code(self, address: int) -> bool:
        """Whether `address` lies in memory that can be executed: of an image, or generated."""
        index = bisect_right(self._executable, (address, 1 << 64)) - 1
        if index >= 0 and address < self._executable[index][1]:
            return True
        if self._told:
            return False
        image = self.at(address)  # core files do not tell of all that may be executed
        return image is not None and image.is_code(address)

    def __iter__(self) -> Iterator[Image]:
        """Every image, in address order; reads the header of each mapped file."""
        for index in range(len(self._runs)):
            yield from self._run(index)

    def _run(self, index: int) -> list[Image]:
        images = self._images.get(index)
        if images is None:
            images = self._images[index] = []
            run = self._runs[index]
            for number, mapping in enumerate(run):
                # Small files map their first page twice: as text and, at offset 0, as data.
                if mapping.offset or (images and images[-1].contains(mapping.start)):
                    continue
                try:
                    image = Image(self.read, run[number:], self.pid, self.here)
                except (FormatError, ReadError):
                    continue
                if image.executable:  # a file mapped only as data is not loaded
                    images.append(image)
        return images
