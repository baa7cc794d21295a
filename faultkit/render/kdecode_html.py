"""`kdecode --html`: one page that needs nothing else, with frames that fold.

The picture that people attach to a case: no script, no network, light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.decode.model import Decoded, DecodedTrace, Instruction, Value
from faultkit.model import Report
from faultkit.render.arrows import arrows
from faultkit.render.escape import clean
from faultkit.render.kdecode_text import frame_head, trace_title, verdict, where
from faultkit.render.page import header
from faultkit.render.style import inside_comment, lexer_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


OPEN = 3  # frames that are unfolded at first
WIDE = 160

_CSS = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #66707f; --line: #dde2ea; --back: #fff;
  --box: #f6f8fa; --mark: #fff3c4; --now: #b35900; --good: #13702d; --bad: #b3261e;
  --name: #0b4f9e }
@media (prefers-color-scheme: dark) { :root { --ink: #dce3ec; --soft: #8d98a8; --line: #2f3845;
  --back: #12161c; --box: #1a2029; --mark: #4a3d12; --now: #ffb454; --good: #7bd88f; --bad: #ff8a80;
  --name: #7db7ff } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 1.2rem 1.5rem 3rem; color: var(--ink);
  background: var(--back); font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 1.15rem; margin: 0 } h2 { font-size: 1rem; margin: 1.6rem 0 .5rem }
code, pre, table { font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, monospace }
.verdict { margin: .3rem 0 1rem; color: var(--good); font-weight: 600 }
.verdict.open { color: var(--now) }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; overflow: hidden }
summary { cursor: pointer; padding: .45rem .7rem; background: var(--box); overflow-wrap: anywhere }
summary b { color: var(--name) } summary span { color: var(--soft) }
.in { padding: .3rem .7rem .7rem; overflow-x: auto }
.chain { margin: .3rem 0; padding: 0; list-style: none } .chain li { margin: .1rem 0 }
.where { color: var(--good) } .soft { color: var(--soft) } .bad { color: var(--bad) }
.note { border-left: 3px solid var(--now); padding: .15rem .6rem; margin: .4rem 0 }
h3 { font-size: .78rem; letter-spacing: .05em; color: var(--soft); margin: .9rem 0 .2rem;
  text-transform: uppercase } h3 .where { text-transform: none }
pre { margin: 0; padding: .3rem 0; background: var(--box); border-radius: 4px; overflow-x: auto }
pre div { padding: 0 .6rem; white-space: pre; width: max-content; min-width: 100% }
pre .now { background: var(--mark) } pre .now .op { color: var(--now); font-weight: 700 }
pre .at { color: var(--good); padding-top: .25rem } .op { color: var(--name) }
table { border-collapse: collapse } td { padding: .08rem .9rem .08rem 0; vertical-align: top }
td:first-child { font-weight: 600 } .foot { margin-top: 2rem; color: var(--soft) }
@media print { details > .in { display: block } }
"""


def render_html(report: Report) -> str:
    """The page."""
    return _Html(report).render()


