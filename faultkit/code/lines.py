"""Source lines of code addresses, from DWARF as pyelftools reads it.

Only the unit that covers an address is read, and only its functions around the address.
"""

from __future__ import annotations

import io
import os
import time
from bisect import bisect_right

from faultkit.code.elf import SHF_COMPRESSED, ElfFile
from faultkit.code.images import Image
from faultkit.code.symbols import debug_file
from faultkit.model import SourceLine
from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MAX_SECTIONS = 256 << 20  # bytes of all debug sections: pyelftools reads them whole
MAX_INFLATED = 64 << 20  # bytes of a compressed one
MAX_ARANGES = 1 << 20
MAX_PROGRAM = 256 << 10  # bytes of a line number program that are run
MAX_FILES = 1 << 14
MAX_DEPTH = 100
SECONDS = 3.0  # for one image

_INNER = frozenset(("DW_TAG_lexical_block", "DW_TAG_inlined_subroutine", "DW_TAG_try_block",
                    "DW_TAG_catch_block"))  # fmt: skip
_FUNCTIONS = frozenset(("DW_TAG_subprogram", "DW_TAG_inlined_subroutine"))
_END_SEQUENCE = b"\0\x01\x01"
_SCOPES = frozenset(("DW_TAG_namespace", "DW_TAG_module"))


class TooCostly(Exception):
    """The time for an image's lines is over, or they would take it."""


class _Clock:
    """The time that an image's lines have left; it passes while they are read."""

    def __init__(self) -> None:
        self._left = SECONDS
        self.end = 0.0

    def __enter__(self) -> None:
        self.end = time.monotonic() + self._left

    def __exit__(self, *error: object) -> None:
        self._left = self.end - time.monotonic()


class _Timed(io.BytesIO):
    """A section that can only be read until its clock has run down: what is broken may send
    pyelftools through all of it."""

    def __init__(self, data: bytes, clock: _Clock) -> None:
        super().__init__(data)
        self._clock = clock

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._clock.end:
            raise TooCostly
        return super().read(size)


class Row(NamedTuple):
    """A row of a line table; its line is None behind the end of a sequence."""

    file: int
    line: int | None
    column: int


def lines_at(image: Image, address: int) -> tuple[SourceLine, ...]:
    """The inline chain at a code address of the target, innermost first.

    For a return address pass it less one.  () where the image has no debug information for
    it, more than can be read at once, or where pyelftools is not installed.
    """
    cache: dict[int, tuple[SourceLine, ...]] = image.__dict__.setdefault("_lines", {})
    if address not in cache:
        try:
            lines = _lines(image)
            cache[address] = lines.at(address - image.bias) if lines is not None else ()
        except Exception:  # whatever pyelftools meets in a broken file: it has no one class for it
            cache[address] = ()
    return cache[address]


def _lines(image: Image) -> Lines | None:
    found: list[Lines | None] = image.__dict__.setdefault("_debug", [])
    if not found:
        found.append(None)  # also if it turns out to be broken
        file = image.file
        if file is None or ".debug_info" not in file.sections:
            file = debug_file(image) if image.path.startswith("/") else None
        if file is not None and ".debug_info" in file.sections and _readable(file):
            found[0] = Lines(file)
    return found[0]


def _readable(file: ElfFile) -> bool:
    """Whether the debug sections are small enough, and not compressed but with zlib."""
    total = 0
    for name, section in file.sections.items():
        if name.startswith((".debug_", ".eh_frame")):
            size = section.size
            if section.flags & SHF_COMPRESSED:  # Elf64_Chdr, gABI chapter 4
                head = file.data[section.offset : section.offset + 16]
                size = int.from_bytes(head[8:], "little")
                if head[:4] != b"\1\0\0\0" or size > MAX_INFLATED:
                    return False
            total += size
    return total <= MAX_SECTIONS


