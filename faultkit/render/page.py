"""A report's lines: as wide as they may be, broken where they are wider."""

import textwrap

from faultkit.render.style import Style, printed_length


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
        lines = textwrap.wrap(
            text,
            self._width - len(label),
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
        for number, line in enumerate(lines):
            lead = label if number == 0 else " " * len(label)
            self._lines.append(lead + self._style.paint(color, line))