class _Html:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._parts: list[str] = []
        self._formatter = _formatter()

    def _add(self, *parts: str) -> None:
        self._parts += parts

    def render(self) -> str:
        report = self._report
        head = _text(header(report))
        style = _CSS + self._code_style()
        self._add(
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>",
            '<meta name=viewport content="width=device-width, initial-scale=1">',
            f"<title>{head}</title><style>{style}</style></head><body>",
            f"<h1>{head}</h1>",
            f'<p class="verdict{"" if report.verdict == "found" else " open"}">'
            f"{_text(verdict(report))}</p>",
        )
        for trace in report.traces:
            self._trace(trace)
        for label, lines in (("Note", report.notes), ("Limit", report.limits)):
            for line in lines:
                self._add(f"<p class=note><b>{label}:</b> {_text(clean(line, 2000))}</p>")
        self._add(f"<p class=foot>{_text(clean(report.summary, 2000))}</p></body></html>\n")
        return "\n".join(self._parts)

    def _trace(self, decoded: DecodedTrace) -> None:
        self._add(f"<h2>{_text(trace_title(decoded) or decoded.trace.kind)}</h2>")
        for note in decoded.trace.notes:
            self._add(f"<p class=note>{_text(clean(note, 1000))}</p>")
        for number, frame in enumerate(decoded.frames):
            self._frame(frame, number < OPEN or bool(frame.notes))

    def _frame(self, frame: Decoded, is_open: bool) -> None:
        place = ""
        if frame.inlines:
            inner = frame.inlines[0]
            place = f" <span>{_text(where(inner.file, inner.line, inner.column))}</span>"
        self._add(
            f"<details{' open' if is_open else ''}><summary><b>{_text(frame_head(frame))}</b>"
            f"{place}</summary><div class=in>"
        )
        if frame.inlines:
            self._chain(frame)
        for note in frame.notes:
            self._add(f"<p class=note>{_text(clean(note, 1000))}</p>")
        self._values("Arguments", frame.arguments)
        self._values("Locals", frame.locals)
        if frame.source:
            self._source(frame)
        if frame.instructions:
            self._code(frame)
        self._add("</div></details>")

    def _chain(self, frame: Decoded) -> None:
        self._add("<ul class=chain>")
        for index, inline in enumerate(frame.inlines):
            more = " <span class=soft>inlined into</span>" if index + 1 < len(frame.inlines) else ""
            self._add(
                f"<li><code>{_text(clean(inline.function or '??', 80))}</code> <code class=where>"
                f"{_text(where(inline.file, inline.line, inline.column))}</code>{more}</li>"
            )
        self._add("</ul>")

    def _values(self, label: str, values: Sequence[Value]) -> None:
        if not values:
            return
        self._add(f"<h3>{label}</h3><table>")
        for value in values:
            name = _text(clean(value.name, 60))
            if value.function:
                name += f" <span class=soft>of {_text(clean(value.function, 60))}</span>"
            if value.unavailable:
                why = _text(clean(value.unavailable, 300))
                said = f"<span class=soft>unavailable, {why}</span>"
                origin = ""
            else:
                said = _text(clean(value.text or "?", 240))
                if value.meaning:
                    said += f" <span class=where>{_text(clean(value.meaning, 160))}</span>"
                origin = _text(clean(value.origin or "", 160))
            kind = _text(clean(value.type or "?", 120))
            self._add(f"<tr><td>{name}<td>{said}<td class=soft>{kind}<td class=soft>{origin}</tr>")
        self._add("</table>")

    def _source(self, frame: Decoded) -> None:
        inner = frame.inlines[0]
        lines = [clean(text, WIDE) for _, text in frame.source]
        painted = self._painted(lines, inner.file or "")
        place = _text(where(inner.file, None, None))
        self._add(f"<h3>Source <span class=where>{place}</span></h3>")
        self._add("<pre>" + "".join(
            f"<div{' class=now' if number == inner.line else ''}>"
            f"<span class=soft>{number:6}</span>  {text}</div>"
            for (number, _), text in zip(frame.source, painted)
        ) + "</pre>")  # fmt: skip

    def _code(self, frame: Decoded) -> None:
        rows = []
        margins = arrows(frame.instructions)
        place: tuple[str | None, int | None] | None = None
        for instruction, margin in zip(frame.instructions, margins):
            if (instruction.file, instruction.line) != place:
                place = instruction.file, instruction.line
                if instruction.file is not None:
                    said = _text(where(instruction.file, instruction.line, None))
                    rows.append(f"<div class=at>{said}</div>")
            rows.append(_instruction(instruction, margin))
        self._add("<h3>Code</h3><pre>" + "".join(rows) + "</pre>")

    def _painted(self, lines: list[str], file: str) -> list[str]:
        lexer = lexer_for(file) if self._formatter is not None else None
        if lexer is None or self._formatter is None:
            return [_text(line) for line in lines]
        from pygments import highlight

        text = "\n".join(lines)
        inside = inside_comment(text)
        painted = highlight("/*\n" * inside + text + "\n", lexer, self._formatter).split("\n")
        painted = painted[inside : inside + len(lines)]
        return painted if len(painted) == len(lines) else [_text(line) for line in lines]

    def _code_style(self) -> str:
        if self._formatter is None:
            return ""
        light: str = self._formatter.get_style_defs("pre")
        dark: str = _formatter("monokai").get_style_defs("pre")
        return (
            f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n"
            "pre { background: var(--box) !important; color: var(--ink) !important }\n"
        )


def _instruction(instruction: Instruction, margin: str) -> str:
    mnemonic, _, rest = clean(instruction.text, 160).partition(" ")
    note = ""
    if instruction.note:
        kind = "bad" if instruction.note.startswith("patched") else "where"
        note = f" <span class={kind}>{_text('<' + clean(instruction.note, 200) + '>')}</span>"
    raw = instruction.bytes[:10].hex(" ")
    mark = "=>" if instruction.current else "  "
    return (
        f"<div{' class=now' if instruction.current else ''}>{_text(mark)} {_text(margin)}"
        f"<span class=soft>{instruction.address:x}  {raw:30}</span> "
        f"<span class=op>{_text(f'{mnemonic:6}')}</span> {_text(rest)}{note}</div>"
    )


def _formatter(style: str = "default") -> Any:
    try:
        from pygments.formatters.html import HtmlFormatter
    except ImportError:
        return None
    make: Any = HtmlFormatter
    return make(nowrap=True, style=style)


def _text(text: str) -> str:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, entity)
    return text
