"""Line number programs (DWARF 5, 6.2)."""

from __future__ import annotations

import struct

from faultkit.code import FormatError
from faultkit.debuginfo import constants as c
from faultkit.debuginfo.leb import sleb, uleb
from faultkit.debuginfo.units import Unit
from faultkit.record import NamedTuple

MAX_FILES = 1 << 20
_LNCT_PATH, _LNCT_DIRECTORY = 1, 2

_u16 = struct.Struct("<H").unpack_from
_u64 = struct.Struct("<Q").unpack_from


class Row(NamedTuple):
    """Where code comes from: the number of a file, line and column (0: not known)."""

    file: int
    line: int
    column: int


class LineTable:
    """The line table of a unit.  Making one reads its header."""

    def __init__(self, unit: Unit) -> None:
        """Raises FormatError, LookupError or struct.error for what is broken or not there."""
        offset = unit.lines_offset
        if offset is None:
            raise FormatError("a unit without line numbers")
        section = unit.sections.need(".debug_line")
        length = int.from_bytes(section.read(offset, offset + 4), "little")
        if length >= 0xFFFFFFF0:
            raise FormatError("64-bit DWARF, which is not supported")
        self._unit = unit
        self._data = data = section.read(offset, offset + 4 + length)
        self._version = _u16(data, 4)[0]
        if not 2 <= self._version <= 5:
            raise FormatError("a line number program of a version that is not known")
        at = 8 if self._version >= 5 else 6
        self._program = at + 4 + int.from_bytes(data[at : at + 4], "little")
        at += 4
        self._unit_length = data[at]
        at += 2 if self._version >= 4 else 1  # maximum_operations_per_instruction: of VLIW
        self._line_base = int.from_bytes(data[at + 1 : at + 2], "little", signed=True)
        self._line_range = data[at + 2] or 1
        self._special = data[at + 3]  # opcode_base
        self._operands = data[at + 4 : at + 3 + self._special]
        self._names = at + 3 + self._special
        self._paths: list[str | None] | None = None
        self._entries: list[tuple[object, int]] = []
        self._directories: list[tuple[object, int]] = []

    def path(self, number: int) -> str | None:
        """The path of a file by its number, None if there is none such."""
        if self._paths is None:
            self._read_names()
            self._paths = [None] * len(self._entries)
        if not 0 <= number < len(self._entries):
            return None
        if self._paths[number] is None:
            self._paths[number] = self._join(number)
        return self._paths[number]

    def _join(self, number: int) -> str:
        name, directory = self._entries[number]
        path = self._text(name)
        if path.startswith("/") or not 0 <= directory < len(self._directories):
            return path
        folder = self._text(self._directories[directory][0])
        if not folder.startswith("/") and directory:
            folder = _joined(self._text(self._directories[0][0]), folder)
        return _joined(folder, path)

    def _text(self, name: object) -> str:
        """A name: itself, or (form, offset or index)."""
        if isinstance(name, tuple):
            form, number = name
            section = ".debug_line_str" if form == c.FORM_LINE_STRP else ".debug_str"
            return self._unit.sections.need(section).string(number)
        return str(name)

    def _read_names(self) -> None:
        if self._version >= 5:
            self._directories, at = self._table(self._names)
            self._entries, _ = self._table(at)
            return
        root = self._unit.root
        data = self._data
        at = self._names
        self._directories = [(root.text(c.AT_COMP_DIR) or "", 0)]
        while data[at]:
            end = data.index(b"\0", at)
            self._directories.append((data[at:end].decode("utf-8", "backslashreplace"), 0))
            at = end + 1
        at += 1
        self._entries = [(root.text(c.AT_NAME) or "", 0)]
        while data[at]:
            end = data.index(b"\0", at)
            name = data[at:end].decode("utf-8", "backslashreplace")
            directory, at = uleb(data, end + 1)
            _, at = uleb(data, at)
            _, at = uleb(data, at)
            self._entries.append((name, directory))

    def _table(self, at: int) -> tuple[list[tuple[object, int]], int]:
        """(the entries of a table of directories or files, where it ends)."""
        data = self._data
        count = data[at]
        at += 1
        formats = []
        for _ in range(count):
            kind, at = uleb(data, at)
            form, at = uleb(data, at)
            formats.append((kind, form))
        count, at = uleb(data, at)
        if count > MAX_FILES or (count and not formats):
            raise FormatError("a table of files that is broken")
        entries = []
        for _ in range(count):
            name: object = ""
            directory = 0
            for kind, form in formats:
                value, at = self._value(form, at)
                if kind == _LNCT_PATH:
                    name = value
                elif kind == _LNCT_DIRECTORY and isinstance(value, int):
                    directory = value
            entries.append((name, directory))
        return entries, at

    def _value(self, form: int, at: int) -> tuple[object, int]:
        data = self._data
        if at >= len(data):
            raise FormatError("a table of files that is cut short")
        if form in (c.FORM_LINE_STRP, c.FORM_STRP):
            return (form, int.from_bytes(data[at : at + 4], "little")), at + 4
        if form == c.FORM_UDATA:
            return uleb(data, at)
        if form == c.FORM_STRING:
            end = data.index(b"\0", at)
            return data[at:end].decode("utf-8", "backslashreplace"), end + 1
        if form == c.FORM_BLOCK:
            size, at = uleb(data, at)
            return 0, at + size
        size = {c.FORM_DATA1: 1, c.FORM_DATA2: 2, c.FORM_DATA4: 4, c.FORM_DATA8: 8,
                c.FORM_DATA16: 16}.get(form, 0)  # fmt: skip
        if not size:
            raise FormatError(f"a table of files with a form that is not known ({form:#x})")
        return int.from_bytes(data[at : at + size], "little"), at + size

    def rows(self, wanted: list[int]) -> dict[int, Row]:
        """The rows that cover addresses: of each the last one at or before it, if the sequence
        goes on behind it.  The program is run up to the last address only.

        `wanted` is sorted.
        """
        data = self._data
        found: dict[int, Row] = {}
        left = list(wanted)
        special, line_range = self._special, self._line_range
        advances = [(op - special) // line_range * self._unit_length for op in range(256)]
        lines = [self._line_base + (op - special) % line_range for op in range(256)]
        constant = advances[255]
        at, end = self._program, len(data)
        address, file, line, column = 0, 1, 1, 0
        before = (1, 1, 0)  # file, line and column of the sequence's last row
        fresh = True  # no row yet
        pending: list[int] = []  # those at or behind the sequence's begin, the lowest last
        stop = -1  # the lowest of them
        while at < end:
            op = data[at]
            at += 1
            if op >= special:
                address += advances[op]
                line += lines[op]
            elif op == 5:  # set_column
                column = data[at]
                at += 1
                if column > 127:
                    column, at = uleb(data, at - 1)
                continue
            elif op == 3:  # advance_line
                step = data[at]
                if step < 128:
                    at += 1
                    line += step - 128 if step & 64 else step
                else:
                    step, at = sleb(data, at)
                    line += step
                continue
            elif op == 6 or op == 7 or op == 10 or op == 11:
                continue
            elif op == 0:  # extended
                size, at = uleb(data, at)
                kind = data[at]
                if kind == 2:
                    address = _u64(data, at + 1)[0]
                at += size
                if kind != 1:
                    continue
                while pending and pending[-1] < address:
                    found[pending.pop()] = Row(*before)
                if not fresh:
                    left = [each for each in left if each not in found]
                    if not left:
                        break
                address, file, line, column = 0, 1, 1, 0
                fresh = True
                pending = []
                continue
            elif op == 4:  # set_file
                file, at = uleb(data, at)
                continue
            elif op == 2:  # advance_pc
                step, at = uleb(data, at)
                address += step * self._unit_length
                continue
            elif op == 8:  # const_add_pc
                address += constant
                continue
            elif op == 9:  # fixed_advance_pc
                address += _u16(data, at)[0]
                at += 2
                continue
            elif op != 1:
                for _ in range(self._operands[op - 1]):
                    _, at = uleb(data, at)
                continue
            # A row.
            if fresh:
                fresh = False
                pending = [each for each in reversed(left) if each >= address]
                stop = pending[-1] if pending else 1 << 64
            elif address > stop:
                while pending and pending[-1] < address:
                    found[pending.pop()] = Row(*before)
                if len(found) == len(wanted):
                    break
                stop = pending[-1] if pending else 1 << 64
            before = (file, line, column)
        return found


def _joined(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path
