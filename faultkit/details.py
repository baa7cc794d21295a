"""What a report tells of a finding beyond the finding: names, places and back traces."""

from __future__ import annotations

import os

from faultkit.model import PROVEN, Finding, Wait
from faultkit.snapshot import Snapshot
from faultkit.target import FaultkitError, Process, ReadError
from faultkit.world import World

FEW = 64  # tasks


def with_details(snapshot: Snapshot, finding: Finding, stacks: str, names: bool) -> Finding:
    """The finding with names of tasks and locks, and (unless `stacks` is "none") the members'
    back traces; the victims' names only with `names`."""
    world, tasks = snapshot.world, snapshot.tasks

    def detail(wait: Wait, frames: bool) -> Wait:
        process = tasks.get(wait.task)
        # to follow code takes as long as all the rest: not while many threads stand still for it,
        # unless everything was asked for
        crowd = process is not None and process.live and process.stopped and len(tasks) > FEW
        wanted = frames and (not crowd or stacks == "all")
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

    shown = stacks != "none"
    members = tuple(
        detail(wait, shown and (finding.type == "cycle" or number < 3))
        for number, wait in enumerate(finding.members)
    )
    root_waits_for = finding.root_waits_for
    return finding._replace(
        members=members,
        victims=tuple(map(world.describe, finding.victims)) if names else finding.victims,
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


def name_address(process: Process, address: int) -> str | None:
    """ "accounts+40", "[heap]+0x2a0", "/dev/shm/x+0x40": what a person would call the address;
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
