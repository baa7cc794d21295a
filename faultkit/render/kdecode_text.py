"""`kdecode`'s frames for a terminal: chain, values, source and code, one frame after the other."""

from __future__ import annotations

import os
from collections.abc import Sequence

from faultkit.decode.model import Decoded, DecodedTrace, Instruction, Value
from faultkit.model import Report
from faultkit.render.arrows import arrows
from faultkit.render.escape import clean
from faultkit.render.page import Page, header
from faultkit.render.paths import short_path
from faultkit.render.style import Style

_PREFIXES = frozenset(("cs", "ds", "es", "ss", "lock", "rep", "repz", "repnz", "data16", "bnd",
                       "notrack"))  # fmt: skip
MOST_VALUES = 40  # of one frame
MOST_BYTES = 8  # of an instruction that are shown
WIDE = 96  # characters of a line of source


def render_kdecode(report: Report, width: int, color: bool) -> str:
    """The report as text, lines at most `width` columns where they can be broken."""
    return _Text(report, width, Style(color)).render()


class _Text(Page):
    def __init__(self, report: Report, width: int, style: Style) -> None:
        super().__init__(width, style)
        self._report = report

    def render(self) -> str:
        report = self._report
        self._line(header(report))
        self._wrapped("VERDICT: ", verdict(report), verdict_color(report))
        for trace in report.traces:
            self._trace(trace)
        self._line("")
        return self._end(report)

    def _trace(self, decoded: DecodedTrace) -> None:
        trace = decoded.trace
        title = trace_title(decoded)
        if title:
            self._line("")
            self._wrapped("TRACE: ", title, "*white*")
        for note in trace.notes:
            self._wrapped("  ", clean(note, 1000))
        for frame in decoded.frames:
            self._line("")
            self._frame(frame)

    def _frame(self, frame: Decoded) -> None:
        self._line(self._style.paint("*white*", frame_head(frame)))
        for index, inline in enumerate(frame.inlines):
            text = frame.inline_text[index] if index < len(frame.inline_text) else None
            name = clean(inline.function or "??", 80)
            more = " (inlined)" if index + 1 < len(frame.inlines) else ""
            place = where(inline.file, inline.line, inline.column)
            said = f"   {name}{more}  {self._style.paint('green', place)}"
            if text and index:  # the first one's stands in the source
                said += f"  {self._source(text.strip(), inline.file)}"
            self._lines.append(said)
        for note in frame.notes:
            self._wrapped("   NOTE: ", clean(note, 1000), "*yellow*")
        self._values("ARGUMENTS", frame.arguments)
        self._values("LOCALS", frame.locals)
        if frame.source:
            self._lines.append("   SOURCE " + where(frame.inlines[0].file, None, None))
            self._window(frame)
        if frame.instructions:
            self._code(frame)

    def _values(self, label: str, values: Sequence[Value]) -> None:
        if not values:
            return
        self._line(f"   {label}")
        gone: dict[str | None, list[str]] = {}
        function: str | None = None
        for value in values[:MOST_VALUES]:
            if value.unavailable and value.unavailable.startswith("optimized out"):
                gone.setdefault(None, []).append(clean(value.name, 60))
                continue
            if value.function != function:
                function = value.function
                if function is not None:
                    self._line(f"     of {clean(function, 80)} (inlined)")
                else:
                    self._line("     of the function itself")
            self._value(value)
        for names in gone.values():
            self._wrapped("     optimized out: ", ", ".join(dict.fromkeys(names)))
        if len(values) > MOST_VALUES:
            self._line(f"     ... and {len(values) - MOST_VALUES} more")

    def _value(self, value: Value) -> None:
        name = self._style.paint("*white*", clean(value.name, 60))
        kind = clean(value.type or "?", 100)
        if value.unavailable:
            self._line(f"     {name}: unavailable, {clean(value.unavailable, 300)}  ({kind})")
            return
        text = f"     {name} = {clean(value.text or '?', 200)}"
        if value.meaning:
            text += f" {self._style.paint('green', '<' + clean(value.meaning, 120) + '>')}"
        text += f"  ({kind}; {clean(value.origin or '?', 120)})"
        self._line(text)

    def _window(self, frame: Decoded) -> None:
        inner = frame.inlines[0]
        lines = [clean(text, WIDE) for _, text in frame.source]
        painted = self._style.window(lines, inner.file or "")
        for (number, _), text in zip(frame.source, painted):
            mark = ">" if number == inner.line else " "
            self._lines.append(f"   {mark}{number:6}  {text}".rstrip())

    def _source(self, text: str, file: str | None) -> str:
        return self._style.window([clean(text, WIDE)], file or "")[0]

    def _code(self, frame: Decoded) -> None:
        self._line("   CODE")
        margins = arrows(frame.instructions)
        place: tuple[str | None, int | None] | None = None
        for instruction, margin in zip(frame.instructions, margins):
            if (instruction.file, instruction.line) != place:
                place = instruction.file, instruction.line
                if instruction.file is not None:
                    said = where(instruction.file, instruction.line, None)
                    self._lines.append("     " + self._style.paint("green", said))
            self._lines.append(self._instruction(instruction, margin))

    def _instruction(self, instruction: Instruction, margin: str) -> str:
        mark = "=>" if instruction.current else "  "
        raw = instruction.bytes[:MOST_BYTES].hex(" ")
        raw += ".." if len(instruction.bytes) > MOST_BYTES else ""
        mnemonic, _, rest = clean(instruction.text, 120).partition(" ")
        while mnemonic in _PREFIXES and rest:
            following, _, rest = rest.partition(" ")
            mnemonic += f" {following}"
        color = "*yellow*" if instruction.current else "blue"
        text = self._style.paint(color, f"{mnemonic:6}") + f" {rest}" * bool(rest)
        note = ""
        if instruction.note:
            note = self._style.paint("cyan", f" <{clean(instruction.note, 160)}>")
        line = f"   {mark} {margin}{instruction.address:x}  {raw:26}{text}{note}"
        return line.rstrip()


