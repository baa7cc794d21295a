"""Holders of locks that record none, by what the code of threads tells, or else by who can act."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from faultkit.candidates import (
    is_moving,
    likely_first,
    may_be_stuck,
    others_get_on,
    unlike_first,
)
from faultkit.infer.holders import MOST_CANDIDATES, resolve
from faultkit.model import EVENT, HELD, INFERRED, OUTSIDE, Task, Wait
from faultkit.snapshot import Snapshot
from faultkit.target import FaultkitError

INFERRED_LOCKS = 256  # that are looked into
CROWD, SAMPLED = 64, 2  # of more events of one kind than that, so many are looked into at first
HINTING = 16  # candidates for such an event, where there are too many to name one


class Looks:
    """Looks into locks without a recorded holder, each by the group of its waits; `skipped` counts
    those for which there was no more time."""

    def __init__(self, snapshot: Snapshot, groups: list[list[Wait]]) -> None:
        self._snapshot = snapshot
        events = [group[0].lock.kind for group in groups if group[0].needs == EVENT]
        self._crowds = {kind for kind in set(events) if events.count(kind) > CROWD}
        self._sampled: dict[str, int] = {}  # by kind, as long as nobody is found who would act
        self._ordered: dict[int, list[Task]] = {}  # by the candidates' tuple: many share it
        self._ways: dict[Task, tuple[int, ...]] = {}
        self._number = 0
        self.skipped = 0

    def look_into(self, group: list[Wait]) -> None:
        """Fill in what can be told of one lock."""
        snapshot, first = self._snapshot, group[0]
        kind = first.lock.kind
        if self._is_crowded(first) and self._sampled.get(kind, 0) >= SAMPLED:
            return  # idle, as those that were looked into
        if self._number >= INFERRED_LOCKS:
            self.skipped += 1
            return
        self._number += 1
        waiters = {wait.task for wait in group}
        candidates = self._candidates(first, waiters)
        twice = sorted(waiters, key=attrgetter("pid", "tid")) if kind == "semaphore" else ()
        if not (candidates or twice):
            return
        if kind == "futex" and not may_be_stuck(snapshot, candidates):
            return
        resolved = self._resolve(first, candidates, waiters, twice)
        if resolved.holders:
            self._crowds.discard(kind)
        self._sampled[kind] = self._sampled.get(kind, 0) + 1
        if not resolved.holders and first.lock.key and first.lock.key[0] == "shared":
            _by_sharing(snapshot, group, candidates)
        elif not resolved.holders and first.any_of and first.needs == HELD:
            _by_process(snapshot, group, candidates)
        else:
            missing = self._missing(first, resolved, candidates, waiters)
            for wait in group:
                snapshot.waits[wait.task] = _filled(wait, resolved, missing)

    def _is_crowded(self, wait: Wait) -> bool:
        return wait.needs == EVENT and wait.lock.kind in self._crowds

    def _candidates(self, wait: Wait, waiters: set[Task]) -> list[Task]:
        """Those to ask about the lock, in that order."""
        key = id(wait.candidates)
        if key not in self._ordered:
            self._ordered[key] = likely_first(self._snapshot, wait.candidates or ())
        found = self._ordered[key]
        if wait.needs == EVENT:
            return [task for task in found if task not in waiters]
        if len(found) > MOST_CANDIDATES:  # who queues is the last to have it
            unlike = unlike_first(self._snapshot, found, self._ways)
            return sorted(unlike, key=waiters.__contains__)
        return found

    def _resolve(
        self, wait: Wait, candidates: list[Task], waiters: set[Task], twice: Sequence[Task]
    ) -> Wait:
        """The wait with the holders that inference names, or what it says of them."""
        world, kind = self._snapshot.world, wait.lock.kind
        few = self._is_crowded(wait) and len(candidates) > MOST_CANDIDATES
        most = HINTING if few else MOST_CANDIDATES
        try:
            resolved = resolve(world, wait, candidates, most, twice)
            if kind == "futex" and wait.needs == HELD and not resolved.holders:
                # not a lock, then: perhaps a count, a std::latch's, say, that somebody changes
                watched = wait.but(needs=EVENT, any_of=True, missing=None)
                others = [task for task in candidates if task not in waiters]
                watched = resolve(world, watched, others, most)
                resolved = watched if watched.holders else resolved
        except FaultkitError as error:
            world.limit(str(error))
            return wait
        if resolved.holders and resolved.needs == EVENT and kind == "semaphore":
            return _unless_handled(self._snapshot, wait, resolved)
        return resolved

    def _missing(
        self, wait: Wait, resolved: Wait, candidates: list[Task], waiters: set[Task]
    ) -> str | None:
        """What stays open, unless whoever may have the lock gets on."""
        snapshot, missing, count = self._snapshot, resolved.missing, wait.holder_count
        if resolved.suspects and all(is_moving(snapshot, task) for task in resolved.suspects):
            missing = None
        if missing != wait.missing or count is None:
            return missing
        return None if others_get_on(snapshot, waiters, candidates, count) else missing


def _filled(wait: Wait, resolved: Wait, missing: str | None) -> Wait:
    """One of a lock's waits with what was found for the first of them."""
    return wait.but(
        holders=resolved.holders,
        needs=resolved.needs,
        any_of=resolved.any_of,
        others=resolved.others,
        confidence=resolved.confidence if resolved.holders else wait.confidence,
        evidence=resolved.evidence,
        missing=missing,
    )


