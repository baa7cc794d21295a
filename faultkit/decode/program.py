"""The frames of a program for `kdecode`, as a debugger unwound them: debug files by its mappings,
registers only where they surely are the frame's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from faultkit.code import FormatError, cfi
from faultkit.code.expression import DWARF_REGISTERS
from faultkit.code.images import Images
from faultkit.code.unwind import CALLEE_SAVED
from faultkit.debuginfo.debugfile import BROKEN
from faultkit.debuginfo.find import Places, find_program
from faultkit.debuginfo.lookup import Lookup
from faultkit.decode.callframes import FrameTable
from faultkit.decode.model import NO_CODE, Decoded
from faultkit.decode.operand import PAGE, meaning_of
from faultkit.decode.original import CodeOf, original
from faultkit.decode.patches import Original
from faultkit.decode.source import Sources
from faultkit.decode.values import Code, Describe, FrameView
from faultkit.decode.view import Shown, Subject
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, Mapping, ReadError
from faultkit.traces.events import KERNEL_HALF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MASK = (1 << 64) - 1
MOST_TEXT = 64  # characters of a string that a pointer points to
FARTHEST = 1 << 20  # bytes into a symbol that names a pointer

Symbol: TypeAlias = "Callable[[int], tuple[str, int, int | None] | None]"  # name, offset, size
Elsewhere: TypeAlias = "Callable[[int], str | None]"


class Unwound(NamedTuple):
    """A frame as a debugger has it.  `exact`: stopped there, else it is a return address;
    `registers` are all that the debugger knows; `cfa` the stack pointer in its caller;
    `linkage_name` tells what the file calls that which begins at `start`."""

    address: int
    exact: bool
    registers: dict[str, int]
    cfa: int | None = None
    symbol: str | None = None
    start: int | None = None
    module: str | None = None
    linkage_name: Callable[[], str | None] = lambda: None


class ProgramSubject(Subject):
    """A program, live or a core, or a kernel that a debugger without faultkit's ways looks at."""

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        mappings: Sequence[Mapping],
        pid: int | None,
        symbol: Symbol,
        places: Places,
        sources: Sources,
        elsewhere: Elsewhere = lambda address: None,
    ) -> None:
        """`mappings` are all that are known, `pid` only of a live process of this machine;
        `elsewhere` names the file that has an address's symbols, where no mapping does."""
        super().__init__(read, sources)
        self._images = Images(read, mappings, pid)
        self._mappings = mappings
        self._symbol = symbol
        self._places = places
        self._elsewhere = elsewhere
        self._files: dict[str, Lookup | None] = {}
        self._shifts: dict[str, int] = {}  # of files without mappings
        self._tables: dict[str, FrameTable | None] = {}
        self._originals: dict[str, CodeOf | None] = {}
        self.limits: list[str] = []

    def frames(self, unwound: Sequence[Unwound]) -> list[Shown]:
        """The frames as they are to be dressed, innermost first."""
        shown: list[Shown] = []
        sound = True
        for index, frame in enumerate(unwound):
            registers = dict(frame.registers)
            if frame.exact:
                sound = True
            else:
                kept = CALLEE_SAVED if sound else ()
                registers = {n: v for n, v in registers.items() if n in (*kept, "rsp")}
            offset = frame.address - frame.start if frame.start is not None else None
            decoded = Decoded(
                index, frame.address, frame.exact, frame.symbol, offset, None, frame.module
            )
            code = self.code_at(frame)
            origins = {} if frame.exact else {n: f"{n}, unwound" for n in registers if n != "rsp"}
            view = FrameView(
                frame.address,
                frame.exact,
                frame.start,
                code,
                registers,
                origins,
                self._cfa(frame, registers) if frame.cfa is None else frame.cfa,
                self.read,
            )
            view.name_of = self.name_of
            view.end = self._end(frame.start)
            view.in_program = frame.address < KERNEL_HALF
            if frame.address < PAGE and frame.exact:
                decoded.module = None
                decoded.notes.append(NO_CODE)
            if shown and not frame.exact:
                shown[-1].view.caller = view
            shown.append(Shown(decoded, view))
            sound = sound and self._has_cfi(frame, code)
        return shown

    def _end(self, start: int | None) -> int | None:
        found = self._symbol(start) if start is not None else None
        return start + found[2] if found is not None and start is not None and found[2] else None

    def _has_cfi(self, frame: Unwound, code: Code | None) -> bool:
        """Whether call frame information, and no guess, leads from the frame to its caller."""
        place = frame.address - (not frame.exact)
        image = self._images.at(place)
        try:
            if image is not None:
                return cfi.find_fde(image, place) is not None
            if code is None or frame.start is None:
                return False
            path = code.file.path
            if path not in self._tables:
                section = code.file.debug.sections.get(".debug_frame")
                data = section.read(0, section.size) if section is not None else b""
                self._tables[path] = FrameTable(data)
            table = self._tables[path]
            return table is not None and table.find(frame.start + code.shift & MASK) is not None
        except (*BROKEN, FormatError, ReadError):
            return False

    def _cfa(self, frame: Unwound, registers: dict[str, int]) -> int | None:
        """The canonical frame address of a frame whose caller the debugger does not show, as of
        main()."""
        place = frame.address - (not frame.exact)
        image = self._images.at(place)
        try:
            fde = cfi.find_fde(image, place) if image is not None else None
            row = cfi.row_at(fde, place) if fde is not None else None
        except (FormatError, ReadError):
            return None
        if row is None or isinstance(row.cfa, bytes) or row.cfa[0] >= len(DWARF_REGISTERS):
            return None
        base = registers.get(DWARF_REGISTERS[row.cfa[0]])
        return base + row.cfa[1] & MASK if base is not None else None

    def code_at(self, frame: Unwound) -> Code | None:
        """Where the frame is in debug information; None where that is not here."""
        try:
            return self._code_at(frame)
        except (*BROKEN, FaultkitError):
            return None

    def _code_at(self, frame: Unwound) -> Code | None:
        address = frame.address - (not frame.exact)
        image = self._images.at(address)
        if image is not None:
            lookup = self._file(image.path)
            if lookup is None:
                return None
            if image.build_id and lookup.build_id and image.build_id != lookup.build_id:
                self._limit(
                    f"{image.path} is not what was loaded: its build-id is {lookup.build_id}, in "
                    f"memory it is {image.build_id}; put that build back, or give --debug-dir DIR"
                )
                return None
            bias = image.bias
            return Code(lookup, -bias, lambda place: place + bias & MASK)
        path = self._elsewhere(address)
        lookup = self._file(path) if path is not None else None
        shift = self._shift(lookup, frame) if lookup is not None else None
        if lookup is None or shift is None:
            return None
        moved = None if lookup.relocatable else -shift
        return Code(
            lookup, shift, lambda place: place + moved & MASK if moved is not None else None
        )

    def _shift(self, lookup: Lookup, frame: Unwound) -> int | None:
        """From an address to that in the file, by the frame's symbol; None where that leaves a
        choice.  Of several of one name it is the one that other symbols' shift leads to, or the
        file's own addresses: where nothing runs, nothing has been moved."""
        name = frame.linkage_name() or frame.symbol
        if frame.start is None or name is None:
            return None
        start = frame.start
        shifts = {symbol.address - start for symbol in lookup.symbols_named([name])[name]}
        if lookup.relocatable:
            return shifts.pop() if len(shifts) == 1 else None
        if len(shifts) == 1:
            return self._shifts.setdefault(lookup.path, shifts.pop())
        known = self._shifts.get(lookup.path, 0)
        if known in shifts:
            return known
        self._limit(f"where {lookup.path} lies is not told by {name}: no lines there")
        return None

    def _file(self, path: str) -> Lookup | None:
        if path not in self._files:
            self._files[path] = None
            found = find_program(self._places, path)
            if found is not None:
                lookup = Lookup(found)
                self._files[path] = lookup if lookup.has_lines else None
            if self._files[path] is None and path != "[vdso]":
                self._limit(
                    f"no debug information of {path}: its frames have no lines and values; install "
                    "it, build with -g, or give --debug-dir DIR"
                )
        return self._files[path]

    def _limit(self, text: str) -> None:
        if text not in self.limits:
            self.limits.append(text)

    def original(self, start: int, size: int) -> Original | None:
        image = self._images.at(start)
        if image is None or image.file is None:
            return None
        if image.path not in self._originals:
            self._originals[image.path] = CodeOf(image.file)
        code = self._originals[image.path]
        place = start - image.bias & MASK
        return original(code, place, start, size, 0) if code is not None else None

    # Names

    def name_of(self, address: int) -> str | None:
        found = self._symbol(address)
        if found is None or found[1] > FARTHEST:
            return None
        return found[0] + (f"+{found[1]:#x}" if found[1] else "")

    @property
    def describe(self) -> Describe | None:
        return self._describe

    def _describe(self, value: int, type_name: str, structure: str | None) -> str | None:
        if value < PAGE:
            return None
        wrong = meaning_of(value)
        if wrong is not None:
            return wrong
        if "char" in type_name and type_name.rstrip().endswith("*"):
            text = self._string(value)
            if text is not None:
                return text
        name = self.name_of(value)
        if name is not None:
            return name
        mapping = next((m for m in self._mappings if m.start <= value < m.end), None)
        if mapping is None:
            return None
        if mapping.path.startswith("["):
            return mapping.path.strip("[]").split(":")[0]
        offset = value - mapping.start + mapping.offset
        return f"{mapping.path}+{offset:#x}" if mapping.path else None

    def _string(self, value: int) -> str | None:
        for size in (MOST_TEXT, 16, 4):
            try:
                data = self.read(value, size)
            except ReadError:
                continue
            text = data.split(b"\0", 1)[0].decode("utf-8", "replace")
            more = "" if b"\0" in data else "..."
            return f'"{text}"{more}' if text.isprintable() and text else None
        return None
