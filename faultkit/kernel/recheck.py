"""A second look at a live kernel: nothing is claimed of tasks that get on meanwhile."""

from __future__ import annotations

import time

from faultkit.kernel.objects import pointer
from faultkit.kernel.snapshot import KernelSnapshot
from faultkit.kernel.system import System
from faultkit.model import Finding, Task, Wait
from faultkit.target import FaultkitError

SECOND_LOOK = 0.1  # seconds


def still_standing(before: KernelSnapshot, findings: list[Finding]) -> list[Finding]:
    """Those findings all of whose tasks still wait for the same, and have not run since: tasks
    that did not run between two looks were blocked at one and the same moment."""
    waits = {wait.task: wait for finding in findings for wait in _waits_of(finding, before)}
    marks = {task: switches(before.system, task) for task in waits}
    time.sleep(SECOND_LOOK)
    after = KernelSnapshot(System(before.system.kernel))
    after.settle()
    moved = {
        task
        for task, wait in waits.items()
        if switches(after.system, task) != marks[task] or not _same(wait, after.waits.get(task))
    }
    return [
        finding
        for finding in findings
        if not any(wait.task in moved for wait in _waits_of(finding, before))
    ]


def _same(wait: Wait, now: Wait | None) -> bool:
    return now is not None and now.lock.identity == wait.lock.identity


def switches(system: System, task: Task) -> int | None:
    """How often the task was switched out (task_struct.nvcsw and nivcsw); None if it is gone."""
    if task.address not in system.by_address:
        return None
    try:
        return sum(
            pointer(system.kernel, task.address, "task_struct", member)
            for member in ("nvcsw", "nivcsw")
        )
    except FaultkitError:
        return None


def _waits_of(finding: Finding, snapshot: KernelSnapshot) -> list[Wait]:
    """The waits that a finding stands on: members, or a chain's root and first victims."""
    waits = list(finding.members[:64])
    if finding.root_waits_for is not None:
        waits.append(finding.root_waits_for)
        waits += [snapshot.waits[task] for task in finding.victims[:4] if task in snapshot.waits]
    return waits
