"""`kdecode --brief`: one line a frame, to paste in a ticket."""

from __future__ import annotations

import os

from faultkit.decode.model import Decoded, Inline, Trace
from faultkit.model import Report
from faultkit.render.escape import clean
from faultkit.render.paths import short_path
from faultkit.render.style import Style


def render_brief(report: Report, width: int, color: bool) -> str:
    """The frames of each trace, then what could not be seen.  Lines are not broken."""
    style = Style(color)
    lines: list[str] = []
    for trace, frames in report.traces:
        if lines:
            lines.append("")
        title = title_of(trace)
        if title:
            lines.append(style.paint("*white*", title))
        lines += [f"  ({clean(note, 400)})" for note in trace.notes]
        widest = max((len(_head(frame)) for frame in frames), default=0)
        for frame in frames:
            lines.append(_line(frame, min(widest, 60), style))
    if report.limits or report.notes:
        lines.append("")
    lines += [f"NOTE: {clean(note, 400)}" for note in report.notes]
    lines += [f"LIMIT: {clean(limit, 400)}" for limit in report.limits]
    return "\n".join(lines) + "\n"


def title_of(trace: Trace) -> str:
    """What the trace is of; "" if that is not known."""
    words = [clean(trace.title, 200)] if trace.title else []
    if trace.task is not None and trace.task not in trace.title:
        words.append(f'task {trace.pid} "{clean(trace.task, 40)}"')
    if trace.cpu is not None and f"CPU: {trace.cpu}" not in trace.title:
        words.append(f"CPU {trace.cpu}")
    return ", ".join(words)


def _line(frame: Decoded, width: int, style: Style) -> str:
    head = _head(frame)
    told = " < ".join(_place(inline, frame.symbol, style) for inline in frame.inlines)
    if not told and not frame.notes:
        told = "(no line)"
    told += "".join(f" ({clean(note, 300)})" for note in frame.notes)
    return f" {head:{width}}  {told}".rstrip()


def _head(frame: Decoded) -> str:
    name = f"{frame.address:#x}" if frame.symbol is None else clean(frame.symbol, 120)
    if frame.symbol is not None and frame.offset is not None:
        name += f"+{frame.offset:#x}" + (f"/{frame.size:#x}" if frame.size else "")
    module = f" [{clean(os.path.basename(frame.module), 60)}]" if frame.module else ""
    return f"#{frame.index:<2} {'? ' if frame.unreliable else ''}{name}{module}"


def _place(inline: Inline, symbol: str | None, style: Style) -> str:
    """Where, and in which function if that is not the symbol."""
    where = "(no line)"
    if inline.file is not None:
        where = clean(short_path(inline.file), 200) + (f":{inline.line}" if inline.line else "")
    where = style.paint("green", where)
    named = inline.function is not None and inline.function != symbol
    return where + (f" {clean(inline.function or '', 80)}" if named else "")
