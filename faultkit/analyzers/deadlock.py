"""`deadlock`: who waits for whom, the cycles, who queues behind them, and what is broken."""

import os
import time
from collections.abc import Sequence
from typing import NamedTuple, Optional

from faultkit.graph import WaitGraph
from faultkit.model import (
    EVENT,
    FOUND,
    HELD,
    INCONCLUSIVE,
    INFERRED,
    NOT_FOUND,
    OUTSIDE,
    PROVEN,
    Finding,
    Lock,
    Report,
    Task,
    Wait,
)
from faultkit.procfs.status import any_alive
from faultkit.snapshot import Snapshot
from faultkit.target import FaultkitError, Process, ReadError
from faultkit.world import World

# Seconds between two samples of what is not stopped; again, and longer, where a task has run in
# between without getting on (TCP, for one, wakes its writers for nothing).
SECOND_LOOKS = (0.05, 0.1, 0.2)
MOST_STACKS = 200  # back traces shown by --stacks all
INFERRED_LOCKS = 256  # locks without a recorded holder that are looked into
CROWD, SAMPLED = 64, 2  # of more events of one kind than that, so many are looked into at first


class Options(NamedTuple):
    """What the user may ask for: `stacks` is "cycle" (members only), "all" or "none"; `names`
    tells whether thousands of victims are to be named, which the text does not show."""

    stacks: str = "cycle"
    command: str = "deadlock"
    names: bool = True


def analyze(
    processes: Sequence[Process], host: dict[str, Optional[str]], options: Optional[Options] = None
) -> Report:
    """Look at the processes and at those their waits lead to.

    Raises FaultkitError when nothing at all can be said: no such process, no permission.
    """
    world = World(processes)
    try:
        return _analyze(world, host, options or Options())
    finally:
        world.close()


def _analyze(world: World, host: dict[str, Optional[str]], options: Options) -> Report:
    began = time.perf_counter()
    processes = world.primary
    snapshot = Snapshot(world)
    snapshot.settle()
    _infer(snapshot)
    graph = WaitGraph(snapshot.waits, snapshot.tasks)
    if _infer_wakers(snapshot, graph):
        graph = WaitGraph(snapshot.waits, snapshot.tasks)
    findings = _findings(graph)
    findings = _second_look(snapshot, findings)
    if not findings:
        _doubt_silence(snapshot, graph)
    limits = _limits(snapshot, findings)
    findings = [_with_details(world, snapshot, finding, options) for finding in findings]
    report = Report(
        options.command,
        host,
        {
            "kind": processes[0].kind,
            "name": ", ".join(process.name for process in processes),
            "release": None,
        },
        _verdict(findings, limits),
        findings=findings,
        limits=limits,
        counts=_counts(snapshot),
    )
    report.summary = _summary(report)
    report.notes = world.notes
    if options.stacks == "all":
        _add_stacks(snapshot, report)
    report.elapsed_seconds = time.perf_counter() - began
    return report


def _findings(graph: WaitGraph) -> list[Finding]:
    """Cycles first, then broken locks, then chains; each task is a victim of one finding."""
    findings: list[Finding] = []
    cycles = graph.cycles()
    faults: dict[tuple[object, ...], list[Wait]] = {}
    for wait in graph.waits.values():
        if wait.fault:
            faults.setdefault((wait.fault, *wait.lock.identity), []).append(wait)
    told = {wait.task for cycle in cycles for wait in cycle}
    told |= {wait.task for group in faults.values() for wait in group}
    for cycle in cycles:
        victims = graph.behind([wait.task for wait in cycle], barred=told)
        told.update(victims)
        inferred = any(wait.confidence == INFERRED for wait in cycle)
        findings.append(
            Finding(
                "cycle" if len(cycle) > 1 else "self-deadlock",
                tuple(cycle),
                tuple(victims),
                confidence=INFERRED if inferred else PROVEN,
            )
        )
    for group in faults.values():
        first = group[0]
        victims = graph.behind([wait.task for wait in group], barred=told)
        told.update(victims)
        findings.append(
            Finding(
                first.fault or "",
                tuple(group),
                tuple(victims),
                lock=first.lock,
                confidence=first.confidence,
                explanation=_advice(first),
                evidence=first.evidence,
            )
        )
    for root, behind in graph.chains():
        victims = [task for task in behind if task not in told]
        if root in told or not victims:
            continue
        told.update(victims)
        findings.append(
            Finding(
                "chain",
                victims=tuple(victims),
                root=root,
                root_waits_for=graph.waits[root],
                confidence=_weakest(graph.waits[task] for task in victims),
            )
        )
    return findings


