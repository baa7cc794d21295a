"""Back traces as gdb unwinds them: frames with their functions, lines, and registers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import gdb

from faultkit.model import Frame, SourceLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PRESERVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")  # callee-saved: unwinding recovers them


def unwind(frame: gdb.Frame | None, limit: int, preserved: Sequence[str]) -> Iterator[Frame]:
    """At most `limit` frames from this one outwards, of the selected thread, inlined ones as lines
    of the frame they are in; with the registers named, as far as gdb knows them."""
    inlines: list[SourceLine] = []
    index = 0
    try:
        while frame is not None and index < limit:
            name = told(frame.name)
            inlines.append(_source_line(frame, name))
            if frame.type() != gdb.INLINE_FRAME:
                registers = registers_of(frame, ("rsp", *preserved))
                yield _frame(index, frame, name, tuple(inlines), registers)
                inlines = []
                index += 1
            frame = frame.older()
    except gdb.error:
        return  # the stack is broken from here on: what was found stands


def _frame(
    index: int,
    frame: gdb.Frame,
    name: str | None,
    inlines: tuple[SourceLine, ...],
    registers: dict[str, int],
) -> Frame:
    pc = frame.pc()
    function = frame.function()
    symbol = symbol_of(pc) if function is None or not name else None
    start = None
    if function is not None:
        start = int(function.value().address)
    elif symbol is not None:
        start = pc - symbol[1]
    if not name and symbol is not None:
        name = symbol[0]
    if frame.type() == gdb.SIGTRAMP_FRAME:
        name = "<signal handler called>"
    return Frame(
        index,
        pc,
        name,
        pc - start if start is not None else None,
        told(lambda: gdb.solib_name(pc) or gdb.current_progspace().filename),
        inlines,
        registers.get("rsp"),
        start,
        registers,
    )


def symbol_of(address: int) -> tuple[str, int, int | None] | None:
    """(name, offset, None) of the symbol that gdb prints an address with; None if it has none."""
    text = _printed(address)
    if "<" not in text:
        # Rust and Ada have no `void`, and Pascal shows no symbols with its pointers
        try:
            text = in_c(f"with print symbol on -- output (void *) {address:#x}")
        except gdb.error:
            return None
    text = text.partition("<")[2]  # "0x4040c0 <accounts+64>"
    if len(text) < 2 or not text.endswith(">"):
        return None
    text = text[:-1]
    name, _, offset = text.rpartition("+")
    return (name, int(offset), None) if name and offset.isdecimal() else (text, 0, None)


def _printed(address: int) -> str:
    """The address as a pointer in the selected frame's language: faster than any command."""
    try:
        value = gdb.Value(address).cast(gdb.lookup_type("void").pointer())
        return told(lambda: value.format_string(symbols=True)) or ""
    except (gdb.error, OverflowError, TypeError):
        return ""


def in_c(command: str) -> str:
    """What a command prints; its words are C's whatever the selected frame is written in.
    Raises gdb.error."""
    return told(lambda: gdb.execute(f"with language c -- {command}", to_string=True)) or ""


def registers_of(frame: gdb.Frame, names: Sequence[str]) -> dict[str, int]:
    """Those of the frame's registers that gdb knows."""
    registers = {}
    for name in names:
        try:
            value = frame.read_register(name)
            if not value.is_optimized_out:
                registers[name] = unsigned(value)
        except (gdb.error, ValueError):
            continue
    return registers


def unsigned(value: Any) -> int:
    """A gdb.Value of 64 bits as an unsigned number."""
    return int(value) & 0xFFFFFFFFFFFFFFFF


def _source_line(frame: gdb.Frame, name: str | None) -> SourceLine:
    place = frame.find_sal()
    symtab = place.symtab if place is not None else None
    file = told(lambda: symtab.filename) if symtab is not None else None
    line = place.line if file is not None and place.line else None
    return SourceLine(name, file, line)


def told(ask: Callable[[], str | None]) -> str | None:
    """What gdb answers, also where the bytes are not in its host-charset: a name in UTF-8 while
    the locale is C, or bytes in no charset at all.  Those that are not UTF-8 become \\xNN."""
    try:
        return ask()
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "backslashreplace")
