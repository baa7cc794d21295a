"""/proc/PID/stack (fs/proc/base.c, proc_pid_stack()), and symbol+offset/size alone in a line."""

from __future__ import annotations

import re

from faultkit.traces import kernel_log
from faultkit.traces.events import End, Event, Head

_LINE = re.compile(r"^\[<[0-9a-fx]+>\] ")
_COMMAND = re.compile(r"(?:^|\s)cat (?P<path>/proc/(?P<pid>\d+)(?:/task/\d+)?/stack)\s*$")
_FILE = re.compile(r"^==> (?P<path>/proc/(?P<pid>\d+)(?:/task/\d+)?/stack) <==$")


def events(text: str) -> list[Event] | None:
    """The command or header before a stack; the frames are those of kernel logs."""
    match = _COMMAND.search(text) or _FILE.match(text)
    if match is not None:
        return [Head("stack", match["path"], pid=int(match["pid"]), joins=False)]
    if _LINE.match(text) and "0xffffffffffffffff" in text:
        return [End()]
    return kernel_log.events(text) if _LINE.match(text) else None