def _weakest(waits: "object") -> str:
    return INFERRED if any(w.confidence == INFERRED for w in waits) else PROVEN  # type: ignore


def _advice(wait: Wait) -> str:
    """What a broken lock means, and what to do."""
    detail = wait.fault_detail or ""
    if wait.fault == "corrupt-lock":
        return (
            f"{detail}: memory was overwritten, by a bug (run it under valgrind or build it with "
            "-fsanitize=address) or by failing memory (see machine-check events in the kernel "
            "log, and run memtest)"
        )
    if wait.fault == "orphaned-lock":
        return f"{detail}; look for an exit or a fork() with the lock held"
    return f"{detail}, yet tasks sleep on it: a wake-up was lost"


def _infer(snapshot: Snapshot) -> None:
    """Look for the holders that the locks do not record, once for each lock, where that can
    close a cycle at all."""
    unknown: dict[tuple[object, ...], list[Wait]] = {}
    for wait in snapshot.waits.values():
        if wait.candidates is not None and not wait.holders and not wait.fault:
            unknown.setdefault((*wait.lock.identity, wait.mode), []).append(wait)
    if not unknown:
        return
    from faultkit.infer import resolve

    events = [group[0].lock.kind for group in unknown.values() if group[0].needs == EVENT]
    crowds = {kind for kind in set(events) if events.count(kind) > CROWD}
    sampled: dict[str, int] = {}  # by kind, as long as nobody is found who would act
    number = skipped = 0
    for group in unknown.values():
        waiters = {wait.task for wait in group}
        first = group[0]
        kind = first.lock.kind
        is_idle = first.needs == EVENT and kind in crowds and sampled.get(kind, 0) >= SAMPLED
        if is_idle:
            continue
        if number >= INFERRED_LOCKS:
            skipped += 1
            continue
        number += 1
        candidates = [task for task in first.candidates or () if task in snapshot.tasks]
        if first.needs == EVENT:
            candidates = [task for task in candidates if task not in waiters]
        if not candidates:
            continue
        try:
            resolved = resolve(snapshot.world, first, candidates)
        except FaultkitError as error:
            snapshot.world.limit(str(error))
            resolved = first
        if resolved.holders:
            crowds.discard(kind)
        sampled[kind] = sampled.get(kind, 0) + 1
        if not resolved.holders and first.lock.key and first.lock.key[0] == "shared":
            _by_sharing(snapshot, group, candidates)
            continue
        if not resolved.holders and first.any_of and first.needs == HELD:
            # The kernel names the process that holds it, so one of these does.
            for wait in group:
                snapshot.waits[wait.task] = wait.but(holders=wait.candidates or ())
            continue
        missing = resolved.missing
        if resolved.suspects and all(_is_moving(snapshot, task) for task in resolved.suspects):
            missing = None  # whoever of them has it gets on
        count = first.holder_count
        if missing == first.missing and count is not None:
            missing = None if _others_get_on(snapshot, waiters, candidates, count) else missing
        for wait in group:
            snapshot.waits[wait.task] = wait.but(
                holders=resolved.holders,
                needs=resolved.needs,
                any_of=resolved.any_of,
                others=resolved.others,
                confidence=resolved.confidence if resolved.holders else wait.confidence,
                evidence=resolved.evidence,
                missing=missing,
            )
    if skipped:
        snapshot.world.limit(f"the holders of {skipped} more locks were not looked for")


def _others_get_on(
    snapshot: Snapshot, waiters: set[Task], candidates: list[Task], count: int
) -> bool:
    """Whether no candidate but the waiters themselves is stuck, and enough of them (`count`) run
    or sleep for a time only to be those who have the lock."""
    waits = [snapshot.waits.get(task) for task in candidates if task not in waiters]
    if any(wait is not None and wait.needs != OUTSIDE for wait in waits):
        return False
    return sum(1 for wait in waits if wait is None or wait.timed) >= count


def _is_moving(snapshot: Snapshot, task: Task) -> bool:
    """Whether the task runs, or waits only for a time."""
    wait = snapshot.waits.get(task)
    return task in snapshot.running if wait is None else wait.needs == OUTSIDE and wait.timed


def _by_sharing(snapshot: Snapshot, group: list[Wait], candidates: list[Task]) -> None:
    """Holders of a semaphore that several processes map, and nothing else tells: only they can
    post it, so that it stays as it is if none of them can ever run."""
    for wait in group:
        elsewhere = tuple(task for task in candidates if task.pid != wait.task.pid)
        pids = sorted({task.pid for task in elsewhere})
        if wait.needs != EVENT or not pids:
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


