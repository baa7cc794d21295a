"""poll, select and epoll: a wait for whichever of several descriptors moves first."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.machine import Machine
from faultkit.model import EVENT, INFERRED, OUTSIDE, PROVEN, Lock, Task, Wait
from faultkit.procfs.fds import link_inode
from faultkit.record import NamedTuple
from faultkit.waits._ipc import (
    CROWDED,
    FD_IN_A_CORE,
    Channel,
    afford,
    fd_argument,
    outside,
    signed,
)
from faultkit.waits._restart import RESTART_SYSCALL, polls
from faultkit.waits.calls import _pidfd, pipe, socket
from faultkit.world import Blocked

POLL, SELECT, EPOLL_WAIT, PSELECT6 = 7, 23, 232, 270
PPOLL, EPOLL_PWAIT, EPOLL_PWAIT2 = 271, 281, 441
SYSCALLS = frozenset(
    {POLL, SELECT, EPOLL_WAIT, PSELECT6, PPOLL, EPOLL_PWAIT, EPOLL_PWAIT2, RESTART_SYSCALL}
)
PRIORITY = 60

POLLIN, POLLOUT = 0x001 | 0x040, 0x004 | 0x100  # with RDNORM and WRNORM
MOST_FDS = 1024  # beyond, it is a server that somebody else may call at any time
MOST_SHOWN = 8


class Interest(NamedTuple):
    """One descriptor waited for, and whether to read, to write, or for an error only."""

    fd: int
    reads: bool
    writes: bool


def recognise(blocked: Blocked) -> Wait | None:
    """The wait of a task that polls: EVENT when somebody we know is at the other end of every
    descriptor, OUTSIDE when one of them may move by itself or the call times out."""
    if blocked.call.nr == RESTART_SYSCALL:
        if not polls(blocked):
            return None
        blocked = _as_poll(blocked)
    timed = _has_timeout(blocked)
    interests = _interests(blocked)
    if timed or interests is None:
        missing = None if timed or blocked.machine is not None else FD_IN_A_CORE
        return outside(blocked, "poll", _names(interests), timed=timed, missing=missing)
    if not interests:
        return outside(blocked, "signal", "poll without descriptors")
    if blocked.machine is None:
        return outside(blocked, "poll", _names(interests), missing=FD_IN_A_CORE)
    if len(interests) > MOST_FDS:
        return outside(blocked, "poll", _names(interests))
    channels: list[Channel] = []
    for interest in interests:
        for writing in (False, True):
            if not (interest.writes if writing else interest.reads):
                continue
            found = _channel(blocked, interest.fd, writing)
            if found is None or found.outside:
                lock = found.lock if found is not None else None
                return _outside(blocked, interests, interest.fd, lock, found)
            channels.append(found)
    if not channels:
        return outside(blocked, "poll", _names(interests))
    return _wait(blocked, interests, channels)


def listens(blocked: Blocked) -> bool:
    """Whether one of the first descriptors that a task polls is a socket that clients may connect
    to."""
    blocked = _as_poll(blocked) if blocked.call.nr == RESTART_SYSCALL else blocked
    interests = _interests(blocked) or ()
    if blocked.machine is None or len(interests) > MOST_FDS:
        return False
    channels = (_channel(blocked, one.fd, False) for one in interests[:MOST_SHOWN] if one.reads)
    return any(found is not None and found.lock.kind == "accept" for found in channels)


def _as_poll(blocked: Blocked) -> Blocked:
    """A poll() that goes on after a signal, as it was called at first."""
    return blocked._replace(call=blocked.call._replace(nr=POLL))


def _channel(blocked: Blocked, fd: int, writing: bool) -> Channel | None:
    return (
        pipe.channel(blocked, fd, writing)
        or socket.channel(blocked, fd, writing)
        or _pidfd.channel(blocked, fd)
    )


def _wait(blocked: Blocked, interests: Sequence[Interest], channels: list[Channel]) -> Wait:
    task = blocked.task
    if len(channels) == 1:
        return (
            channels[0]._replace(timed=False).wait(task, "write" if interests[0].writes else "read")
        )
    holders: dict[Task, None] = {}
    for channel in channels:
        holders.update(dict.fromkeys(channel.holders))
    if len(holders) > 1:
        holders.pop(task, None)  # it does not act while it waits
    if any(channel.itself for channel in channels) and not afford(blocked.world, len(holders)):
        return outside(blocked, "poll", _names(interests), missing=CROWDED)
    evidence = [
        f"{channel.lock.kind} {channel.lock.name}: {line}"
        for channel in channels
        for line in channel.evidence
    ]
    if len(evidence) > MOST_SHOWN:
        evidence[MOST_SHOWN:] = [f"and {len(evidence) - MOST_SHOWN} more lines"]
    inferred = any(channel.confidence == INFERRED for channel in channels)
    return Wait(
        task,
        Lock("poll", name=_names(interests), key=("poll", task.pid, task.tid)),
        needs=EVENT,
        holders=tuple(holders),
        any_of=True,
        confidence=INFERRED if inferred else PROVEN,
        evidence=tuple(evidence),
    )


def _outside(
    blocked: Blocked,
    interests: Sequence[Interest],
    fd: int,
    lock: Lock | None,
    found: Channel | None,
) -> Wait:
    """The wait when descriptor `fd` may move by itself."""
    if lock is not None:
        what = f"{lock.kind} {lock.name}"
    else:
        what = blocked.world.machine.link(blocked.task.pid, fd) or "unreadable"
    return Wait(
        blocked.task,
        Lock("poll", name=_names(interests), key=("poll", blocked.task.pid, blocked.task.tid)),
        needs=OUTSIDE,
        evidence=(f"fd {fd} is {what}",),
        missing=found.missing if found is not None else None,
    )


def _names(interests: Sequence[Interest] | None) -> str | None:
    if not interests:
        return None
    numbers = sorted({interest.fd for interest in interests})
    shown = ", ".join(map(str, numbers[:MOST_SHOWN]))
    more = f" and {len(numbers) - MOST_SHOWN} more" if len(numbers) > MOST_SHOWN else ""
    return f"fd {shown}{more}"


def _has_timeout(blocked: Blocked) -> bool:
    nr, args = blocked.call.nr, blocked.call.args
    if nr == POLL:
        return signed(args[2]) >= 0
    if nr in (EPOLL_WAIT, EPOLL_PWAIT):
        return signed(args[3]) >= 0
    return args[{PPOLL: 2, SELECT: 4, PSELECT6: 4, EPOLL_PWAIT2: 3}[nr]] != 0


def _interests(blocked: Blocked) -> list[Interest] | None:
    """What the call waits for; None if that can't be told."""
    nr, machine = blocked.call.nr, blocked.machine
    count = blocked.call.args[{POLL: 1, PPOLL: 1, SELECT: 0, PSELECT6: 0}.get(nr, 1)]
    if nr in (POLL, PPOLL, SELECT, PSELECT6) and not count & 0xFFFFFFFF:
        return []
    if nr in (POLL, PPOLL, SELECT, PSELECT6) and machine is not None:
        polled = machine.polled(blocked.task)
        if polled is not None:
            return [Interest(fd, *_directions(events)) for fd, events in polled]
    if nr in (POLL, PPOLL):
        return _from_pollfds(blocked)
    if nr in (SELECT, PSELECT6):
        return _from_fd_sets(blocked)
    return _from_epoll(blocked, machine) if machine is not None else None


