"""The OOM killer's reports in a kernel log (mm/oom_kill.c of 3.10 to 7.x): who asked for memory,
what there was of it, who was there, and who was chosen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from faultkit.klog.lines import Line
from faultkit.record import NamedTuple

MOST_LINES = 400  # of what it says about memory
MOST_ROWS = 100_000
FAR = 60.0  # seconds after which lines don't belong to a report any more

_INVOKED = re.compile(
    r"(?P<name>.{1,32}?) invoked oom-killer: gfp_mask=(?P<gfp>[^,]+),.*?order=(?P<order>-?\d+)"
)
_HEAD = re.compile(r"\[ *pid *\] +uid +tgid +total_vm +rss")
_ROW = re.compile(r"\[ *(?P<pid>\d+) *\] +(?P<rest>\d+ +\d+ +\d+ .*)")
_KILL = re.compile(
    r"oom-kill:constraint=(?P<constraint>\w+),nodemask=.*?,cpuset=.*?,mems_allowed=.*?"
    r"(?:,global_oom|,oom_memcg=(?P<cgroup>.*?))?,task_memcg=(?P<own>.*),task=(?P<name>.*),"
    r"pid=(?P<pid>\d+),uid=(?P<uid>\d+)$"
)
_IN_CGROUP = re.compile(r"Task in (?P<own>\S+) killed as a result of limit of (?P<cgroup>\S+)")
_KILLED = re.compile(
    r"(?:(?P<why>[\w ()]*?[Oo]ut of memory[\w ()]*?): )?Kill(?:ed)? process (?P<pid>\d+)"
    r" \((?P<name>.*)\)(?:, UID (?P<uid>\d+))?,? (?P<rest>total-vm:.*|score \d+.*)$"
)
_SIZES = re.compile(r"([\w-]+):(-?\d+)kB")
_REAPED = re.compile(r"oom_reaper: reaped process (\d+) \(.*\),? ?(.*)$")
_NOT_REAPED = re.compile(r"oom_reaper: unable to reap pid:(\d+)")
_GROUP = re.compile(r"Tasks in (.*) are going to be killed due to memory\.oom\.group set")
_MEMORY = re.compile(r"(?:memory: usage \d+kB|Mem-Info:|Mem-info:)")
_USAGE = re.compile(
    r"(?P<what>memory|swap|memory\+swap|kmem): usage (?P<usage>\d+)kB, limit (?P<limit>\d+)kB"
)
_OTHER = re.compile(
    r"\s*(?:Call Trace:|</?TASK>|Hardware name:.*|CPU: \d+ .*|RIP: .*|R[\w ]{2}: .*|Code: .*|"
    r"(?:\? )?[\w.]+\+0x[0-9a-f]+/0x[0-9a-f]+.*|Tasks state \(memory values in pages\):)\s*$"
)


class Table(NamedTuple):
    """The tasks that it looked at: the columns' names, and each task's values as printed."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class OomKill(NamedTuple):
    """A process that the OOM killer chose.

    `invoker` is the task that asked for memory.  `cgroup` is the one whose limit was reached,
    None if the machine's or a cpuset's memory was.  `sizes` are in kB, by their names;
    `limits` are (what, used, limit) in kB.  `memory` is what it printed about memory, `text` the
    lines that the rest is read from.  `whole_group`: memory.oom.group was set.  `reaped` is what
    the reaper said afterwards.
    """

    time: float | None
    pid: int
    name: str
    uid: int | None
    sizes: dict[str, int]
    text: tuple[str, ...]
    constraint: str | None = None
    cgroup: str | None = None
    own_cgroup: str | None = None
    invoker: str | None = None
    invoked: float | None = None
    gfp: str | None = None
    order: int | None = None
    limits: tuple[tuple[str, int, int], ...] = ()
    memory: tuple[str, ...] = ()
    table: Table | None = None
    whole_group: bool = False
    reaped: str | None = None


class _Report:
    """What has been read of one report."""

    def __init__(self, line: Line | None = None, invoked: re.Match[str] | None = None) -> None:
        self.line = line
        self.invoked = invoked
        self.memory: list[str] = []
        self.in_memory = False
        self.columns: tuple[str, ...] = ()
        self.rows: list[tuple[str, ...]] = []
        self.kill: re.Match[str] | None = None
        self.in_cgroup: re.Match[str] | None = None
        self.text: list[str] = [line.text] if line is not None else []
        self.group = False


