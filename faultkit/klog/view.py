"""A kernel log as `dstate` sees it: stacks, states and kinship, and nothing that can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from faultkit.causes.view import Blocked, View
from faultkit.klog import hung
from faultkit.klog.lines import Line, parse_lines
from faultkit.klog.tasks import Shown, parse_tasks
from faultkit.model import Task


class TextView(View):
    """The tasks that a text shows in its last listing, and in hung-task reports since then."""

    kind = "text"

    def __init__(self, name: str, text: str) -> None:
        super().__init__()
        self.name = name
        self._lines: list[Line] = list(parse_lines(text))
        self._listing = parse_tasks(self._lines)
        self._shown = _latest(self._listing.shown, self._listing.listings)
        if not self._listing.shown and not self._listing.listings:
            self.limit(
                f"{name} shows no task: neither the output of sysrq-w (echo w > "
                "/proc/sysrq-trigger; dmesg) nor a hung-task report"
            )
        elif self._listing.listings == 0:
            self.limit(
                "only tasks of hung-task reports are seen, which stop after "
                "kernel.hung_task_warnings of them: echo w > /proc/sysrq-trigger lists all"
            )

    @cached_property
    def _tasks(self) -> dict[int, Blocked]:
        ages = _ages(self._listing.shown)
        return {
            tid: Blocked(
                shown.task,
                shown.functions,
                ages.get(tid),
                at_least=True,
                syscall=shown.syscall,
                frames=shown.frames,
                is_kernel_thread=shown.parent == 2 or shown.task.tid == 2,
                has_stack=bool(shown.frames),
            )
            for tid, shown in self._shown.items()
        }

    def blocked(self) -> Sequence[Blocked]:
        from faultkit.causes import interruptible_functions

        as_bad = interruptible_functions()
        return [
            blocked
            for blocked in self._tasks.values()
            if blocked.task.state in ("D", "K")
            or (blocked.task.state == "S" and not as_bad.isdisjoint(blocked.functions[:4]))
        ]

    def counts(self) -> dict[str, int]:
        states = [blocked.task.state for blocked in self._tasks.values()]
        return {
            "tasks": len(states),
            "uninterruptible": states.count("D"),
            "idle": states.count("I"),
        }

    def find(self, pid: int, tid: int | None = None) -> Blocked | None:
        return self._tasks.get(tid if tid is not None else pid)

    def threads(self, pid: int) -> Sequence[Blocked]:
        return [blocked for blocked in self._tasks.values() if blocked.task.pid == pid]

    def named(self, name: str) -> Sequence[Task]:
        return [
            blocked.task
            for blocked in self._tasks.values()
            if (blocked.task.name or "").startswith(name)
        ]

    def children(self, task: Task) -> Sequence[int]:
        return sorted(shown.task.tid for shown in self._shown.values() if shown.parent == task.pid)

    def lock_owner(self, task: Task) -> tuple[Task, str] | None:
        return hung.owner_of(self._lines, task)

    def log(self, *words: str) -> Sequence[str]:
        return [line.text for line in self._lines if any(word in line.text for word in words)][-8:]


def _latest(shown: Sequence[Shown], listings: int) -> dict[int, Shown]:
    """Each task as it was shown last.  A task that the last listing leaves out has got on since
    it was shown before."""
    latest: dict[int, Shown] = {}
    for task in shown:
        if task.listing == listings:
            latest[task.task.tid] = task
    return latest


def _ages(shown: Sequence[Shown]) -> dict[int, float]:
    """For how long at least each task has been where it was shown last: by the reports' own
    words, and by the time since it was first shown with the same stack."""
    first: dict[int, Shown] = {}
    ages: dict[int, float] = {}
    for task in shown:
        tid = task.task.tid
        before = first.get(tid)
        if before is None or before.functions != task.functions:
            first[tid] = before = task
            ages.pop(tid, None)
        told = [task.seconds or 0.0, ages.get(tid, 0.0)]
        if task.time is not None and before.time is not None:
            told.append(task.time - before.time + (before.seconds or 0.0))
        if max(told) > 0:
            ages[tid] = max(told)
    return ages
