"""Descriptors that were sent through a unix socket (SCM_RIGHTS) and not received yet: no process
has them, and who receives them can use them.  The kernel tells how many there are, not of what."""

from __future__ import annotations

from collections.abc import Collection

from faultkit.waits._ipc import descriptors, once
from faultkit.world import World


def receivers(world: World, involved: Collection[int]) -> set[int]:
    """The processes that could receive a descriptor of what `involved` have open: unless the sender
    is known and has nothing to do with them, neither by kinship nor through a unix socket."""
    carrying = once(world, "carrying", descriptors(world).carrying)
    found: set[int] = set()
    near: set[int] | None = None
    for inode, pids in carrying.items():
        senders = _peers(world).get(inode)
        if senders:
            near = _near(world, involved) if near is None else near
            if near.isdisjoint(senders) and near.isdisjoint(_parents(world, senders)):
                continue
        found.update(pids)
    return found


def _near(world: World, involved: Collection[int]) -> set[int]:
    """Themselves, their parents, children and siblings, and who is connected to them."""
    near = set(involved) | _parents(world, involved)
    for parent in tuple(near):
        near.update(world.machine.children(parent))
    of_socket = descriptors(world).of_socket
    for inode, peers in _peers(world).items():
        if peers and any(pid in involved for pid, _ in of_socket(inode)):
            near.update(peers)
    return near


def _parents(world: World, pids: Collection[int]) -> set[int]:
    """Their parents but for init, to which all orphans go."""
    return {parent for parent in map(world.parent_of, pids) if parent is not None and parent > 1}


def _peers(world: World) -> dict[int, set[int]]:
    """By each unix socket's inode: which processes have the socket open that it is connected to."""

    def read() -> dict[int, set[int]]:
        try:
            table = world.machine.unix_sockets()
        except OSError:
            return {}
        of_socket = descriptors(world).of_socket
        return {
            inode: {pid for pid, _ in of_socket(unix.peer)}
            for inode, unix in table.items()
            if unix.peer
        }

    return once(world, "unix peers", read)
