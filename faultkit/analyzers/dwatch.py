"""Watching blocked tasks: what has come, what has gone on, from one look to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from faultkit.analyzers.dstate import Options as DstateOptions
from faultkit.analyzers.dstate import analyze
from faultkit.causes.view import View
from faultkit.model import BlockedGroup, Report, Task
from faultkit.record import NamedTuple

INTERVAL = 1.0  # seconds between the starts of two looks


class Move(NamedTuple):
    """A task of a group that came or went."""

    task: Task
    group: BlockedGroup


class Look(NamedTuple):
    """One look: `came` are blocked for long enough since the last look, `went` are no more."""

    seconds: float  # since the first look
    report: Report
    came: tuple[Move, ...]
    went: tuple[Move, ...]


def watch(
    make_view: Callable[[], View],
    host: dict[str, str | None],
    options: DstateOptions,
    interval: float = INTERVAL,
) -> Iterator[Look]:
    """Looks, the first one at once, without end.  Raises what `analyze` raises."""
    began = time.monotonic()
    before: dict[Task, Move] = {}
    while True:
        at = time.monotonic()
        report = analyze(make_view(), host, options)
        now = {move.task: move for move in _moves(report.groups)}
        yield Look(
            at - began,
            report,
            tuple(move for task, move in now.items() if not _same(before.get(task), move)),
            tuple(move for task, move in before.items() if not _same(now.get(task), move)),
        )
        before = now
        time.sleep(max(0.0, at + interval - time.monotonic()))


def _moves(groups: Sequence[BlockedGroup]) -> Iterator[Move]:
    for group in groups:
        for task in group.tasks:
            yield Move(task, group)


def _same(one: Move | None, other: Move) -> bool:
    """Whether a task is still in the wait that it was in."""
    return one is not None and one.group.function == other.group.function
