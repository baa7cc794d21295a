"""`sigsrc --kernel`: the places that send a signal, as text and as plain objects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby

from faultkit.model import Report, SourceLine
from faultkit.render.escape import clean
from faultkit.render.page import Page
from faultkit.render.style import Style
from faultkit.senders.functions import is_interface
from faultkit.senders.model import Place
from faultkit.signals.names import code_name, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MOST_SIGNALS = 4  # named of one place


def render_senders(report: Report, width: int, color: bool) -> str:
    """The report as text, lines at most `width` columns where they can be broken."""
    return _Text(report, width, Style(color)).render()


class _Text(Page):
    def __init__(self, report: Report, width: int, style: Style) -> None:
        super().__init__(width, style)
        self._report = report
        self._folder = _folder(report.senders)

    def render(self) -> str:
        report = self._report
        version = report.host.get("faultkit") or ""
        parts = [f"faultkit {version} sigsrc --kernel", clean(report.target["name"] or "?")]
        if report.target.get("release"):
            parts.append(f"Linux {clean(report.target['release'] or '', 80)}")
        self._line(" | ".join(parts))
        word = report.verdict.upper().replace("-", " ")
        self._wrapped("VERDICT: ", f"{word}: {clean(report.summary, 1000)}")
        chosen = report.senders[: report.counts["places"]]
        self._places("", chosen)
        self._places("  SEND WHAT THEY ARE TOLD", report.senders[len(chosen) :])
        self._line("")
        for limit in report.limits:
            self._wrapped("LIMIT: ", clean(limit, 2000))
        self._wrapped("SUMMARY: ", clean(report.summary, 2000))
        return "\n".join(self._lines) + "\n"

    def _places(self, title: str, places: list[Place]) -> None:
        if title and places:
            self._line("")
            self._line(title)
        # What happens for one reason is said once; sites of one function lie side by side.
        ordered = sorted(places, key=lambda one: (one.when, one.function, one.address))
        for words, group in groupby(ordered, key=lambda one: one.when):
            self._line("")
            if words:
                self._wrapped("  ", f"{_capital(words)}:", "*white*")
            for one in group:
                self._line(f"    {self._place(one)}")

    def _place(self, place: Place) -> str:
        line = _source(place)
        name = clean(place.function, 80)
        inside = f" [{clean(place.module, 60)}]" if place.module else ""
        if line is None:
            return f"{name}{inside}: {_what(place)}  {'+' * bool(inside)}{place.address:#x}"
        if line.function and line.function != place.function:
            name = f"{clean(line.function, 80)} in {name}"
        file = (line.file or "").removeprefix(self._folder)
        return f"{name}{inside}: {_what(place)}  {clean(file, 120)}:{line.line}"


def _capital(words: str) -> str:
    """With a capital, unless they begin with a name of C's."""
    return words[0].upper() + words[1:] if words.partition(" ")[0].isalpha() else words


def _what(place: Place) -> str:
    """The call as it stands in the source, as far as it is known."""
    names = [signal_name(number) for number in place.signals[:MOST_SIGNALS]]
    if len(place.signals) > MOST_SIGNALS:
        names.append("...")
    if place.open:
        names.append("*")
    said = "|".join(names)
    number = place.signals[0] if place.signals else 0
    codes = "|".join(code_name(number, code) for code in place.codes)
    if place.call is None:
        return f"marks {said} as pending"
    return f"{clean(place.call, 80)}({said}{', ' * bool(codes)}{codes})"


def _source(place: Place) -> SourceLine | None:
    """The line that a reader looks for: the innermost one of a function that is no interface for
    sending signals, nor in a header."""
    chain = [one for one in place.lines if one.file and one.line]
    for one in chain:
        if not (one.file or "").endswith(".h") and not is_interface(one.function or ""):
            return one
    return chain[-1] if chain else None


def _folder(places: Sequence[Place]) -> str:
    """What the paths of all files begin with: where the kernel was built."""
    files = {one.file for place in places for one in place.lines if one.file}
    try:
        common = os.path.commonpath(files) if len(files) > 1 else ""
    except ValueError:  # some are absolute
        return ""
    return f"{common}/" if common else ""


def place_object(place: Place) -> dict[str, Any]:
    """One place; the address is the vmlinux's own, without KASLR, a hex string."""
    number = place.signals[0] if place.signals else 0
    first = place.lines[0] if place.lines else None
    return {
        "type": place.type,
        "function": clean(place.function, 200),
        "module": clean(place.module, 100) if place.module else None,
        "address": f"{place.address:#x}",
        "signals": [signal_name(one) for one in place.signals],
        "codes": [code_name(number, code) for code in place.codes],
        "any": bool(place.open),
        "call": place.call,
        "way": list(place.way),
        "when": place.when or None,
        "why_open": list(place.open),
        "file": first.file if first else None,
        "line": first.line if first else None,
        "inlines": [
            {"function": one.function, "file": one.file, "line": one.line, "column": one.column}
            for one in place.lines
        ],
    }
