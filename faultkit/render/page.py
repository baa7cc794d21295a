"""A report's lines: as wide as they may be, broken where they are wider; and those that the
reports of all commands begin and end with."""

import textwrap

from faultkit.model import Report
from faultkit.render.escape import clean
from faultkit.render.style import Style, how_to_install, printed_length

VERDICT_COLORS = {"found": "*brightred*", "not-found": "green", "inconclusive": "*yellow*"}


def header(report: Report) -> str:
    """A report's first line: the command, what was looked at, and by which host."""
    parts = [" ".join(("faultkit", report.host.get("faultkit") or "", report.command))]
    kind, name = report.target.get("kind") or "", clean(report.target.get("name") or "?")
    word = {"text": "file", "live-kernel": ""}.get(kind, kind)
    parts.append(name if name.startswith(word) else f"{word} {name}")
    if report.target.get("release"):
        parts.append(f"Linux {clean(report.target['release'] or '', 80)}")
    if report.host.get("name"):
        version = (report.host.get("version") or "").rpartition(" ")[2]
        parts.append(f"{report.host['name']} {version}".strip())
    if report.paused_seconds is not None:
        parts.append(f"paused for {report.paused_seconds:.2f} s")
    return " | ".join(parts)


class Page:
    """Lines of at most `width` columns where they can be broken, in one style."""

    def __init__(self, width: int, style: Style) -> None:
        self._width = max(width, 60)
        self._style = style
        self._lines: list[str] = []

    def _line(self, text: str) -> None:
        """A line as it is, continued below, further in, where it is too long."""
        if printed_length(text) <= self._width:
            self._lines.append(text)
            return
        margin = " " * (len(text) - len(text.lstrip(" ")) + 4)
        self._lines += textwrap.wrap(
            text,
            self._width + len(text) - printed_length(text),
            subsequent_indent=margin,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _wrapped(self, label: str, text: str, color: str = "") -> None:
        """A labelled line, continued under its text where it is too long."""
        room = self._width - len(label)
        lines = [text]
        if len(text) > room:
            lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
        for number, line in enumerate(lines):
            lead = label if number == 0 else " " * len(label)
            self._lines.append(lead + self._style.paint(color, line))

    def _end(self, report: Report) -> str:
        """The page with what stands below the findings: notes, limits, the summary."""
        for note in report.notes:
            self._wrapped("NOTE: ", clean(note, 2000))
        for limit in report.limits:
            self._wrapped("LIMIT: ", clean(limit, 2000))
        for package in self._style.missing:
            self._line(f"PLAIN: {package} is not installed; {how_to_install(package)}")
        self._wrapped("SUMMARY: ", clean(report.summary, 2000))
        return "\n".join(self._lines) + "\n"
