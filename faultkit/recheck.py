"""A second look at what moves: nothing is claimed of tasks that get on meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from faultkit.model import Finding, Task, Wait
from faultkit.snapshot import Snapshot
from faultkit.target import Process

# Seconds between two samples of what is not stopped; again, and longer, where a task has run in
# between without getting on (TCP, for one, wakes its writers for nothing).
SECOND_LOOKS = (0.05, 0.1, 0.2)


def still_standing(snapshot: Snapshot, findings: list[Finding]) -> list[Finding]:
    """Drop the findings whose tasks get on: at a second sample a moment later, or, stopped,
    because a wake-up had reached them already."""
    for pause in SECOND_LOOKS:
        waits = [wait for finding in findings for wait in _waits_of(finding, snapshot)]
        involved = [snapshot.tasks[wait.task] for wait in waits if wait.task in snapshot.tasks]
        marks: dict[Task, int | None] = {}
        if any(process.live and not process.stopped for process in involved):
            marks = snapshot.marks(waits)
            _let_pass(pause, involved)
            snapshot.forget()
        progressed = {wait.task for wait in waits if snapshot.progressed(wait)}
        after = snapshot.marks(wait for wait in waits if wait.task in marks)
        moved = {task for task, mark in marks.items() if after.get(task) != mark}
        findings = [f for f in findings if not _any_of(f, snapshot, progressed)]
        if not any(_any_of(finding, snapshot, moved) for finding in findings):
            return findings
    return [finding for finding in findings if not _any_of(finding, snapshot, moved)]


def _let_pass(seconds: float, processes: Iterable[Process]) -> None:
    """Wait, and load meanwhile what the processes' back traces will be told with."""
    end = time.monotonic() + seconds
    for process in processes:
        process.prepare()
    time.sleep(max(0.0, end - time.monotonic()))


def progressing(snapshot: Snapshot, waits: Sequence[Wait]) -> set[Task]:
    """Those of the waits' tasks that get on within a moment, or whose lock is taken and let go
    by others meanwhile; none where all are stopped."""
    marks = snapshot.marks(waits)
    moving: set[Task] = set()
    for pause in SECOND_LOOKS:
        left = [wait for wait in waits if wait.task in marks and wait.task not in moving]
        if not left:
            break
        time.sleep(pause)
        snapshot.forget()
        after = snapshot.marks(left)
        moving |= {
            wait.task
            for wait in left
            if after.get(wait.task) != marks[wait.task] or snapshot.progressed(wait)
        }
    return moving


def _any_of(finding: Finding, snapshot: Snapshot, tasks: set[Task]) -> bool:
    """Whether the finding stands on the wait of one of the tasks."""
    return any(wait.task in tasks for wait in _waits_of(finding, snapshot))


def _waits_of(finding: Finding, snapshot: Snapshot) -> list[Wait]:
    """The waits that a finding stands on: members, or a chain's root and first victims."""
    waits = list(finding.members[:64])
    if finding.root_waits_for is not None:
        waits.append(finding.root_waits_for)
        waits += [snapshot.waits[task] for task in finding.victims[:4] if task in snapshot.waits]
    return waits
