"""`deadlock`: who waits for whom, the cycles, who queues behind them, and what is broken."""

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from faultkit.details import with_details
from faultkit.graph import WaitGraph
from faultkit.model import (
    FOUND,
    HELD,
    INCONCLUSIVE,
    INFERRED,
    NOT_FOUND,
    PROVEN,
    Finding,
    Lock,
    Report,
    Wait,
)
from faultkit.procfs.status import any_alive
from faultkit.recheck import progressing, still_standing
from faultkit.snapshot import Snapshot
from faultkit.target import Process
from faultkit.unrecorded import fill_holders, fill_wakers
from faultkit.world import World

DYING = 0.05  # seconds; threads of a process that is being killed seem to get on until then
MOST_STACKS = 200  # back traces shown by --stacks all


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
    fill_holders(snapshot)
    graph = WaitGraph(snapshot.waits, snapshot.tasks)
    if fill_wakers(snapshot, graph):
        graph = WaitGraph(snapshot.waits, snapshot.tasks)
    seen = _findings(graph)
    findings = still_standing(snapshot, seen)
    if seen and not findings:
        time.sleep(DYING)
    if not findings:
        _doubt_silence(snapshot, graph)
    limits = _limits(snapshot, findings)
    findings = [
        with_details(snapshot, finding, options.stacks, options.names) for finding in findings
    ]
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
        findings.append(
            Finding(
                "cycle" if len(cycle) > 1 else "self-deadlock",
                tuple(cycle),
                tuple(victims),
                confidence=_weakest(cycle),
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


def _weakest(waits: Iterable[Wait]) -> str:
    return INFERRED if any(wait.confidence == INFERRED for wait in waits) else PROVEN


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
        world.limit(f"the state of {count} of {len(snapshot.tasks)} tasks could not be read")
    told = {wait.task for finding in findings for wait in finding.members}
    unknown = [
        wait
        for task, wait in snapshot.waits.items()
        if wait.missing and not wait.holders and task not in told
    ]
    getting_on = progressing(snapshot, unknown)
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
        locks = ",".join(dict.fromkeys(lock_name(wait.lock) for wait in finding.members[:6]))
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


def _add_stacks(snapshot: Snapshot, report: Report) -> None:
    """Back traces of everybody else, up to a cap that the report states."""
    told = {wait.task for finding in report.findings for wait in finding.members}
    rest = [task for task in snapshot.tasks if task not in told]
    for task in rest[:MOST_STACKS]:
        process = snapshot.tasks[task]
        report.stacks.append((snapshot.world.describe(task), process.frames(task)))
    if len(rest) > MOST_STACKS:
        report.notes.append(f"stacks of {len(rest) - MOST_STACKS} more tasks were left out")
