"""Reports of the hung-task detector (kernel/hung_task.c)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from faultkit.klog.lines import Line
from faultkit.model import Task
from faultkit.record import NamedTuple

_HUNG = re.compile(r"INFO: task (.+):(\d+) blocked(?: in I/O wait)? for more than (\d+) seconds")
# since 6.16, with CONFIG_DETECT_HUNG_TASK_BLOCKER (debug_show_blocker())
_OWNER = re.compile(
    r"INFO: task .+:(\d+)(?:<\w+>)? (?:<\w+> )?is blocked on an? ([\w-]+),? likely "
    r"(?:last )?(?:owned|held) by task (.+?):(\d+)"
)


class Hung(NamedTuple):
    """A task that has been blocked for more than so many seconds."""

    name: str
    tid: int
    seconds: float


def parse_hung(text: str) -> Hung | None:
    """The line's report, None if it is none."""
    match = _HUNG.search(text)
    return Hung(match[1], int(match[2]), float(match[3])) if match else None


def owner_of(
    lines: Sequence[Line], task: Task, since: float | None = None
) -> tuple[Task, str] | None:
    """(the task that owns the lock `task` waits for, the line that says so): the last such line,
    not older than `since`."""
    needle = f":{task.tid}"
    for line in reversed(lines):
        if "is blocked on a" not in line.text or needle not in line.text:
            continue
        match = _OWNER.search(line.text)
        if match is None or int(match[1]) != task.tid:
            continue
        if since is not None and (line.time is None or line.time < since):
            return None
        owner = Task(int(match[4]), int(match[4]), match[3])
        return owner, f"the hung-task detector: {match[0].removeprefix('INFO: ')}"
    return None