def _infer_wakers(snapshot: Snapshot, graph: WaitGraph) -> bool:
    """For roots of chains that wait for an event within their process: does everybody who would
    bring it about wait for the root?  Whether any was found."""
    found = False
    for root, _ in graph.chains()[:INFERRED_LOCKS]:
        wait = snapshot.waits[root]
        if wait.needs != EVENT or wait.candidates is not None:
            continue
        process = snapshot.tasks[root]
        from faultkit.infer import resolve

        others = [task for task in snapshot.world.members(process) if task != root]
        try:
            resolved = resolve(snapshot.world, wait, others)
        except FaultkitError:
            continue
        if resolved.holders:
            snapshot.waits[root] = resolved
            found = True
    return found


def _second_look(snapshot: Snapshot, findings: list[Finding]) -> list[Finding]:
    """Drop the findings whose tasks get on: at a second sample a moment later, or, stopped,
    because a wake-up had reached them already."""
    for pause in SECOND_LOOKS:
        waits = [wait for finding in findings for wait in _waits_of(finding, snapshot)]
        involved = [snapshot.tasks[wait.task] for wait in waits if wait.task in snapshot.tasks]
        marks: dict[Task, Optional[int]] = {}
        if any(process.live and not process.stopped for process in involved):
            marks = snapshot.marks(waits)
            time.sleep(pause)
            snapshot.forget()
        progressed = {wait.task for wait in waits if snapshot.progressed(wait)}
        after = snapshot.marks(wait for wait in waits if wait.task in marks)
        moved = {task for task, mark in marks.items() if after.get(task) != mark}
        findings = [f for f in findings if not _any_of(f, snapshot, progressed)]
        if not any(_any_of(finding, snapshot, moved) for finding in findings):
            return findings
    return [finding for finding in findings if not _any_of(finding, snapshot, moved)]


def _progressing(snapshot: Snapshot, waits: Sequence[Wait]) -> set[Task]:
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


def _limits(snapshot: Snapshot, findings: list[Finding]) -> list[str]:
    """What could not be seen, and so keeps us from saying that there is no deadlock."""
    from faultkit.runtimes import opaque_runtime

    world = snapshot.world
    for process in world.primary:
        if process.live and not any_alive(process.pid):
            world.limit(f"process {process.pid} ended while it was looked at")
        for limit in process.limits():
            world.limit(limit)
        runtime = opaque_runtime(process)
        if runtime:
            world.limit(runtime)
    if snapshot.unseen:
        count = len(snapshot.unseen)
        world.limit(
            f"the state of {count} of {len(snapshot.tasks)} tasks could not be read"
        )
    told = {wait.task for finding in findings for wait in finding.members}
    unknown = [
        wait
        for task, wait in snapshot.waits.items()
        if wait.missing and not wait.holders and task not in told
    ]
    getting_on = _progressing(snapshot, unknown)
    missing: dict[str, int] = {}
    for wait in unknown:
        if wait.missing and wait.task not in getting_on:
            missing[wait.missing] = missing.get(wait.missing, 0) + 1
    for text, count in list(missing.items())[:16]:
        world.limit(f"{text} ({count} wait)" if count > 1 else text)
    return world.limits


def _doubt_silence(snapshot: Snapshot, graph: WaitGraph) -> None:
    """A process none of whose threads can ever run on by itself, with some on futexes of which
    nothing is known, may well be dead: say so rather than that nothing was found."""
    for process in snapshot.world.primary:
        members = [task for task, owner in snapshot.tasks.items() if owner is process]
        unknown = [
            task
            for task in members
            if task in snapshot.waits and snapshot.waits[task].lock.kind == "futex"
        ]
        if unknown and all(task in graph.stuck for task in members):
            snapshot.world.limit(
                f"all {len(members)} threads sleep until one of them wakes another, "
                f"{len(unknown)} of them on futexes of an unknown kind; compare their stacks "
                "(--stacks all)"
            )


def _verdict(findings: list[Finding], limits: list[str]) -> str:
    if any(finding.type != "chain" for finding in findings):
        return FOUND
    if limits:
        return INCONCLUSIVE
    return FOUND if findings else NOT_FOUND


def _counts(snapshot: Snapshot) -> dict[str, int]:
    """How many tasks there are, how many wait for another, and for how many that is known."""
    waiters = [wait for wait in snapshot.waits.values() if wait.needs == HELD or wait.holders]
    return {
        "tasks": len(snapshot.tasks),
        "running": len(snapshot.running),
        "waiters": len(waiters),
        "resolved": sum(1 for wait in waiters if wait.holders or wait.fault),
    }


