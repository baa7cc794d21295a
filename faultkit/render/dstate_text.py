"""`dstate`'s report that a person reads: verdict first, then each group with its chain."""

from faultkit.model import Behind, BlockedGroup, Report, Resource, Task
from faultkit.render.escape import clean
from faultkit.render.page import VERDICT_COLORS, Page, header
from faultkit.render.style import Style

MOST_TASKS = 8  # named of a group; JSON has them all
MOST_FRAMES = 24


def render_dstate(report: Report, width: int, color: bool) -> str:
    """The report as text, lines at most `width` columns where they can be broken."""
    return _Text(report, width, Style(color)).render()


class _Text(Page):
    def __init__(self, report: Report, width: int, style: Style) -> None:
        super().__init__(width, style)
        self._report = report

    def render(self) -> str:
        report = self._report
        self._line(header(report))
        self._wrapped("VERDICT: ", self._verdict(), VERDICT_COLORS[report.verdict])
        for group in report.groups:
            self._line("")
            self._group(group)
        if report.groups:
            self._line("")
        return self._end(report)

    def _verdict(self) -> str:
        report = self._report
        counts = report.counts
        looked_at = f"{count(counts.get('tasks', 0), 'task')} looked at"
        looked_at += f", {counts.get('uninterruptible', 0)} in D state"
        if report.verdict == "found":
            tasks = count(counts.get("blocked", 0), "task")
            groups = count(len(report.groups), "cause")
            more = "; more could not be seen" if report.limits else ""
            return f"STUCK: {tasks}, {groups} ({looked_at}){more}"
        if report.verdict == "not-found":
            return f"NOT FOUND: no task is stuck ({looked_at})"
        return f"INCONCLUSIVE: {looked_at}; see LIMIT"

    def _group(self, group: BlockedGroup) -> None:
        age = ""
        if group.longest_seconds is not None:
            least = "at least " if group.at_least else ""
            age = f", {least}{seconds(group.longest_seconds)}"
        where = f", in {clean(group.function, 60)}" if group.function else ""
        head = f"{group.cause.upper()}: {count(len(group.tasks), 'task')}{age}{where}"
        self._line("  " + self._style.paint("*red*", head))
        self._wrapped("    WHO:    ", self._who(group.tasks))
        self._wrapped("    WHY:    ", clean(group.explanation, 1000))
        if group.system_calls:
            calls = ", ".join(clean(call, 300) for call in group.system_calls)
            self._wrapped("    CALL:   ", calls)
        on = resource_words(group.resource)
        if on:
            self._wrapped("    ON:     ", on)
        label = "    BEHIND: "
        for link in group.behind:
            self._wrapped(label, behind_words(link))
            label = "         -> "
        if group.evidence:
            evidence = "; ".join(clean(line, 400) for line in group.evidence)
            self._wrapped("    EVIDENCE: ", f"{evidence} ({group.confidence})")
        if group.next:
            self._wrapped("    NEXT:   ", clean(group.next, 1000), "*white*")
        if group.show_frames:
            self._frames(group)

    def _who(self, tasks: "tuple[Task, ...]") -> str:
        words = []
        for task in tasks[:MOST_TASKS]:
            word = f"{task.tid}"
            if task.name:
                word += f' "{clean(task.name, 40)}"'
            if task.pid != task.tid:
                word += f" of {task.pid}"
            if task.state and task.state != "D":
                word += f" ({task.state})"
            if task.seconds is not None:
                word += f" {seconds(task.seconds)}"
            words.append(word)
        if len(tasks) > MOST_TASKS:
            words.append(f"and {len(tasks) - MOST_TASKS} more")
        return ", ".join(words)

    def _frames(self, group: BlockedGroup) -> None:
        self._line(f"    STACK {group.tasks[0].tid}")
        if not group.frames:
            self._line("      (not seen)")
        for frame in group.frames[:MOST_FRAMES]:
            module = f" ({clean(frame.module, 40)})" if frame.module else ""
            offset = f"+{frame.offset:#x}" if frame.offset else ""
            self._line(f"      #{frame.index:<2} {clean(frame.symbol or '??')}{offset}{module}")
        if len(group.frames) > MOST_FRAMES:
            self._line(f"      ... {len(group.frames) - MOST_FRAMES} more frames")


def resource_words(resource: Resource) -> str:
    """What the tasks work on, in one line; "" if that is not known."""
    words = []
    if resource.file_system:
        words.append(clean(resource.file_system, 60))
    if resource.mount_point:
        words.append(f"at {clean(resource.mount_point, 200)}")
    if resource.device:
        words.append(f"on {clean(resource.device, 200)}")
    if resource.server:
        words.append(f"from {clean(resource.server, 100)}")
    if not words and resource.lock is None:
        return ""
    return " ".join(words)


def behind_words(link: Behind) -> str:
    """One link of the chain, in words."""
    name = clean(link.name, 200)
    if link.task is not None and link.task.name:
        name += f' "{clean(link.task.name, 40)}"'
    return f"{link.kind} {name}" + (f": {clean(link.detail, 400)}" if link.detail else "")


def seconds(value: float) -> str:
    """An age as people say it: "3.2 s", "12 min", "5.0 h", "3.1 days"."""
    for limit, unit, form in ((120, 1, "{:.1f} s"), (7200, 60, "{:.0f} min")):
        if value < limit:
            return form.format(value / unit)
    return f"{value / 3600:.1f} h" if value < 172800 else f"{value / 86400:.1f} days"


def count(number: int, noun: str) -> str:
    """ "1 task", "2 tasks"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