class Lines:
    """The debug information of one file; addresses are the file's own.

    Methods raise what pyelftools does for what is broken.
    """

    def __init__(self, file: ElfFile) -> None:
        from elftools.elf.elffile import ELFFile

        self._clock = _Clock()
        with self._clock, file.stream() as stream:
            self._dwarf: Any
            self._dwarf = dwarf = ELFFile(stream).get_dwarf_info(
                relocate_dwarf_sections=False, follow_links=False
            )
            for part in ("info", "aranges", "abbrev", "str", "line", "ranges", "addr",
                         "str_offsets", "line_str", "rnglists"):  # fmt: skip
                section = getattr(dwarf, f"debug_{part}_sec")
                if section is not None:
                    timed = _Timed(section.stream.getvalue(), self._clock)
                    setattr(dwarf, f"debug_{part}_sec", section._replace(stream=timed))
            self._range_lists: Any = dwarf.range_lists()
            section = dwarf.debug_aranges_sec
            small = section is not None and section.size <= MAX_ARANGES
            self._aranges = dwarf.get_aranges() if small else None
        self._units: list[tuple[int, int, Any]] | None = None
        self._scopes: dict[int, tuple[list[tuple[int, int, Any]], list[Any]]] = {}
        self._files: dict[int, list[str]] = {}
        self._ranges_of: dict[int, list[tuple[int, int]]] = {}
        self._tables: dict[tuple[int, int], tuple[list[int], list[Row]]] = {}

    def at(self, address: int) -> tuple[SourceLine, ...]:
        """The inline chain, innermost first."""
        with self._clock:
            unit = self._unit(address)
            return self._chain(unit, address) if unit is not None else ()

    def _unit(self, address: int) -> Any:
        """The unit that covers `address`: by .debug_aranges, else (clang writes none) by the
        units' own ranges."""
        if self._aranges is not None and self._aranges.entries:
            offset = self._aranges.cu_offset_at_addr(address)
            if offset is not None:
                return self._dwarf.get_CU_at(offset)
        if self._units is None:
            self._units = []
            for unit in self._dwarf.iter_CUs():
                ranges = self._ranges(unit.get_top_DIE())
                self._units += [(start, end, unit) for start, end in ranges]
        return next((unit for start, end, unit in self._units if start <= address < end), None)

    def _chain(self, unit: Any, address: int) -> tuple[SourceLine, ...]:
        files = self._paths(unit)
        row = self._row(unit, address)
        chain = []
        for die in self._functions(unit, address):
            chain.append(_source_line(self._name(die), row, files))
            row = Row(*(_value(die, f"DW_AT_call_{part}", 0) for part in Row._fields))
        if not chain and row is not None:
            chain.append(_source_line(None, row, files))
        return tuple(chain)

    def _functions(self, unit: Any, address: int) -> list[Any]:
        """The DIEs of the functions around `address`, innermost first."""
        die = self._subprogram(unit.get_top_DIE(), address, MAX_DEPTH)
        found: list[Any] = []
        while die is not None and len(found) < MAX_DEPTH:
            found.append(die)
            children = (child for child in die.iter_children() if child.tag in _INNER)
            die = next((child for child in children if self._covers(child, address)), None)
        return [die for die in found[::-1] if die.tag in _FUNCTIONS]

    def _subprogram(self, scope: Any, address: int, depth: int) -> Any:
        """The function in `scope` that covers `address`.

        Namespaces come last: gcc puts definitions outside them, and declarations fill them.
        """
        if scope.offset not in self._scopes:
            functions, namespaces = [], []
            for child in scope.iter_children():
                if child.tag == "DW_TAG_subprogram":
                    functions += [(low, high, child) for low, high in self._ranges(child)]
                elif child.tag in _SCOPES:
                    namespaces.append(child)
            self._scopes[scope.offset] = functions, namespaces
        functions, namespaces = self._scopes[scope.offset]
        for low, high, die in functions:
            if low <= address < high:
                return die
        found = (self._subprogram(child, address, depth - 1) for child in namespaces if depth)
        return next((die for die in found if die is not None), None)

    def _covers(self, die: Any, address: int) -> bool:
        return any(low <= address < high for low, high in self._ranges(die))

    def _ranges(self, die: Any) -> list[tuple[int, int]]:
        """The [start, end) of a DIE."""
        low, high = die.attributes.get("DW_AT_low_pc"), die.attributes.get("DW_AT_high_pc")
        if "DW_AT_ranges" in die.attributes:
            return self._listed(die)
        if low is None or high is None:
            return []
        absolute = high.form.startswith("DW_FORM_addr")
        return [(low.value, high.value if absolute else low.value + high.value)]

    def _listed(self, die: Any) -> list[tuple[int, int]]:
        base = _value(die.cu.get_top_DIE(), "DW_AT_low_pc", 0)
        offset = die.attributes["DW_AT_ranges"].value
        found = []
        entry: Any  # of one of two types
        for entry in self._range_lists.get_range_list_at_offset(offset, cu=die.cu):
            if hasattr(entry, "base_address"):
                base = entry.base_address
            else:
                start = 0 if entry.is_absolute else base
                found.append((start + entry.begin_offset, start + entry.end_offset))
        return found

    def _name(self, die: Any) -> str | None:
        """A function's name: its own, or that of its origin or declaration."""
        for _ in range(8):
            if "DW_AT_name" in die.attributes:
                return _text(die.attributes["DW_AT_name"].value)
            for reference in ("DW_AT_abstract_origin", "DW_AT_specification"):
                if reference in die.attributes:
                    die = die.get_DIE_from_attribute(reference)
                    break
            else:
                break
        return None

    def _paths(self, unit: Any) -> list[str]:
        """The paths of the unit's files by number."""
        if unit.cu_offset not in self._files:
            self._files[unit.cu_offset] = []  # also if it turns out to be broken
            top = unit.get_top_DIE()
            if "DW_AT_stmt_list" in top.attributes:
                stream = self._dwarf.debug_line_sec.stream
                _check_header(stream, top.attributes["DW_AT_stmt_list"].value, unit.structs)
                header = self._dwarf.line_program_for_CU(unit).header
                self._files[unit.cu_offset] = _files(header, top)
        return self._files[unit.cu_offset]

    def _row(self, unit: Any, address: int) -> Row | None:
        """The row of the unit's line table that covers `address`."""
        if not self._files[unit.cu_offset]:
            return None
        if unit.cu_offset not in self._ranges_of:
            self._ranges_of[unit.cu_offset] = self._ranges(unit.get_top_DIE())
        ranges = self._ranges_of[unit.cu_offset]
        span = next((span for span in ranges if span[0] <= address < span[1]), (address, address))
        key = unit.cu_offset, span[0]
        if key not in self._tables:
            self._tables[key] = [], []  # also if it turns out to be broken
            self._tables[key] = self._table(unit, *span)
        addresses, rows = self._tables[key]
        index = bisect_right(addresses, address) - 1
        return rows[index] if index >= 0 and rows[index].line is not None else None

    def _table(self, unit: Any, start: int, end: int) -> tuple[list[int], list[Row]]:
        """Addresses and rows: those of the unit's range [start, end) where they are a sequence
        of their own (each function's are in C++); else all."""
        program = self._dwarf.line_program_for_CU(unit)
        states = _sequence(program, start)
        if states and states[-1].address < end:
            states = []
        if not states and program.program_end_offset - program.program_start_offset <= MAX_PROGRAM:
            states = [entry.state for entry in program.get_entries() if entry.state is not None]
        # Where one sequence ends another may begin: its first row counts.
        states.sort(key=lambda state: (state.address, not state.end_sequence))
        rows = [Row(s.file, None if s.end_sequence else s.line, s.column) for s in states]
        return [state.address for state in states], rows


