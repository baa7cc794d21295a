"""Colour and tables, by pygments and tabulate; without them the same text, plainer."""

from collections.abc import Sequence
from typing import Optional


class Style:
    """How a report is dressed.  `missing` names the packages that would do it better."""

    def __init__(self, color: bool) -> None:
        self.missing: list[str] = []
        self._color = color
        if color:
            try:
                import pygments.console  # noqa: F401
            except ImportError:
                self._color = False
                self.missing.append("pygments")

    def paint(self, color: str, text: str) -> str:
        """`text` in a colour of pygments.console ("*red*" is bold red), if colours are on."""
        if not self._color or not text:
            return text
        from pygments.console import ansiformat

        painted: str = ansiformat(color, text)
        return painted

    def source(self, text: str, file: str) -> str:
        """A line of source, highlighted if colours are on and its language is known."""
        if not self._color:
            return text
        from pygments import highlight
        from pygments.formatters.terminal import TerminalFormatter
        from pygments.lexers import get_lexer_for_filename
        from pygments.util import ClassNotFound

        try:
            lexer = get_lexer_for_filename(file)
        except ClassNotFound:
            return text
        painted: str = highlight(text, lexer, TerminalFormatter()).rstrip("\n")
        return painted

    def table(self, rows: Sequence[Sequence[str]]) -> Optional[list[str]]:
        """The rows as aligned lines, None without tabulate."""
        try:
            from tabulate import tabulate
        except ImportError:
            if "tabulate" not in self.missing:
                self.missing.append("tabulate")
            return None
        table: str = tabulate(rows, tablefmt="plain", disable_numparse=True)
        return [line.rstrip() for line in table.splitlines()]
