"""Source lines of code addresses, from the line number programs of DWARF 2 to 5 (6.2)."""

import os
import struct
from bisect import bisect_right
from typing import NamedTuple, Optional

from faultkit.code import FormatError
from faultkit.code.dwarf import AT_COMP_DIR, AT_NAME, AT_STMT_LIST, Dwarf, Unit
from faultkit.code.expression import sleb, uleb
from faultkit.code.images import Image
from faultkit.code.symbols import debug_file
from faultkit.model import SourceLine
from faultkit.target import ReadError

MAX_PROGRAM = 2 << 20  # bytes of one unit's line number program
MAX_FILES = 1 << 16
_BROKEN = (FormatError, ReadError, IndexError, struct.error)


class LineTable(NamedTuple):
    """One unit's rows in address order; a row's line is None behind the end of its code."""

    addresses: list[int]
    rows: list[tuple[int, Optional[int], int]]  # file, line, column
    files: list[str]

    def row(self, address: int) -> Optional[tuple[int, Optional[int], int]]:
        """The row that covers `address`."""
        index = bisect_right(self.addresses, address) - 1
        if index < 0 or self.rows[index][1] is None:
            return None
        return self.rows[index]

    def file(self, number: Optional[int]) -> Optional[str]:
        """The path of file `number`."""
        if number is None or not 0 <= number < len(self.files):
            return None
        return self.files[number] or None


def lines_at(image: Image, address: int) -> tuple[SourceLine, ...]:
    """The inline chain at a code address of the target, innermost first.

    For a return address pass it less one.  () where the image has no debug information for
    it, or more than can be read at once.
    """
    cache: dict[int, tuple[SourceLine, ...]] = image.__dict__.setdefault("_lines", {})
    if address not in cache:
        try:
            dwarf = _dwarf(image)
            cache[address] = _lines(dwarf, address - image.bias) if dwarf is not None else ()
        except _BROKEN:
            cache[address] = ()
    return cache[address]


def _dwarf(image: Image) -> Optional[Dwarf]:
    found: list[Optional[Dwarf]] = image.__dict__.setdefault("_dwarf", [])
    if not found:
        file = image.file
        if file is None or ".debug_info" not in file.sections:
            file = debug_file(image) if image.path.startswith("/") else None
        usable = file is not None and ".debug_info" in file.sections
        found.append(Dwarf(file) if file is not None and usable else None)
    return found[0]


def _lines(dwarf: Dwarf, address: int) -> tuple[SourceLine, ...]:
    unit = dwarf.unit_at(address)
    if unit is None:
        return ()
    table = line_table(unit)
    row = table.row(address) if table is not None else None
    file, line, column = row if row is not None else (None, None, 0)
    try:
        chain = unit.chain(address)
    except _BROKEN:
        chain = []
    result = []
    for function in chain:
        path = table.file(file) if table is not None else None
        result.append(SourceLine(function.name, path, line or None, column or None))
        file, line, column = function.call_file, function.call_line, function.call_column or 0
    if not result and row is not None and table is not None:
        result.append(SourceLine(None, table.file(file), line or None, column or None))
    return tuple(result)


def line_table(unit: Unit) -> Optional[LineTable]:
    """The unit's line table, None if it has none.  Raises FormatError."""
    cache: list[Optional[LineTable]] = unit.__dict__.setdefault("_line_table", [])
    if not cache:
        cache.append(None)  # also if it turns out to be broken
        offset = unit.root.get(AT_STMT_LIST)
        if offset is not None:
            cache[0] = _Program(unit, offset[1]).table()
    return cache[0]