def _sequence(program: Any, start: int) -> list[Any]:
    """The states of the sequence that DW_LNE_set_address begins at `start`, [] if not found.

    Its first byte follows DW_LNE_end_sequence, or begins the program; whether what looks like
    its end is that, the run tells.
    """
    from elftools.dwarf.lineprogram import LineProgram

    first, stop = program.program_start_offset, program.program_end_offset
    program.stream.seek(first)
    data = program.stream.read(stop - first)
    at = data.find(b"\0\x09\x02" + start.to_bytes(8, "little"))
    before = data.rfind(_END_SEQUENCE, 0, max(at, 0))
    before = before + 3 if before >= 0 else 0
    if not 0 <= at - before <= 8:
        return []
    end = at
    for _ in range(4):
        end = data.find(_END_SEQUENCE, end + 1)
        if not 0 <= end <= before + MAX_PROGRAM:
            break
        run = LineProgram(
            program.header, program.stream, program.structs, first + before, first + end + 3
        )
        states = [entry.state for entry in run.get_entries() if entry.state is not None]
        if states and states[-1].end_sequence:
            return states
    return []


def _check_header(stream: Any, offset: int, structs: Any) -> None:
    """Raises TooCostly where a line number program (DWARF 5, 6.2.4) has too many files.

    Their entries may have no size, so pyelftools would make as many as any count says.
    """
    from elftools.dwarf.enums import ENUM_DW_FORM

    forms = {number: name for name, number in ENUM_DW_FORM.items()}
    uleb = structs.Dwarf_uleb128("")
    stream.seek(offset)
    head = stream.read(18)
    if structs.dwarf_format != 32 or head[:4] == b"\xff\xff\xff\xff":
        raise TooCostly
    if head[4] < 5:
        return
    stream.seek(offset + 17 + head[17])
    for last in (False, True):
        entry = [(uleb.parse_stream(stream), uleb.parse_stream(stream))[1]
                 for _ in range(stream.read(1)[0])]  # fmt: skip
        count = uleb.parse_stream(stream)
        if count > MAX_FILES:
            raise TooCostly
        for form in entry * (0 if last else count):
            structs.Dwarf_dw_form[forms[form]].parse_stream(stream)


def _files(header: Any, top: Any) -> list[str]:
    """The paths of a line number program's files by number, from 0 in DWARF 5 (6.2.4.1)."""
    directory = _text(_value(top, "DW_AT_comp_dir", b""))
    directories = [os.path.join(directory, _text(path)) for path in header["include_directory"]]
    files = []
    if header["version"] < 5:
        directories.insert(0, directory)
        files.append(os.path.join(directory, _text(_value(top, "DW_AT_name", b""))))
    for entry in header["file_entry"][:MAX_FILES]:
        number = entry.dir_index
        base = directories[number] if number < len(directories) else ""
        files.append(os.path.join(base, _text(entry.name)))
    return files


def _source_line(name: str | None, row: Row | None, files: list[str]) -> SourceLine:
    if row is None:
        return SourceLine(name, None, None, None)
    path = files[row.file] if 0 <= row.file < len(files) else None
    return SourceLine(name, path or None, row.line or None, row.column or None)


def _value(die: Any, attribute: str, default: Any) -> Any:
    found = die.attributes.get(attribute)
    return found.value if found is not None else default


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
