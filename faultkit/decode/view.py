"""From frames with their addresses to frames with source, code and values: what `kdecode` shows.

A host says what the target's memory, names and debug files are (`Subject`); the rest is the same
for a dump, a live program and a pasted oops.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence

from faultkit.debuginfo.debugfile import BROKEN, Near
from faultkit.debuginfo.linetable import LineTable
from faultkit.decode.disassembly import Piece, disassemble, window
from faultkit.decode.model import Decoded, Instruction
from faultkit.decode.operand import explain
from faultkit.decode.patches import REST, Original, mark
from faultkit.decode.source import Sources
from faultkit.decode.values import Code, Describe, FrameView
from faultkit.options.kdecode import KdecodeArguments
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, ReadError

MASK = (1 << 64) - 1
FAR = 4096  # bytes from a function's start to an address, up to which all of it is decoded
BEFORE = 16  # bytes for each instruction before an address in a function longer than that
BEHIND = 12
_FILLERS = ("int3", "nop", "xchg %ax,%ax", "data16", "cs nop")
SLACK = 16  # bytes behind a window that its last instruction may have had in the file


class Wanted(NamedTuple):
    """What is to be shown: `context` is lines of source before and behind, and half as many
    instructions as are shown on each side."""

    source: bool = True
    disassembly: bool = True
    values: bool = True
    context: int = 4

    @property
    def instructions(self) -> int:
        """Instructions before and behind the current one."""
        return max(2 * self.context, 1)


def wanted_by(arguments: KdecodeArguments) -> Wanted:
    """What the words of a command ask for."""
    full = arguments.full
    return Wanted(
        full and not arguments.no_source,
        full and not arguments.no_dis,
        full,
        arguments.context,
    )


class Subject:
    """What the frames are of.  All but `read` may know nothing."""

    def __init__(self, read: Callable[[int, int], bytes], sources: Sources) -> None:
        self.read = read
        self.sources = sources

    def name_of(self, address: int) -> str | None:
        """ "symbol" or "symbol+0x10" for an address of code or data."""
        return None

    def names_of(self, addresses: Iterable[int]) -> Mapping[int, str | None]:
        """The same of many at once."""
        return {address: self.name_of(address) for address in addresses}

    def original(self, start: int, size: int) -> Original | None:
        """The bytes that the file has where `size` bytes of the target's code are."""
        return None

    @property
    def describe(self) -> Describe | None:
        """Says what a pointer points to."""
        return None


class Shown(NamedTuple):
    """A frame to be dressed: `decoded` is filled in; `view` has its registers and its place in
    debug information; `faulted` tells an exception that the instruction itself brought about;
    `fault_address` is what the exception reported."""

    decoded: Decoded
    view: FrameView
    faulted: bool = False
    fault_address: int | None = None


def dress(frames: Sequence[Shown], subject: Subject, wanted: Wanted) -> list[str]:
    """Fill in the frames' inline chains, source, code, values and notes.  Returns what could not
    be done for any of them, each with its remedy."""
    limits: list[str] = []
    _chains(frames)
    if wanted.source:
        _source(frames, subject.sources, wanted.context, limits)
    if wanted.disassembly or any(frame.faulted for frame in frames):
        try:
            _code(frames, subject, wanted)
        except FaultkitError as error:
            limits.append(str(error))
    if wanted.values:
        for frame in frames:
            if not frame.view.context.registers:
                continue
            arguments, local = frame.view.values(subject.describe)
            frame.decoded.arguments, frame.decoded.locals = arguments, local
    for frame in frames:
        if frame.faulted:
            current = next((i for i in frame.decoded.instructions if i.current), None)
            if current is not None:
                frame.decoded.notes += explain(frame.view, current.text, frame.fault_address)
        if not wanted.disassembly:
            frame.decoded.instructions = []
    return limits


def _chains(frames: Sequence[Shown]) -> None:
    """The inline chains of frames that have none yet: of each file all at once."""
    by_file: dict[int, tuple[Code, list[Shown]]] = {}
    for frame in frames:
        code = frame.view.code
        if code is not None and not frame.decoded.inlines:
            by_file.setdefault(id(code.file), (code, []))[1].append(frame)
    for code, some in by_file.values():
        try:
            chains = code.file.chains([frame.view.place for frame in some])
        except FaultkitError as error:
            for frame in some:
                frame.decoded.notes.append(str(error))
            continue
        for frame in some:
            frame.decoded.inlines = list(chains.get(frame.view.place, ()))
            frame.decoded.place = frame.view.place
            frame.decoded.debug_file = code.file.path


def _source(frames: Sequence[Shown], sources: Sources, context: int, limits: list[str]) -> None:
    told: set[str] = set()
    for frame in frames:
        decoded = frame.decoded
        decoded.inline_text = [
            _line(sources, inline.file, inline.line) for inline in decoded.inlines
        ]
        if not decoded.inlines:
            continue
        inner = decoded.inlines[0]
        if inner.file and inner.line:
            decoded.source = sources.window(inner.file, inner.line, context)
        here = [i for i in decoded.inlines if i.file is not None and sources.find(i.file)]
        declared = _declared(frame.view) if here else {}
        for inline in here:
            if inline.file is None or inline.function is None:
                continue
            wrong = sources.mismatch(
                inline.file, inline.line, inline.function, declared.get(inline.function)
            )
            if wrong and wrong not in told and len(told) < 4:
                told.add(wrong)
                limits.append(f"the source does not match the build: {wrong}; give the right one "
                              "with --source DIR")  # fmt: skip
    missing = [f for f in frames if f.decoded.inlines and not f.decoded.source]
    if missing and len(missing) == len([f for f in frames if f.decoded.inlines]):
        limits.append("no source: it is not on this machine; give its tree with --source DIR")