def verdict(report: Report) -> str:
    """How much was decoded, in words."""
    frames = [frame for trace in report.traces for frame in trace.frames]
    lined = sum(1 for frame in frames if any(inline.line for inline in frame.inlines))
    count = f"{len(frames)} frame" + "s" * (len(frames) != 1)
    if not frames:
        return "INCONCLUSIVE: there is no back trace to decode"
    if lined == len(frames):
        return f"DECODED: {count}"
    if lined:
        return f"DECODED: {lined} of {count} have source lines"
    return f"INCONCLUSIVE: {count}, none has a source line"


def verdict_color(report: Report) -> str:
    """The colour that goes with it."""
    return {"found": "green", "not-found": "*yellow*"}.get(report.verdict, "*yellow*")


def trace_title(decoded: DecodedTrace) -> str:
    """What the trace is of; "" if that is not known."""
    trace = decoded.trace
    words = [clean(trace.title, 300)] if trace.title else []
    if trace.task or trace.pid is not None:
        task = f'"{clean(trace.task or "?", 40)}"'
        words.append(f"task {trace.pid if trace.pid is not None else '?'} {task}")
    if trace.cpu is not None:
        words.append(f"CPU {trace.cpu}")
    return ", ".join(words)


def frame_head(frame: Decoded) -> str:
    """The frame's first line: number, address, symbol."""
    name = clean(frame.symbol, 120) if frame.symbol else "??"
    if frame.symbol and frame.offset is not None:
        name += f"+{frame.offset:#x}"
        if frame.size:
            name += f"/{frame.size:#x}"
    module = f" [{clean(os.path.basename(frame.module), 60)}]" if frame.module else ""
    doubt = "? " if frame.unreliable else ""
    address = f"{frame.address:#x} " if frame.placed else ""
    return f"#{frame.index:<2} {address}{doubt}{name}{module}"


def where(file: str | None, line: int | None, column: int | None) -> str:
    """ "kernel/sched/core.c:6660:3"."""
    if not file:
        return "(no source line)"
    text = clean(short_path(file), 160)
    if line:
        text += f":{line}" + (f":{column}" if column else "")
    return text
