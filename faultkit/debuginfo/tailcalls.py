"""Frames that are not on the stack, as their functions ended with a jump to another: tail calls."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.debuginfo.lookup import Lookup
from faultkit.decode.model import Decoded

MOST_CHECKED = 16  # pairs of frames that don't fit, of one trace


def note_elided(frames: Sequence[Decoded], files: Sequence[Lookup]) -> None:
    """Note at a frame which function, called by the frame above it, jumped to it.

    A caller's call tells whom it called; if that is another function, which is known to end with
    a jump to the one that runs, its frame was elided.
    """
    by_path = {file.path: file for file in files}
    pairs = [
        (callee, caller)
        for callee, caller in _neighbours(frames)
        if not caller.exact and caller.place is not None and caller.debug_file in by_path
    ]
    called: dict[tuple[str, int], str | None] = {}
    for path, file in by_path.items():
        places = [c.place for _, c in pairs if c.debug_file == path and c.place is not None]
        called.update({(path, at): name for at, name in file.callees(places).items()})
    odd = []
    for callee, caller in pairs:
        name = called.get((caller.debug_file or "", caller.place or 0))
        if name is not None and not _is(callee, name, files):
            odd.append((callee, name, by_path[caller.debug_file or ""]))
    if len(odd) > MOST_CHECKED or 2 * len(odd) > len(pairs):
        return  # that is no stack
    for callee, name, file in odd:
        way = _way(name, _base(callee.symbol), [file, *(f for f in files if f is not file)])
        if way:
            gone = " and ".join(way)
            callee.notes.append(f"called by way of {gone}, elided: a tail call, a jump to here")


def _neighbours(frames: Sequence[Decoded]) -> list[tuple[Decoded, Decoded]]:
    """Callees and their callers: doubtful frames left out."""
    sure = [frame for frame in frames if not frame.unreliable]
    return [pair for pair in zip(sure, sure[1:]) if pair[0].symbol is not None]


def _is(callee: Decoded, name: str, files: Sequence[Lookup]) -> bool:
    """Whether a frame is of the function of that name, or of one at the same place."""
    outermost = callee.inlines[-1].function if callee.inlines else None
    if name in (_base(callee.symbol), outermost):
        return True
    if callee.place is None or callee.offset is None:
        return False
    start = callee.place - callee.offset
    file = next((file for file in files if file.path == callee.debug_file), None)
    symbols = file.symbols_named((name,))[name] if file is not None else []
    return any(symbol.address == start for symbol in symbols)


def _way(name: str, wanted: str, files: Sequence[Lookup]) -> tuple[str, ...]:
    """The functions by which tail calls lead from one to another, at most two; () if none do."""
    first = _tail_calls(name, files)
    if wanted in first:
        return (name,)
    for between in sorted(first)[:MOST_CHECKED]:
        if wanted in _tail_calls(between, files):
            return name, between
    return ()


def _tail_calls(name: str, files: Sequence[Lookup]) -> set[str]:
    for file in files:
        symbols = file.symbols_named((name,))[name]
        if len(symbols) == 1:
            address = symbols[0].address
            return {_base(each) for each in file.tail_calls((address,))[address]}
    return set()


def _base(symbol: str | None) -> str:
    """A symbol without what the compiler adds to a function's name."""
    return (symbol or "").partition(".")[0]