def _declared(view: FrameView) -> dict[str, int]:
    """The lines at which the functions of a frame are declared."""
    known = view.code.file.declared.get(view.place) if view.code is not None else None
    if known is None:
        known = view.scope.declared if view.scope is not None else {}
    return known


def _line(sources: Sources, file: str | None, line: int | None) -> str | None:
    found = sources.window(file, line, 0) if file and line else []
    return found[0][1].strip() if found else None


def _code(frames: Sequence[Shown], subject: Subject, wanted: Wanted) -> None:
    pieces: list[Piece] = []
    whose: list[Shown] = []
    for frame in frames:
        if not wanted.disassembly and not frame.faulted:
            continue
        piece = _piece(frame.view, wanted.instructions)
        if piece is not None:
            pieces.append(piece)
            whose.append(frame)
    if not pieces:
        return
    found = disassemble(pieces, subject.names_of)
    windows: list[tuple[Shown, list[Instruction]]] = []
    for frame, instructions in zip(whose, found):
        view = frame.view
        shown = window(instructions, view.address, view.exact, wanted.instructions)
        if shown and view.start is not None:
            end = shown[-1].address + len(shown[-1].bytes)
            original = subject.original(view.start, end - view.start + SLACK)
            if original is not None:
                shown = [
                    instruction
                    for instruction in mark(shown, original, subject.name_of)
                    if instruction.current or not _is_filler(instruction)
                ]
        windows.append((frame, shown))
    _group(windows)
    for frame, shown in windows:
        frame.decoded.instructions = shown


def _is_filler(instruction: Instruction) -> bool:
    """Whether it only fills what a shorter instruction left of the one that it was patched over."""
    fills = instruction.text.startswith(_FILLERS)
    return fills and (instruction.note or "").endswith(REST)


def _piece(view: FrameView, around: int) -> Piece | None:
    """The code to decode for a frame: from its function's start, or, in a long one, from where
    its lines say that an instruction begins."""
    end = view.address + BEHIND * around
    if view.end is not None and view.address <= view.end:
        end = min(end, view.end)
    start = view.start
    if start is None:
        start = view.address if view.exact else view.address - 5
    elif view.address - start > FAR:
        start = _near(view, view.address - BEFORE * around) or start
    for stop in (end, view.address + 16, view.address):
        try:
            data = view.read(start, stop - start) if stop > start else b""
            return Piece(start, data, view.address - BEFORE * (around + 1)) if data else None
        except ReadError:
            continue
    return None


def _near(view: FrameView, wanted: int) -> int | None:
    """An address before `wanted`, near it, at which an instruction begins by the line table."""
    if view.code is None:
        return None
    near = view.code.file.near.get(view.place, ())
    # Where the known lines begin need not be where an instruction does.
    starts = [start - view.code.shift & MASK for start, file, _ in near[1:] if file]
    before = [start for start in starts if start <= view.address - 5]
    return next((start for start in before if start >= wanted), max(before, default=None))


def _group(windows: list[tuple[Shown, list[Instruction]]]) -> None:
    """Give each instruction its file and line."""
    for index, (frame, shown) in enumerate(windows):
        rows = _rows(frame.view, [instruction.address for instruction in shown])
        windows[index] = frame, [
            instruction._replace(file=rows[instruction.address][0],
                                 line=rows[instruction.address][1])
            if instruction.address in rows
            else instruction
            for instruction in shown
        ]  # fmt: skip


def _rows_near(
    known: Near, addresses: list[int], shift: int
) -> dict[int, tuple[str | None, int | None, bool]]:
    starts = [start for start, _, _ in known]
    found = {}
    for address in addresses:
        place = address + shift & MASK
        index = bisect_right(starts, place) - 1
        if index >= 0:
            start, file, line = known[index]
            found[address] = file, line, start == place
    return found


def _rows(view: FrameView, addresses: list[int]) -> dict[int, tuple[str | None, int | None, bool]]:
    """(file, line, whether a row begins there) of code addresses."""
    code = view.code
    if code is None or not addresses:
        return {}
    known = code.file.near.get(view.place, ())
    first, last = min(addresses), max(addresses)
    around = code.file.around
    if known and abs(view.address - first) < around > abs(last - view.address):
        return _rows_near(known, addresses, code.shift)
    try:
        offset = code.file.debug.unit_at(view.place)
        if offset is None:
            return {}
        unit, _ = code.file.debug.unit(offset)
        table = unit.__dict__.get("_table")
        if table is None:
            table = unit.__dict__["_table"] = LineTable(unit)
        rows = table.rows(sorted(address + code.shift & MASK for address in addresses))
        found: dict[int, tuple[str | None, int | None, bool]] = {}
        before = None
        for address in sorted(addresses):
            row = rows.get(address + code.shift & MASK)
            if row is not None:
                found[address] = table.path(row.file), row.line or None, row != before
            before = row
        return found
    except BROKEN:
        return {}
