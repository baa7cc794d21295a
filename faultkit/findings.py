"""From the wait graph to findings, and what a report says of all of them: the same for processes
and kernels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from operator import attrgetter

from faultkit.graph import WaitGraph
from faultkit.model import (
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

UNNAMED = " object"  # ends the name of a lock of which only the kind of object it lies in is known


def find(graph: WaitGraph) -> list[Finding]:
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
    chains = graph.chains()
    movers = _movers(graph) if chains else {}
    for root, behind in chains:
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
                explanation=_hope(graph, root, movers.get(root.pid, ())),
            )
        )
    return findings


def _movers(graph: WaitGraph) -> dict[int, list[Task]]:
    """The first two tasks of each process that get on without any other: one may be the root."""
    found: dict[int, list[Task]] = {}
    for task in sorted(graph.tasks - graph.stuck, key=attrgetter("tid")):
        if graph.moves(task):
            some = found.setdefault(task.pid, [])
            if len(some) < 2:
                some.append(task)
    return found


def _hope(graph: WaitGraph, root: Task, movers: Iterable[Task]) -> str | None:
    """How a chain's root may yet get on; None if nothing that was seen can bring that about.
    `movers` are tasks of its process that get on."""
    if root in graph.stuck:
        return None
    if graph.waits[root].needs == OUTSIDE:
        return "what it waits for may come from outside of these tasks"
    other = next((task for task in movers if task != root), None)
    if other is None:
        return "others that get on may yet wake it"
    return f"{other.tid}, which {_does(graph.waits.get(other))}, may yet wake it"


def _does(wait: Wait | None) -> str:
    if wait is None:
        return "runs"
    if wait.lock.kind == "sleep":
        return "only sleeps for a time" if wait.timed else "sleeps"
    return f"waits for {lock_name(wait.lock)}" + (" for a time" if wait.timed else "")


def _weakest(waits: Iterable[Wait]) -> str:
    return INFERRED if any(wait.confidence == INFERRED for wait in waits) else PROVEN


def _advice(wait: Wait) -> str:
    """What a broken lock means, and what to do."""
    detail = wait.fault_detail or ""
    in_kernel = wait.lock.key is not None and wait.lock.key[0] == "kernel"
    if wait.fault == "corrupt-lock":
        tool = (
            "boot with slub_debug=FZPU, or a kernel with KASAN"
            if in_kernel
            else "run it under valgrind or build it with -fsanitize=address"
        )
        return (
            f"{detail}: memory was overwritten, by a bug ({tool}) or by failing memory (see "
            "machine-check events in the kernel log, and run memtest)"
        )
    if wait.fault == "orphaned-lock":
        if in_kernel:
            return f"{detail}; look for a way out of its code that does not unlock"
        return f"{detail}; look for an exit or a fork() with the lock held"
    return f"{detail}, yet tasks sleep on it: a wake-up was lost"


def verdict_of(findings: list[Finding], limits: list[str]) -> str:
    """FOUND, NOT_FOUND or INCONCLUSIVE: what could not be seen keeps us from saying no."""
    if any(finding.type != "chain" for finding in findings):
        return FOUND
    if limits:
        return INCONCLUSIVE
    return FOUND if findings else NOT_FOUND


def counts_of(tasks: Sized, running: Sized, waits: Mapping[Task, Wait]) -> dict[str, int]:
    """How many tasks there are, how many wait for another, and for how many that is known."""
    waiters = [wait for wait in waits.values() if wait.needs == HELD or wait.holders]
    return {
        "tasks": len(tasks),
        "running": len(running),
        "waiters": len(waiters),
        "resolved": sum(1 for wait in waiters if wait.holders or wait.fault),
    }


def summarise(report: Report) -> str:
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
            lock = finding.root_waits_for.lock
            does = "sleeps in" if lock.kind == "sleep" and lock.name else "waits for"
            parts.append(
                f"chain: {len(finding.victims)} behind {finding.root.tid}, which {does} "
                f"{lock_name(lock)}"
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
    if lock.name and not lock.name.endswith(UNNAMED):
        return lock.name
    return lock.kind if lock.address is None else f"{lock.kind} {lock.address:#x}"