def _unless_handled(snapshot: Snapshot, wait: Wait, resolved: Wait) -> Wait:
    """`resolved`, unless a process has signal handlers: sem_post() is one of the few functions that
    these may call (signal-safety(7)), whatever the threads do."""
    world, process = snapshot.world, snapshot.tasks[wait.task]
    if not (process.live or world.whole):
        return resolved
    pids = dict.fromkeys(task.pid for task in (wait.task, *resolved.holders))
    handling = next((pid for pid in pids if world.machine.handles_signals(pid)), None)
    if handling is None:
        return resolved
    return wait.but(
        suspects=resolved.holders,
        missing=f"{resolved.evidence[-1]}; a signal handler of process {handling} may post it, "
        "too: look at its handlers",
    )


def _by_process(snapshot: Snapshot, group: list[Wait], candidates: Sequence[Task]) -> None:
    """Holders of what the kernel names the process of: any of its threads.  If it is the waiter's
    own process, another thread or the waiter itself: that matters if the others just rest."""
    waiters = {wait.task for wait in group}
    themselves = waiters.intersection(candidates)
    others = tuple(task for task in candidates if task not in waiters)
    waits = [snapshot.waits.get(task) for task in others]
    rest = any(wait is not None and wait.needs == OUTSIDE for wait in waits)
    get_on = any(is_moving(snapshot, task) for task in others)
    for wait in group:
        task = wait.task
        if task not in themselves:
            snapshot.waits[task] = wait.but(holders=wait.candidates or ())
        elif rest and not get_on:
            snapshot.waits[task] = wait.but(
                missing=f"{wait.lock.name or wait.lock.kind} is held by process {task.pid} itself; "
                f"whether by thread {task.tid}, which wants it, is not recorded"
            )
        else:
            snapshot.waits[task] = wait.but(holders=others or (task,), confidence=INFERRED)


def _by_sharing(snapshot: Snapshot, group: list[Wait], candidates: list[Task]) -> None:
    """Holders of a semaphore that several processes map, and nothing else tells: only they can
    post it, so that it stays as it is if none of them can ever run."""
    for wait in group:
        elsewhere = tuple(task for task in candidates if task.pid != wait.task.pid)
        pids = sorted({task.pid for task in elsewhere})
        if wait.needs != EVENT or not pids:
            continue
        name = _name_for_all(snapshot, wait)
        if name is not None:
            snapshot.waits[wait.task] = wait.but(
                missing=f"who would post {name} is not recorded, and whoever opens it can: look at "
                f"what process {pids[0]} does, which has it mapped, too"
            )
            continue
        snapshot.waits[wait.task] = wait.but(
            holders=elsewhere,
            others=tuple(task for task in candidates if task.pid == wait.task.pid),
            any_of=True,
            confidence=INFERRED,
            missing=None,
            evidence=(
                *wait.evidence,
                f"besides this process only {', '.join(map(str, pids[:8]))} has it mapped",
            ),
        )


def _name_for_all(snapshot: Snapshot, wait: Wait) -> str | None:
    """The name by which others could open the file that the semaphore lies in."""
    process = snapshot.tasks[wait.task]
    mapping = process.mapping(wait.lock.address or 0)
    return snapshot.world.present_name(process, mapping) if mapping is not None else None
