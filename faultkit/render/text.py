"""The report that a person reads: verdict first, then each finding with its evidence."""

from __future__ import annotations

import linecache
import os
from collections.abc import Sequence

from faultkit.model import Finding, Frame, Lock, Report, Task, Wait
from faultkit.places import Place, waiting_call
from faultkit.render.escape import clean
from faultkit.render.page import VERDICT_COLORS, Page, header
from faultkit.render.style import Style

MOST_VICTIMS = 12  # named in the text; JSON has them all
MOST_MEMBERS = 64
MOST_FRAMES = 24

_STUCK = {
    "corrupt-lock": "CORRUPT LOCK",
    "orphaned-lock": "ORPHANED LOCK",
    "lost-wakeup": "LOST WAKE-UP",
    "chain": "STUCK, NO CYCLE",
}


def render_text(report: Report, width: int, color: bool) -> str:
    """The report as text, lines at most `width` columns where they can be broken."""
    return _Text(report, width, Style(color)).render()


class _Text(Page):
    def __init__(self, report: Report, width: int, style: Style) -> None:
        super().__init__(width, style)
        self._report = report
        self._locks: dict[tuple[object, ...], str] = {}
        members = (wait.task.pid for finding in report.findings for wait in finding.members)
        self._several_processes = len(set(members)) > 1
        is_kernel = report.target["kind"] in ("vmcore", "live-kernel")
        self._noun = "task" if is_kernel else "thread"

    def render(self) -> str:
        report = self._report
        self._line(header(report))
        self._wrapped("VERDICT: ", self._verdict(), VERDICT_COLORS[report.verdict])
        for finding in report.findings:
            self._line("")
            self._finding(finding)
        if report.stacks:
            self._line("")
            self._stacks(report.stacks)
        return self._end(report)

    def _verdict(self) -> str:
        report = self._report
        resolved = ""
        if report.counts.get("waiters"):
            counts = report.counts
            resolved = f" ({counts['resolved']} of {counts['waiters']} waiters resolved)"
        cycles = [f for f in report.findings if f.type in ("cycle", "self-deadlock")]
        others = [f for f in report.findings if f not in cycles]
        said = []
        if cycles:
            threads = sum(len(finding.members) for finding in cycles)
            said.append(
                f"DEADLOCK: {_count(len(cycles), 'cycle')}, {_count(threads, self._noun)}{resolved}"
            )
        kinds = [_kind(finding) for finding in others]
        for kind in dict.fromkeys(kinds):
            number = kinds.count(kind)
            said.append(kind + (f" ({number})" if number > 1 else ""))
        if said:
            return "; ".join(said) + ("; more could not be seen" if report.limits else "")
        if report.verdict == "inconclusive":
            return f"INCONCLUSIVE: no deadlock among what could be seen{resolved}; see LIMIT"
        looked_at = _count(report.counts.get("tasks", 0), self._noun)
        return f"NOT FOUND: {looked_at}, no deadlock{resolved}"

    def _task(self, task: Task, long: bool = False) -> str:
        """ "T2", or "4713" where the debugger has no number for it; `long` adds who that is."""
        short = f"T{task.number}" if task.number else _pid(task)
        if not long:
            return short
        if task.address is not None:
            return _kernel_task(task)
        words = [f"{short} LWP {task.tid}" if task.number else f"LWP {task.tid}"]
        if task.name:
            words.append(f'"{clean(task.name, 40)}"')
        if self._several_processes:
            words.append(f"of process {task.pid}")
        return " ".join(words)

    def _lock(self, lock: Lock, long: bool = False) -> str:
        """ "L1", the report's own short name; `long` tells kind, address and name."""
        short = self._locks.setdefault(lock.identity, f"L{len(self._locks) + 1}")
        if not long:
            return short
        words = [lock.kind, short]
        if lock.address is not None:
            words.append(f"{lock.address:#x}")
        if lock.name:
            words.append(f"<{clean(lock.name, 80)}>")
        return " ".join(words)

    def _finding(self, finding: Finding) -> None:
        for wait in finding.members:
            self._lock(wait.lock)  # number the locks in cycle order
        if finding.members:
            self._members(finding)
        if finding.type in ("cycle", "self-deadlock"):
            self._cycle(finding)
        elif finding.root is not None and finding.root_waits_for is not None:
            self._chain(finding)
        else:
            self._line(
                f"  {_kind(finding)}: "
                f"{self._style.paint('*red*', self._lock(finding.members[0].lock))}"
                f" ({finding.confidence})"
            )
            if finding.explanation:
                self._wrapped("  WHY: ", clean(finding.explanation, 2000))
        self._victims(finding)
        if finding.type in ("cycle", "self-deadlock") or finding.root is None:
            self._evidence(finding.members[:MOST_MEMBERS], finding.type)
        self._back_traces(
            [*finding.members, *([finding.root_waits_for] if finding.root_waits_for else [])]
        )

    def _members(self, finding: Finding) -> None:
        rows = []
        shown = finding.members[:MOST_MEMBERS]
        for wait in shown:
            holders = ", ".join(self._task(holder) for holder in wait.holders[:4])
            if len(wait.holders) > 4:
                holders += f" and {len(wait.holders) - 4} more"
            place = waiting_call(wait.frames)
            mode = f" to {wait.mode}" if wait.mode else ""
            rows.append(
                (
                    self._style.paint("*white*", self._task(wait.task, long=True)),
                    f"waits for {self._lock(wait.lock, long=True)}{mode}",
                    _where(place),
                    f"held by {holders}" if holders else "",
                )
            )
        table = self._style.table(rows, self._width - 2)
        if table is not None:
            self._lines += ["  " + line for line in table]
        else:
            for who, what, where, held in rows:
                self._line(f"  {who} {what}")
                rest = "  ".join(part for part in (where, held) if part)
                if rest:
                    self._line(f"      {rest}")
        if len(finding.members) > len(shown):
            self._line(f"  ... and {len(finding.members) - len(shown)} more")

    def _cycle(self, finding: Finding) -> None:
        steps = []
        for wait in finding.members[:MOST_MEMBERS]:
            steps += [self._task(wait.task), self._lock(wait.lock)]
        if len(finding.members) > MOST_MEMBERS:
            steps.append("...")
        steps.append(self._task(finding.members[0].task))
        text = " -> ".join(steps) + ("" if finding.confidence == "proven" else "  (inferred)")
        self._wrapped("  CYCLE: ", text, "*red*")
        if any(wait.timed for wait in finding.members):
            self._line("  TIMED: one of these waits has a timeout, and ends the cycle by itself")

    def _chain(self, finding: Finding) -> None:
        root, wait = finding.root, finding.root_waits_for
        if root is None or wait is None:
            return
        called = waiting_call(wait.frames)
        place = _where(called)
        said = f"{self._task(root, long=True)} holds what others want, and "
        name = clean(wait.lock.name) if wait.lock.name else ""
        if wait.lock.kind == "sleep":
            is_told = called is not None and called.function == wait.lock.name and not called.file
            said += f"sleeps in {name}" if name and not is_told else "sleeps"
        else:
            said += f"waits for {wait.lock.kind}" + (f" {name}" if name else "")
        if wait.lock.address is not None:
            said += f" {wait.lock.address:#x}"
        self._wrapped("  ROOT: ", said + (f" {place}" if place else ""))
        for line in wait.evidence:
            self._wrapped("    ", clean(line))
        if finding.explanation:
            self._wrapped("    not known to be stuck: ", finding.explanation)

    def _victims(self, finding: Finding) -> None:
        if not finding.victims:
            return
        names = ", ".join(self._task(task) for task in finding.victims[:MOST_VICTIMS])
        more = len(finding.victims) - MOST_VICTIMS
        names += f" and {more} more" if more > 0 else ""
        queue = "queue behind it" if len(finding.victims) > 1 else "queues behind it"
        count = _count(len(finding.victims), f"more {self._noun}")
        self._wrapped("  VICTIMS: ", f"{count} {queue}: {names}")

    def _evidence(self, members: Sequence[Wait], kind: str) -> None:
        told: set[tuple[str, ...]] = set()
        for wait in members:
            key = (self._lock(wait.lock), *wait.evidence)
            if not wait.evidence or key in told:
                continue
            told.add(key)
            evidence = "; ".join(clean(line, 400) for line in wait.evidence)
            evidence += f" ({wait.confidence})"
            self._wrapped(f"  EVIDENCE {self._lock(wait.lock)}: ", evidence)
        for wait in members[:4]:
            place = waiting_call(wait.frames)
            line = _source_text(place)
            if place is not None and place.file and line:
                text = self._style.source(line, place.file)
                self._line(f"  {self._task(wait.task)} at {_where(place)[3:]}: {text}")

    def _back_traces(self, waits: Sequence[Wait]) -> None:
        """Stacks, equal ones once."""
        groups: dict[tuple[int, ...], list[Wait]] = {}
        for wait in waits:
            if wait.frames:
                groups.setdefault(tuple(f.address for f in wait.frames), []).append(wait)
        for group in groups.values():
            who = ", ".join(self._task(wait.task) for wait in group[:MOST_VICTIMS])
            if len(group) > MOST_VICTIMS:
                who += f" and {len(group) - MOST_VICTIMS} more"
            self._line(f"  STACK {who}")
            self._frames(group[0].frames)

    def _stacks(self, stacks: Sequence[tuple[Task, tuple[Frame, ...]]]) -> None:
        groups: dict[tuple[int, ...], list[tuple[Task, tuple[Frame, ...]]]] = {}
        for task, frames in stacks:
            groups.setdefault(tuple(frame.address for frame in frames), []).append((task, frames))
        for group in groups.values():
            who = ", ".join(self._task(task, long=len(group) == 1) for task, _ in group[:8])
            if len(group) > 8:
                who += f" and {len(group) - 8} more"
            self._line(f"STACK {who}")
            self._frames(group[0][1])

    def _frames(self, frames: Sequence[Frame]) -> None:
        if not frames:
            self._line("    (no frames)")
        for frame in frames[:MOST_FRAMES]:
            sources = [source for source in frame.inlines if source.file]
            if not sources:
                offset = f"+{frame.offset:#x}" if frame.offset else ""
                module = os.path.basename(frame.module) if frame.module else ""
                name = clean(frame.symbol) + offset if frame.symbol else "??"
                origin = f" ({clean(module, 40)})" if module else ""
                self._line(f"    #{frame.index:<2} {frame.address:#x} {name}{origin}")
            for depth, source in enumerate(sources):
                name = clean(source.function or "??")
                inline = " (inlined)" if depth < len(sources) - 1 else ""
                file = clean(_short(source.file or ""))
                self._line(f"    #{frame.index:<2} {name}{inline} at {file}:{source.line or '?'}")
        if len(frames) > MOST_FRAMES:
            self._line(f"    ... {len(frames) - MOST_FRAMES} more frames")