def _summary(report: Report) -> str:
    """One line to find with grep, and to put in a ticket's title."""
    parts = []
    for finding in report.findings:
        who = ",".join(str(wait.task.tid) for wait in finding.members[:6])
        if len(finding.members) > 6:
            who += ",..."
        locks = ",".join(
            dict.fromkeys(lock_name(wait.lock) for wait in finding.members[:6])
        )
        if finding.type == "cycle":
            parts.append(f"deadlock {who} via {locks}")
        elif finding.type == "chain" and finding.root and finding.root_waits_for:
            parts.append(
                f"chain: {len(finding.victims)} behind {finding.root.tid}, which waits for "
                f"{lock_name(finding.root_waits_for.lock)}"
            )
        else:
            parts.append(f"{finding.type} {locks}, {who}")
    if len(parts) > 4:
        parts[4:] = [f"and {len(parts) - 4} more"]
    if parts:
        return "; ".join(parts)
    if report.verdict == NOT_FOUND:
        return "no deadlock found"
    return "could not tell whether there is a deadlock"


def lock_name(lock: Lock) -> str:
    """The lock's own name, else its kind and address."""
    if lock.name:
        return lock.name
    return lock.kind if lock.address is None else f"{lock.kind} {lock.address:#x}"


def _with_details(
    world: World, snapshot: Snapshot, finding: Finding, options: Options
) -> Finding:
    """The finding with names of tasks and locks, and with the members' back traces."""

    def detail(wait: Wait, frames: bool) -> Wait:
        process = snapshot.tasks.get(wait.task)
        # following code takes longer than all the rest: not while a live process stands still,
        # unless everything was asked for
        quick = process is not None and process.live and process.stopped
        wanted = frames and (not quick or options.stacks == "all")
        taken = _taken_at(world, wait) if wanted else ()
        lock = wait.lock
        if process is not None and lock.name is None and lock.address is not None:
            lock = lock._replace(key=lock.identity, name=name_address(process, lock.address))
        return wait.but(
            task=world.describe(wait.task),
            lock=lock,
            holders=tuple(world.describe(holder) for holder in wait.holders[:64]),
            evidence=(*wait.evidence, *taken),
            frames=process.frames(wait.task) if process is not None and frames else (),
        )

    shown = options.stacks != "none"
    members = tuple(
        detail(wait, shown and (finding.type == "cycle" or number < 3))
        for number, wait in enumerate(finding.members)
    )
    root_waits_for = finding.root_waits_for
    return finding._replace(
        members=members,
        victims=tuple(map(world.describe, finding.victims)) if options.names else finding.victims,
        lock=members[0].lock if finding.lock and members else finding.lock,
        root=world.describe(finding.root) if finding.root else None,
        root_waits_for=detail(root_waits_for, shown) if root_waits_for else None,
    )


def _taken_at(world: World, wait: Wait) -> tuple[str, ...]:
    """Where the recorded holder took the lock, if its own code shows that."""
    if wait.confidence != PROVEN or len(wait.holders) != 1 or wait.lock.address is None:
        return ()
    from faultkit.infer.taken import taken_at

    taken = taken_at(world, wait, wait.holders[0])
    return () if taken is None else (f"thread {wait.holders[0].tid}: {taken}",)


def name_address(process: Process, address: int) -> Optional[str]:
    """"accounts+40", "[heap]+0x2a0", "/dev/shm/x+0x40": what a person would call the address;
    None for anonymous memory."""
    try:
        symbol = process.symbol(address)
        if symbol is not None:
            name, offset, _ = symbol
            return f"{name}+{offset}" if offset else name
        mapping = process.mapping(address)
    except (FaultkitError, ReadError):
        return None
    if mapping is None or not mapping.path:
        return None
    place = address - mapping.start
    if mapping.path.startswith("["):
        return f"{mapping.path}+{place:#x}" if mapping.path == "[heap]" else None
    # a shared file is known by its path; a program or library by its name
    path = mapping.path.removesuffix(" (deleted)")
    name = path if mapping.shared else os.path.basename(path)
    place += mapping.offset
    return f"{name}+{place:#x}" if place else name


def _add_stacks(snapshot: Snapshot, report: Report) -> None:
    """Back traces of everybody else, up to a cap that the report states."""
    told = {wait.task for finding in report.findings for wait in finding.members}
    rest = [task for task in snapshot.tasks if task not in told]
    for task in rest[:MOST_STACKS]:
        process = snapshot.tasks[task]
        report.stacks.append((snapshot.world.describe(task), process.frames(task)))
    if len(rest) > MOST_STACKS:
        report.notes.append(f"stacks of {len(rest) - MOST_STACKS} more tasks were left out")