class _Program:
    """A line number program: its header, then its run."""

    def __init__(self, unit: Unit, offset: int) -> None:
        dwarf = unit.dwarf
        head = dwarf.part(".debug_line", offset, 4)
        length = int.from_bytes(head, "little")
        if not 10 < length <= MAX_PROGRAM:
            raise FormatError("a line number program that is too large, or none")
        self.unit = unit
        self.data = data = dwarf.part(".debug_line", offset, 4 + length)
        self.version = int.from_bytes(data[4:6], "little")
        if not 2 <= self.version <= 5:
            raise FormatError(f"line number program version {self.version}")
        position = 8 if self.version >= 5 else 6
        header = int.from_bytes(data[position : position + 4], "little")
        position += 4
        self.start = position + header
        self.minimum = data[position]
        position += 2 if self.version >= 4 else 1
        self.line_base, self.line_range, self.opcode_base = struct.unpack_from(
            "<bBB", data, position + 1
        )
        if not self.line_range or not self.opcode_base:
            raise FormatError("an impossible line number program")
        position += 4
        self.lengths = data[position : position + self.opcode_base - 1]
        position += self.opcode_base - 1
        directory = unit.text(unit.root.get(AT_COMP_DIR)) or ""
        name = unit.text(unit.root.get(AT_NAME)) or ""
        if self.version >= 5:
            self.files = self._files5(position, directory)
        else:
            self.files = self._files4(position, directory, name)

    def _files4(self, position: int, directory: str, name: str) -> list[str]:
        data = self.data
        directories = [directory]
        while data[position]:
            end = data.index(b"\0", position)
            directories.append(
                os.path.join(directory, data[position:end].decode("utf-8", "replace"))
            )
            position = end + 1
        files = [os.path.join(directory, name)]
        position += 1
        while data[position] and len(files) < MAX_FILES:
            end = data.index(b"\0", position)
            path = data[position:end].decode("utf-8", "replace")
            number, position = uleb(data, end + 1)
            _, position = uleb(data, position)
            _, position = uleb(data, position)
            base = directories[number] if number < len(directories) else ""
            files.append(os.path.join(base, path))
        return files

    def _files5(self, position: int, directory: str) -> list[str]:
        entries, position = self._entries(position)
        directories = [os.path.join(directory, path or "") for path, _ in entries]
        entries, _ = self._entries(position)
        return [
            os.path.join(directories[number] if number < len(directories) else "", path or "")
            for path, number in entries
        ]

    def _entries(self, position: int) -> tuple[list[tuple[Optional[str], int]], int]:
        """(path, directory number) of each entry of a directory or file table."""
        unit, data = self.unit, self.data
        formats = []
        count = data[position]
        position += 1
        for _ in range(count):
            content, position = uleb(data, position)
            form, position = uleb(data, position)
            formats.append((content, form))
        count, position = uleb(data, position)
        entries: list[tuple[Optional[str], int]] = []
        for _ in range(min(count, MAX_FILES)):
            path: Optional[str] = None
            number = 0
            for content, form in formats:
                if form == 0x08:
                    end = data.index(b"\0", position)
                    path = data[position:end].decode("utf-8", "replace")
                    position = end + 1
                    continue
                value, position = _value(data, form, position)
                if content == 1:
                    path = unit.text((form, value))
                elif content == 2:
                    number = value
            entries.append((path, number))
        return entries, position

    def table(self) -> LineTable:
        """Run the program."""
        data = self.data
        position, end = self.start, len(self.data)
        base, span, minimum = self.line_base, self.line_range, self.minimum
        opcode_base = self.opcode_base
        constant = (255 - opcode_base) // span * minimum
        rows: list[tuple[int, int, int, Optional[int], int]] = []
        address, file, line, column = 0, 1, 1, 0
        while position < end:
            opcode = data[position]
            position += 1
            if opcode >= opcode_base:
                opcode -= opcode_base
                address += opcode // span * minimum
                line += base + opcode % span
                rows.append((address, 1, file, line, column))
            elif opcode == 0:
                length, position = uleb(data, position)
                kind = data[position] if length else 0
                if kind == 1:
                    rows.append((address, 0, file, None, column))
                    address, file, line, column = 0, 1, 1, 0
                elif kind == 2:
                    address = int.from_bytes(data[position + 1 : position + length], "little")
                position += length
            elif opcode == 1:
                rows.append((address, 1, file, line, column))
            elif opcode == 2:
                step, position = uleb(data, position)
                address += step * minimum
            elif opcode == 3:
                step, position = sleb(data, position)
                line += step
            elif opcode == 4:
                file, position = uleb(data, position)
            elif opcode == 5:
                column, position = uleb(data, position)
            elif opcode == 8:
                address += constant
            elif opcode == 9:
                address += int.from_bytes(data[position : position + 2], "little")
                position += 2
            else:
                for _ in range(self.lengths[opcode - 1]):
                    _, position = uleb(data, position)
        rows.sort(key=lambda row: row[:2])  # stable: later rows of one address stay later
        return LineTable([r[0] for r in rows], [r[2:] for r in rows], self.files)


_FORM_SIZES = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x0E: 4, 0x1F: 4, 0x1E: 16, 0x17: 4,
               0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4}  # fmt: skip


def _value(data: bytes, form: int, position: int) -> tuple[int, int]:
    size = _FORM_SIZES.get(form)
    if size is not None:
        return int.from_bytes(data[position : position + size], "little"), position + size
    if form in (0x0F, 0x1A):
        return uleb(data, position)
    raise FormatError(f"form {form:#x} in a line number program")