def _pid(task: Task) -> str:
    """The thread's id; the idle tasks, which all have 0, with their CPU."""
    return str(task.tid) if task.tid or task.cpu is None else f"swapper/{task.cpu}"


def _kernel_task(task: Task) -> str:
    """ "PID 4711 "ingest" CPU 1 D 12.3 s": who, where, and for how long off the CPU."""
    words = [f"PID {task.tid}"]
    if task.name:
        words.append(f'"{clean(task.name, 40)}"')
    if task.pid != task.tid:
        words.append(f"of process {task.pid}")
    if task.cpu is not None:
        words.append(f"CPU {task.cpu}")
    if task.state:
        words.append(task.state)
    if task.seconds is not None:
        words.append(f"{task.seconds:.1f} s")
    return " ".join(words)


def _kind(finding: Finding) -> str:
    """In words; of a chain, whether its root is known to be stuck."""
    if finding.type == "chain" and finding.explanation:
        return "A CHAIN, NO CYCLE"
    return _STUCK.get(finding.type, finding.type)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(path: str) -> str:
    """The last two parts of a path: enough to know the file, short enough for a line."""
    return "/".join(path.split("/")[-2:]) if path.count("/") > 2 else path


def _where(place: Place | None) -> str:
    if place is None:
        return ""
    if place.file:
        return f"at {clean(os.path.basename(place.file))}:{place.line}"
    if place.function:
        offset = f"+{place.frame.offset:#x}" if place.frame.offset else ""
        return f"in {clean(place.function, 60)}{offset}"
    return f"at {place.frame.address:#x}"


def _source_text(place: Place | None) -> str:
    """The line itself, if the source file is here."""
    if place is None or not place.file or not place.line or not os.path.isfile(place.file):
        return ""
    return clean(linecache.getline(place.file, place.line).strip(), 100)
