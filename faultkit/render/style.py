"""Colour and tables, by pygments and tabulate; without them the same text, plainer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


GAP = "  "  # between columns
FEW = 8  # rows that need no tabulate, whose import takes longer than the diagnosis of a process


def how_to_install(package: str) -> str:
    """The command that installs a package for this Python: pip's, or the distribution's where
    that keeps pip out (PEP 668)."""
    mark = os.path.join(os.path.dirname(os.__file__), "EXTERNALLY-MANAGED")
    if not os.path.exists(mark):
        return f"python3 -m pip install {package}"
    if os.path.exists("/etc/debian_version"):
        return f"apt-get install python3-{package}"
    return f"install your distribution's python3-{package}"


def lexer_for(file: str) -> Any:
    """The lexer of pygments for a file of that name, made once; None if there is none.  It keeps
    blank lines, so that lines can be told apart afterwards."""
    ending = os.path.splitext(file)[1] or os.path.basename(file)
    if ending not in _LEXERS:
        from pygments.lexers import get_lexer_for_filename
        from pygments.lexers.c_cpp import CLexer
        from pygments.util import ClassNotFound

        try:
            if ending in (".c", ".h"):  # without looking through all there are
                c_lexer: Any = CLexer
                _LEXERS[ending] = c_lexer(stripnl=False)
            else:
                _LEXERS[ending] = get_lexer_for_filename(file, stripnl=False)
        except ClassNotFound:
            _LEXERS[ending] = None
    return _LEXERS[ending]


_LEXERS: dict[str, Any] = {}


def inside_comment(text: str) -> bool:
    """Whether lines of C begin inside a comment, as its end shows."""
    end, begin = text.find("*/"), text.find("/*")
    return end >= 0 and not 0 <= begin < end


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

        lexer = lexer_for(file)
        if lexer is None:
            return text
        painted: str = highlight(text, lexer, TerminalFormatter()).rstrip("\n")
        return painted

    def window(self, lines: Sequence[str], file: str) -> list[str]:
        """Lines of source that follow each other, highlighted as in `source`.

        A window may begin inside a comment, which only its end shows.
        """
        if not self._color or not lines:
            return list(lines)
        text = "\n".join(lines)
        inside = inside_comment(text)
        painted = self.source("/*\n" * inside + text + "\n", file).split("\n")[inside:]
        return painted if len(painted) == len(lines) else list(lines)

    def table(self, rows: Sequence[Sequence[str]], width: int) -> list[str] | None:
        """The rows as aligned lines; None if they are wider than `width` columns, or without
        tabulate."""
        if not _is_installed("tabulate"):
            if "tabulate" not in self.missing:
                self.missing.append("tabulate")
            return None
        widths = [max(map(printed_length, column)) for column in zip(*rows)]
        if sum(widths) + len(GAP) * (len(widths) - 1) > width:
            return None
        if len(rows) <= FEW:
            return [_aligned(row, widths) for row in rows]
        from tabulate import tabulate

        table: str = tabulate(rows, tablefmt="plain", disable_numparse=True)
        return [line.rstrip() for line in table.splitlines()]


def _is_installed(package: str) -> bool:
    """Whether the package can be imported, without doing it.  One that is missing may be
    installed before the next report."""
    if package not in _INSTALLED:
        try:
            if find_spec(package) is None:
                return False
        except (ImportError, ValueError):
            return False
        _INSTALLED.add(package)
    return True


_INSTALLED: set[str] = set()


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell + " " * (width - printed_length(cell)) for cell, width in zip(row, widths))
    return GAP.join(cells).rstrip()


def printed_length(line: str) -> int:
    """Columns without the escape sequences that colours add."""
    if "\x1b" not in line:
        return len(line)
    import re

    return len(re.sub("\x1b\\[[0-9;]*m", "", line))