def _from_pollfds(blocked: Blocked) -> list[Interest] | None:
    address, count = blocked.call.args[0], blocked.call.args[1] & 0xFFFFFFFF
    if count > MOST_FDS:
        return None
    data = blocked.process.read(address, 8 * count) if count else b""
    found = []
    for at in range(0, len(data), 8):  # struct pollfd: int fd; short events, revents
        fd = int.from_bytes(data[at : at + 4], "little", signed=True)
        events = int.from_bytes(data[at + 4 : at + 6], "little")
        if fd >= 0:
            found.append(Interest(fd, *_directions(events)))
    return found


def _from_fd_sets(blocked: Blocked) -> list[Interest] | None:
    count = signed(blocked.call.args[0])
    if not 0 <= count <= 1 << 16:
        return None
    size = (count + 63) // 64 * 8
    masks = [
        int.from_bytes(blocked.process.read(address, size), "little") if address and size else 0
        for address in blocked.call.args[1:4]
    ]
    reads, writes, _ = masks
    wanted = (reads | writes | masks[2]) & ((1 << count) - 1)
    if bin(wanted).count("1") > MOST_FDS:
        return None
    return [
        Interest(fd, bool(reads >> fd & 1 or masks[2] >> fd & 1), bool(writes >> fd & 1))
        for fd in range(count)
        if wanted >> fd & 1
    ]


def _from_epoll(blocked: Blocked, machine: Machine) -> list[Interest] | None:
    """The descriptors of an epoll set; None where one of them is no longer the file that was
    added, as the set then watches what we can't name."""
    info = machine.fdinfo(blocked.task.pid, fd_argument(blocked))
    if info is None or len(info.watched) > MOST_FDS:
        return None
    found = []
    for watched in info.watched:
        link = machine.link(blocked.task.pid, watched.fd)
        inode = link_inode(link) if link is not None else None
        if link is None or (inode is not None and watched.inode not in (None, inode)):
            return None
        found.append(Interest(watched.fd, *_directions(watched.events)))
    return found


def _directions(events: int) -> tuple[bool, bool]:
    """Whether the events ask to read and to write; hang-ups, always reported, count as the
    former, since it is the other side that causes them."""
    writes = bool(events & POLLOUT)
    return bool(events & POLLIN) or not writes, writes
