"""Pipes and FIFOs: a reader of an empty one waits for whoever has the write end open, a writer
to a full one for whoever has the read end (fs/pipe.c)."""

from __future__ import annotations

from faultkit.model import INFERRED, Lock, Wait
from faultkit.procfs.fds import End, link_inode
from faultkit.waits._ends import choose_peers
from faultkit.waits._ipc import Channel, descriptors, fd_argument, once, unreadable
from faultkit.world import Blocked

READS = {0: "read", 17: "pread64", 19: "readv", 295: "preadv", 327: "preadv2"}
WRITES = {1: "write", 18: "pwrite64", 20: "writev", 40: "sendfile", 296: "pwritev"}
SYSCALLS = frozenset(READS) | frozenset(WRITES)
PRIORITY = 60

# `exec 3<>FIFO; cat <&3`: so that a reader does not see the end of file between two clients
KEPT_OPEN = "only opened to read and write at once, which keeps a FIFO open for others to come"
OPEN_TO_ALL = "a FIFO with a name: others could open it, too"


def recognise(blocked: Blocked) -> Wait | None:
    """The wait of a task that reads from or writes to a pipe; None for any other file."""
    writing = blocked.call.nr in WRITES
    found = channel(blocked, fd_argument(blocked), writing)
    return None if found is None else found.wait(blocked.task, "write" if writing else "read")


def channel(blocked: Blocked, fd: int, writing: bool) -> Channel | None:
    """The pipe behind the task's descriptor, in one direction; None if it isn't a pipe."""
    machine = blocked.machine
    if machine is None:
        return None
    pid = blocked.task.pid
    link = machine.link(pid, fd)
    if link is None:
        return None
    inode = link_inode(link)
    if link.startswith("pipe:") and inode is not None:
        lock = Lock("pipe", name=link, key=("pipe", inode))
        ends = once(
            blocked.world,
            ("pipe", inode),
            lambda: descriptors(blocked.world).of_pipe(inode),
        )
    elif link.startswith("/") and machine.is_fifo(blocked.task, fd):
        identity = machine.file_identity(pid, fd)
        if identity is None:
            return None
        device, number, _ = identity
        lock = Lock("pipe", name=link, key=("fifo", device, number))
        ends = once(
            blocked.world,
            ("fifo", device, number),
            lambda: [
                End(owner, info.reads, info.writes)
                for owner, _, info in descriptors(blocked.world).of_file(number, device)
            ],
        )
    else:
        return None
    if lock.identity[0] == "fifo":
        serving = [end for end in ends if (end.reads if writing else end.writes)]
        if serving and all(end.reads and end.writes for end in serving):
            return Channel(lock, outside=True, evidence=(KEPT_OPEN,))
    readers = {end.pid for end in ends if end.reads}
    writers = {end.pid for end in ends if end.writes}
    far, near, end = (readers, writers, "read end") if writing else (writers, readers, "write end")
    peers = choose_peers(blocked.world, blocked.task, far, near, end)
    if not peers.tasks:  # end of file, or a broken pipe: it is about to return
        missing = peers.missing or unreadable(blocked.world)
        return Channel(
            lock, outside=True, evidence=(f"nobody has the {end} open",), missing=missing
        )
    if lock.identity[0] == "fifo":  # anybody may open it anew
        if peers.itself:
            return Channel(lock, outside=True, evidence=(*peers.evidence, OPEN_TO_ALL))
        peers = peers._replace(confidence=INFERRED, evidence=(*peers.evidence, OPEN_TO_ALL))
    return peers.channel(blocked, lock).checked(blocked, fd, writing)
