"""`deadlock`: who waits for whom, the cycles, who queues behind them, and what is broken."""

from __future__ import annotations

import time
from collections.abc import Sequence

from faultkit.details import with_details
from faultkit.findings import counts_of, find, lock_name, summarise, verdict_of
from faultkit.graph import WaitGraph
from faultkit.model import HELD, Finding, Report
from faultkit.procfs.status import any_alive
from faultkit.recheck import progressing, still_standing
from faultkit.record import NamedTuple
from faultkit.snapshot import Snapshot
from faultkit.target import Process
from faultkit.unrecorded import fill_holders, with_wakers
from faultkit.world import World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.kernel.target import Kernel

DYING = 0.05  # seconds; threads of a process that is being killed seem to get on until then
DOUBTFUL = (  # kinds of waits that nobody idles in, or that can't be told
    ("barrier", "at barriers that lack somebody"),
    ("python_barrier", "at barriers that lack somebody"),
    ("python_semaphore", "for semaphores, which record no holder"),
    ("python_future", "for results of others' work"),
    ("futex", "on futexes of an unknown kind"),
)
MOST_STACKS = 200  # back traces shown by --stacks all


class Options(NamedTuple):
    """What the user may ask for: `stacks` is "cycle" (members only), "all" or "none"; `names`
    tells whether thousands of victims are to be named, which the text does not show."""

    stacks: str = "cycle"
    command: str = "deadlock"
    names: bool = True


def analyze(
    processes: Sequence[Process], host: dict[str, str | None], options: Options | None = None
) -> Report:
    """Look at the processes and at those their waits lead to.

    Raises FaultkitError when nothing at all can be said: no such process, no permission.
    """
    world = World(processes)
    try:
        return _analyze(world, host, options or Options())
    finally:
        world.close()


def _analyze(world: World, host: dict[str, str | None], options: Options) -> Report:
    began = time.perf_counter()
    processes = world.primary
    snapshot = Snapshot(world)
    snapshot.settle()
    fill_holders(snapshot)
    graph = WaitGraph(snapshot.waits, snapshot.tasks)
    graph = with_wakers(snapshot, graph)
    seen = find(graph)
    findings = still_standing(snapshot, seen)
    if any(finding.root is not None for finding in findings):
        from faultkit.turns import without_turns

        findings = without_turns(snapshot, findings)
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
        verdict_of(findings, limits),
        findings=findings,
        limits=limits,
        counts=counts_of(snapshot.tasks, snapshot.running, snapshot.waits),
    )
    report.summary = summarise(report)
    report.notes = world.notes
    if options.stacks == "all":
        _add_stacks(snapshot, report)
    report.elapsed_seconds = time.perf_counter() - began
    return report


def _limits(snapshot: Snapshot, findings: list[Finding]) -> list[str]:
    """What could not be seen, and so keeps us from saying that there is no deadlock."""
    from faultkit.runtimes import opaque_runtime

    world = snapshot.world
    for process in world.primary:
        if process.live and not any_alive(process.pid, (t.tid for t in world.tasks(process))):
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
    """A process none of whose threads can ever run on by itself, with some in waits that are not
    idle ones, may well be dead, as may a thread that wants a semaphore again: say so rather than
    that nothing was found."""
    for process in snapshot.world.primary:
        members = [task for task, owner in snapshot.tasks.items() if owner is process]
        kinds = [snapshot.waits[task].lock.kind for task in members if task in snapshot.waits]
        doubtful = [
            f"{kinds.count(kind)} of them {where}" for kind, where in DOUBTFUL if kind in kinds
        ]
        if doubtful and all(task in graph.stuck for task in members):
            snapshot.world.limit(
                f"all {len(members)} threads sleep until one of them wakes another, "
                f"{', '.join(doubtful)}; compare their stacks (--stacks all)"
            )
    for task, wait in snapshot.waits.items():
        if task in wait.holders and wait.needs == HELD and task not in graph.stuck:
            snapshot.world.limit(
                f"thread {task.tid} waits for {lock_name(wait.lock)}, which it took before; "
                "whether others took it too, and would post it, is not recorded: see their stacks "
                "(--stacks all)"
            )


def _add_stacks(snapshot: Snapshot, report: Report) -> None:
    """Back traces of everybody else, up to a cap that the report states."""
    told = {wait.task for finding in report.findings for wait in finding.members}
    rest = [task for task in snapshot.tasks if task not in told]
    for task in rest[:MOST_STACKS]:
        process = snapshot.tasks[task]
        report.stacks.append((snapshot.world.describe(task), process.frames(task)))
    if len(rest) > MOST_STACKS:
        report.notes.append(f"stacks of {len(rest) - MOST_STACKS} more tasks were left out")


def analyze_kernel(
    kernel: Kernel, host: dict[str, str | None], options: Options | None = None
) -> Report:
    """Look at all tasks of a kernel, dumped or live.

    Raises FaultkitError when nothing at all can be said: debug information without tasks.
    """
    from faultkit.kernel.details import back_trace, with_details
    from faultkit.kernel.snapshot import KernelSnapshot
    from faultkit.kernel.system import System

    began = time.perf_counter()
    options = options or Options()
    system = System(kernel)
    snapshot = KernelSnapshot(system)
    snapshot.settle()
    if snapshot.has_open_waits():
        from faultkit.kernel.unrecorded import fill_holders as fill_kernel_holders

        fill_kernel_holders(snapshot)
    graph = WaitGraph(snapshot.waits, snapshot.tasks)
    if snapshot.programs is not None:
        graph = with_wakers(snapshot.programs, graph)
    findings = find(graph)
    if kernel.live and findings:
        from faultkit.kernel import recheck

        findings = recheck.still_standing(snapshot, findings)
    limits = snapshot.limits(findings)
    findings = [with_details(system, finding, options.stacks) for finding in findings]
    report = Report(
        options.command,
        host,
        {"kind": kernel.kind, "name": kernel.name, "release": kernel.release},
        verdict_of(findings, limits),
        findings=findings,
        limits=limits,
        counts=counts_of(snapshot.tasks, snapshot.running, snapshot.waits),
    )
    report.summary = summarise(report)
    report.notes = system.notes
    if options.stacks == "all":
        told = {wait.task for finding in findings for wait in finding.members}
        rest = [task for task in snapshot.waiting() if task not in told]
        report.stacks = [
            (system.described(task), back_trace(system, task)) for task in rest[:MOST_STACKS]
        ]
        if len(rest) > MOST_STACKS:
            report.notes.append(f"stacks of {len(rest) - MOST_STACKS} more tasks were left out")
    report.elapsed_seconds = time.perf_counter() - began
    return report
