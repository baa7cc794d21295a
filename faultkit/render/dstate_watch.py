"""`dstate --watch`: a line for whatever came or went."""

from __future__ import annotations

from collections.abc import Callable

from faultkit.analyzers.dwatch import Look, Move, watch
from faultkit.dstate import open_view, options_of
from faultkit.model import Report
from faultkit.options.dstate import DstateArguments
from faultkit.render.dstate_text import count, seconds
from faultkit.render.escape import clean

MOST_LINES = 40  # a look


def show_changes(
    arguments: DstateArguments,
    host: dict[str, str | None],
    write: Callable[[str], object],
    flush: Callable[[], object],
) -> Report:
    """Write a line for each change until interrupted; returns the last look's report.

    Raises KeyboardInterrupt if that comes before the first look is done."""
    last: Report | None = None
    try:
        for look in watch(lambda: open_view(arguments), host, options_of(arguments)):
            last = look.report
            for line in lines_of(look):
                write(line + "\n")
            flush()
    except KeyboardInterrupt:
        if last is None:
            raise
        write("\n")
    if last is None:
        raise KeyboardInterrupt
    return last


def lines_of(look: Look) -> list[str]:
    """The lines of one look; of the first one always one, else of what moved."""
    lines = [_line("-", move) for move in look.went] + [_line("+", move) for move in look.came]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"  ... and {len(lines) - MOST_LINES} more changes"]
    if not lines and look.seconds > 0:
        return []
    groups = look.report.groups
    stuck = count(sum(len(group.tasks) for group in groups), "task")
    head = f"{look.seconds:7.1f} s  {stuck} stuck, {count(len(groups), 'cause')}"
    return [head, *lines]


def _line(sign: str, move: Move) -> str:
    task, group = move.task, move.group
    name = f' "{clean(task.name, 40)}"' if task.name else ""
    age = f" after {seconds(task.seconds)}" if task.seconds is not None else ""
    end = group.behind[-1] if group.behind else None
    behind = f", behind {end.kind} {clean(end.name, 60)}" if end is not None else ""
    what = "went on" if sign == "-" else "is stuck"
    return f"  {sign} {task.tid}{name} {what}{age}: {group.cause} {group.function or ''}{behind}"
