"""Waits whose holders no lock records: inference fills them in where that can close a cycle."""

from __future__ import annotations

from faultkit.graph import WaitGraph
from faultkit.model import EVENT, HELD, Wait
from faultkit.snapshot import Snapshot
from faultkit.target import FaultkitError

ROOTS = 256  # of chains that are looked into
LONGEST_CHAIN = 16  # of events, one behind the other, that are looked into


def fill_holders(snapshot: Snapshot) -> None:
    """Look for the holders that the locks do not record, and for locks that have none."""
    _infer_holders(snapshot)
    left = [wait for wait in snapshot.waits.values() if _is_open(wait)]
    if left:
        from faultkit.abandoned import tell_abandoned

        tell_abandoned(snapshot, left)


def _is_open(wait: Wait) -> bool:
    return wait.needs == HELD and not wait.holders and not wait.fault and not wait.changing


def _infer_holders(snapshot: Snapshot) -> None:
    """Once for each lock, where that can close a cycle at all."""
    unknown: dict[tuple[object, ...], list[Wait]] = {}
    for wait in snapshot.waits.values():
        if not snapshot.concerns(wait):
            continue
        if wait.candidates is not None and not wait.holders and not wait.fault:
            unknown.setdefault((*wait.lock.identity, wait.mode), []).append(wait)
    if not unknown:
        return
    from faultkit.inferring import Looks

    looks = Looks(snapshot, list(unknown.values()))
    for group in unknown.values():
        looks.look_into(group)
    if looks.skipped:
        snapshot.world.limit(f"the holders of {looks.skipped} more locks were not looked for")


def with_wakers(snapshot: Snapshot, graph: WaitGraph) -> WaitGraph:
    """The graph with who would bring about the events that its chains' roots wait for.  Each one
    that is found makes another task the root, which may wait for an event, too."""
    for _ in range(LONGEST_CHAIN):
        if not _fill_wakers(snapshot, graph):
            break
        graph = WaitGraph(snapshot.waits, graph.tasks)
    return graph


def _fill_wakers(snapshot: Snapshot, graph: WaitGraph) -> bool:
    """For roots of chains that wait for an event within their process: does everybody who would
    bring it about wait for the root?  Whether any was found."""
    found = False
    for root, _ in graph.chains()[:ROOTS]:
        wait = snapshot.waits[root]
        if wait.needs != EVENT or wait.candidates is not None or not snapshot.concerns(wait):
            continue
        process = snapshot.tasks[root]
        if _is_known_elsewhere(snapshot, wait):
            continue
        from faultkit.candidates import likely_first
        from faultkit.infer.holders import resolve

        members = likely_first(snapshot, snapshot.world.members(process))
        others = [task for task in members if task != root]
        try:
            resolved = resolve(snapshot.world, wait, others)
        except FaultkitError:
            continue
        if resolved.holders:
            snapshot.waits[root] = resolved
            found = True
    return found


def _is_known_elsewhere(snapshot: Snapshot, wait: Wait) -> bool:
    """Whether other processes map what the task waits for, and could bring it about; then it is
    said that they could."""
    process, address = snapshot.tasks[wait.task], wait.lock.address
    if address is None or wait.lock.key is None or wait.lock.key[0] != "shared":
        return False
    mapping = process.mapping(address)
    sharers = snapshot.world.sharers(mapping) if mapping is not None else ()
    pids = sorted({other.pid for other, _ in sharers} - {process.pid})
    if not pids:
        return False
    shown = ", ".join(map(str, pids[:8]))
    snapshot.world.limit(
        f"who would end the wait of thread {wait.task.tid} for the {wait.lock.kind} at "
        f"{address:#x} is not recorded: besides process {process.pid}, {shown} could"
    )
    return True
