"""`sigsrc`'s report that a person reads: verdict first, then each signal."""

import os
import re

from faultkit.model import Frame, Report, Task
from faultkit.render.escape import clean
from faultkit.render.page import VERDICT_COLORS, Page, header
from faultkit.render.style import Style
from faultkit.signals.model import BLOCKED, FATAL, PENDING, STOPPED, SignalFinding, Table
from faultkit.signals.names import mask_words, signal_name

_NOTHING = re.compile(r"[\w:()]+ 0(?:kB)?")
MOST_PENDING = 12  # shown; JSON has them all
MOST_FRAMES = 10
MOST_ROWS = 100  # of a table
MOST_TASKS = 8


def render_sigsrc(report: Report, width: int, color: bool) -> str:
    """The report as text, lines at most `width` columns where they can be broken."""
    return _Text(report, width, Style(color)).render()


class _Text(Page):
    def __init__(self, report: Report, width: int, style: Style) -> None:
        super().__init__(width, style)
        self._report = report

    def render(self) -> str:
        report = self._report
        self._line(header(report))
        word = report.verdict.upper().replace("-", " ")
        verdict = f"{word}: {clean(report.summary, 1000)}"
        self._wrapped("VERDICT: ", verdict, VERDICT_COLORS[report.verdict])
        waiting = [finding for finding in report.signals if finding.state in (PENDING, BLOCKED)]
        for finding in report.signals:
            if finding.state not in (PENDING, BLOCKED):
                self._line("")
                self._signal(finding)
        if waiting:
            self._line("")
        for finding in waiting[:MOST_PENDING]:
            if finding.frames or finding.tables:
                self._signal(finding)
            else:
                self._pending(finding)
        if len(waiting) > MOST_PENDING:
            self._line(f"  ... {len(waiting) - MOST_PENDING} more pending signals; --json has all")
        for advice in dict.fromkeys(finding.next for finding in waiting if finding.next):
            self._wrapped("  NEXT: ", clean(advice, 1000), "*white*")
        self._masks()
        if report.signals or report.masks:
            self._line("")
        return self._end(report)

    def _pending(self, finding: SignalFinding) -> None:
        whose = f"thread {_task(finding.task)}"
        if finding.shared:
            one = self._report.target["kind"] in ("process", "core")
            whose = "the process" if one else f"process {_task(finding.task)}"
        blocked = ", blocked" if finding.state == BLOCKED else ""
        code = f" {finding.code_name}" if finding.code_name is not None else ""
        head = f"  {finding.signal}{code} pending for {whose}{blocked}: "
        lines = Page(self._width, self._style)
        lines._wrapped("    ", clean(finding.explanation, 600))
        self._lines += [self._style.paint("*white*", head.rstrip()), *lines._lines]

    def _signal(self, finding: SignalFinding) -> None:
        head = finding.signal
        if finding.code_name is not None:
            head += f" {finding.code_name}"
        if finding.address is not None:
            head += f" at {finding.address:#x}"
        if finding.times > 1:
            head += f", {finding.times} times"
        head += f": {finding.state}, {'for' if finding.shared else 'thread'} "
        head += f"process {finding.task.pid}" if finding.shared else _task(finding.task)
        if finding.within:
            head += f", in the handler of {signal_name(finding.within)}"
        color = "*red*" if finding.state in (FATAL, STOPPED) else "*white*"
        self._line("  " + self._style.paint(color, head))
        self._wrapped("    WHY:    ", clean(finding.explanation, 2000))
        if finding.place:
            self._wrapped("    WHERE:  ", clean(finding.place, 300))
        if finding.evidence:
            evidence = "; ".join(clean(line, 400) for line in finding.evidence)
            self._wrapped("    EVIDENCE: ", f"{evidence} ({finding.confidence})")
        if finding.next:
            self._wrapped("    NEXT:   ", clean(finding.next, 1000), "*white*")
        for table in finding.tables:
            self._table(table)
        if finding.frames:
            self._line("    STACK")
            for frame in finding.frames[:MOST_FRAMES]:
                self._line(f"      #{frame.index:<2} {_where(frame)}")
            if len(finding.frames) > MOST_FRAMES:
                self._line(f"      ... {len(finding.frames) - MOST_FRAMES} more frames")

    def _table(self, table: Table) -> None:
        longest = 60 if table.columns else 200
        rows = [[clean(value, longest) for value in row] for row in table.rows]
        zeroes = 0
        if not table.columns:  # lines that count what there is: without those that find nothing
            kept = [row for row in rows if not _NOTHING.fullmatch(" ".join(row))]
            zeroes, rows = len(rows) - len(kept), kept
        shown = [*enumerate(rows[:MOST_ROWS])]
        if table.chosen is not None and table.chosen >= MOST_ROWS:
            shown.append((table.chosen, rows[table.chosen]))
        self._line(f"    {clean(table.title, 100)}")
        head = [clean(name, 30) for name in table.columns]
        widths = [max(map(len, column)) for column in zip(head, *(row for _, row in shown))]
        for number, row in [(-1, head), *shown] if head else shown:
            # Numbers to the right, the name behind them as it is.
            cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths)]
            mark = "* " if number == table.chosen else "  "
            self._lines.append("    " + mark + " ".join([*cells, row[-1]] if row else []))
        if zeroes:
            self._line(f"      ({zeroes} lines that count 0 left out; --json has all)")
        if len(rows) > len(shown):
            self._line(f"      ... {len(rows) - len(shown)} more lines; --json has all")

    def _masks(self) -> None:
        masks = self._report.masks
        if not masks:
            return
        before = len(self._lines)
        first = masks[0][1]
        for word, mask in (("HANDLED", first.caught), ("IGNORED", first.ignored)):
            if mask is not None:
                self._wrapped(f"  {word}: ", mask_words(mask))
        alike: dict[int, list[Task]] = {}
        told = {finding.task.tid for finding in self._report.signals}
        for task, sets in masks:
            if self._report.target["kind"] == "core" and task.tid not in told:
                continue  # what other threads blocked as the core was made explains nothing
            if sets.blocked or (sets.blocked is not None and sets.caught is not None):
                alike.setdefault(sets.blocked, []).append(task)
        for mask, tasks in alike.items():
            named = (
                "all threads"
                if len(tasks) == len(masks) > 1
                else ", ".join(str(task.tid) for task in tasks[:MOST_TASKS])
            )
            if len(tasks) > MOST_TASKS and len(tasks) < len(masks):
                named += f" and {len(tasks) - MOST_TASKS} more"
            self._wrapped(f"  BLOCKED in {named}: ", mask_words(mask))
        if len(self._lines) > before:
            self._lines.insert(before, "")


def _task(task: Task) -> str:
    words = str(task.tid)
    if task.name:
        words += f' "{clean(task.name, 40)}"'
    return words + (f" (gdb {clean(task.number, 20)})" if task.number else "")


def _where(frame: Frame) -> str:
    """A frame in one line: function, source line, image."""
    source = next((source for source in frame.inlines if source.file and source.line), None)
    name = (source.function if source else None) or frame.symbol
    words = clean(name, 120) if name else f"{frame.address:#x}"
    if not source and frame.symbol and frame.offset:
        words += f"+{frame.offset:#x}"
    if source is not None:
        return f"{words} at {clean(os.path.basename(source.file or ''), 80)}:{source.line}"
    module = os.path.basename(frame.module) if frame.module and name else ""
    return words + (f" ({clean(module, 60)})" if module else "")