def parse_oom(lines: Sequence[Line]) -> list[OomKill]:
    """All kills, in the log's order."""
    return list(_kills(lines, _reaped(lines)))


def _kills(lines: Sequence[Line], reaped: dict[int, list[Line]]) -> Iterator[OomKill]:
    report = _Report()
    for line in lines:
        text = line.text
        if "invoked oom-killer" in text:
            match = _INVOKED.search(text)
            report = _Report(line, match)
            continue
        if _is_far(report, line):
            report = _Report()
        match = _KILLED.search(text) if "ill" in text and " process " in text else None
        if match is not None:
            report.in_memory = False
            report.text.append(text)
            if match["rest"].startswith("score"):
                continue  # up to 4.x; "Killed process" follows
            yield _killed(line, match, report, reaped)
            report.text.pop()
        elif report.line is not None or report.in_memory or text.startswith("oom-kill:"):
            _take(report, text)


def _is_far(report: _Report, line: Line) -> bool:
    before = report.line.time if report.line is not None else None
    return before is not None and line.time is not None and line.time - before > FAR


def _take(report: _Report, text: str) -> None:
    """Take in one more line of a report."""
    kill = _KILL.search(text)
    if kill is not None:
        report.kill, report.in_memory = kill, False
        report.text.append(text)
    elif _GROUP.search(text):
        report.group = True
        report.text.append(text)
    elif _HEAD.search(text):
        report.columns = tuple(text.replace("[", " ").replace("]", " ").split())
        report.in_memory = False
    elif report.columns and _ROW.match(text.strip()):
        if len(report.rows) < MOST_ROWS:
            report.rows.append(_row(text.strip(), len(report.columns)))
    elif _IN_CGROUP.search(text):
        report.in_cgroup = _IN_CGROUP.search(text)
        report.text.append(text)
    elif _MEMORY.search(text) or report.in_memory:
        report.in_memory = True
        if len(report.memory) < MOST_LINES and not _OTHER.match(text) and text.strip():
            report.memory.append(text.strip())


def _row(text: str, count: int) -> tuple[str, ...]:
    """A row's values; the last one is a name, which may have blanks."""
    pid, _, rest = text.lstrip("[").partition("]")
    return (pid.strip(), *rest.split(None, max(count - 2, 0)))


def _killed(
    line: Line, match: re.Match[str], report: _Report, reaped: dict[int, list[Line]]
) -> OomKill:
    pid = int(match["pid"])
    kill = report.kill
    cgroup = kill["cgroup"] if kill is not None else None
    own = kill["own"] if kill is not None else None
    if report.in_cgroup is not None:
        own, cgroup = report.in_cgroup["own"], report.in_cgroup["cgroup"]
    said = re.search(r"UID:(\d+)", match["rest"])
    uid = said[1] if said else match["uid"] or (kill["uid"] if kill is not None else None)
    constraint = kill["constraint"] if kill is not None else None
    if constraint is None and (cgroup or "emory cgroup" in (match["why"] or "")):
        constraint = "CONSTRAINT_MEMCG"
    gfp = report.invoked["gfp"] if report.invoked is not None else None
    limits = (_USAGE.search(text) for text in report.memory)
    after = [one for one in reaped.get(pid, ()) if one.time is None or _is_after(one, line)]
    return OomKill(
        line.time,
        pid,
        match["name"],
        int(uid) if uid is not None else None,
        {name: int(size) for name, size in _SIZES.findall(match["rest"])},
        tuple(report.text),
        constraint,
        cgroup,
        own,
        report.invoked["name"].strip() if report.invoked is not None else None,
        report.line.time if report.line is not None else None,
        gfp,
        int(report.invoked["order"]) if report.invoked is not None else None,
        tuple((m["what"], int(m["usage"]), int(m["limit"])) for m in limits if m),
        tuple(report.memory),
        Table(report.columns, tuple(report.rows)) if report.rows else None,
        report.group,
        after[0].text if after else None,
    )


def _is_after(one: Line, other: Line) -> bool:
    return one.time is None or other.time is None or one.time >= other.time


def _reaped(lines: Sequence[Line]) -> dict[int, list[Line]]:
    found: dict[int, list[Line]] = {}
    for line in lines:
        if "oom_reaper:" in line.text:
            match = _REAPED.search(line.text) or _NOT_REAPED.search(line.text)
            if match is not None:
                found.setdefault(int(match[1]), []).append(line)
    return found
