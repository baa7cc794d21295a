"""Sockets: unix ones by the peer that sock_diag tells, loopback TCP by the pair of lines in
/proc/PID/net/tcp; everything else leads outside."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from faultkit.model import Lock, Wait
from faultkit.procfs import sockets
from faultkit.procfs.fds import link_inode
from faultkit.procfs.sockets import Endpoint, TcpSocket, UnixSocket, endpoint_name
from faultkit.record import NamedTuple
from faultkit.waits._ends import choose_peers
from faultkit.waits._ipc import (
    FD_IN_A_CORE,
    Channel,
    descriptors,
    fd_argument,
    once,
    outside,
    tasks_of_all,
)
from faultkit.world import Blocked, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


READS = {0: "read", 19: "readv", 45: "recvfrom", 47: "recvmsg", 299: "recvmmsg"}
WRITES = {1: "write", 20: "writev", 40: "sendfile", 44: "sendto", 46: "sendmsg", 307: "sendmmsg"}
CONNECT = 42
ONLY_SOCKETS = frozenset({45, 47, 299, 44, 46, 307, CONNECT})
SYSCALLS = frozenset(READS) | frozenset(WRITES) | {CONNECT}
PRIORITY = 60

UnixTable: TypeAlias = "Mapping[int, UnixSocket] | str"

AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
OTHER_NAMESPACE = (
    "the unix sockets of process {0} are in another network namespace; run "
    "`nsenter -t {0} -n gdb -p {0}`"
)


def recognise(blocked: Blocked) -> Wait | None:
    """The wait of a task that receives from, sends to or connects a socket; None if the
    descriptor is something else."""
    fd = fd_argument(blocked)
    nr = blocked.call.nr
    mode = "read" if nr in READS else "write"
    if blocked.machine is None:
        if nr not in ONLY_SOCKETS:
            return None
        return outside(blocked, "socket", f"fd {fd}", mode=mode, missing=FD_IN_A_CORE)
    if nr == CONNECT:
        found = _connecting(blocked, fd)
    else:
        found = channel(blocked, fd, mode == "write")
    return None if found is None else found.wait(blocked.task, mode)


def channel(blocked: Blocked, fd: int, writing: bool) -> Channel | None:
    """The connection behind the task's descriptor, in one direction; None if it isn't a
    socket."""
    link = blocked.world.machine.link(blocked.task.pid, fd)
    inode = link_inode(link) if link is not None and link.startswith("socket:") else None
    if inode is None:
        return None
    table = _unix_table(blocked.world)
    if not isinstance(table, str) and inode in table:
        found = _unix_channel(blocked, table, table[inode], writing)
        return found.checked(blocked, fd, writing)
    tcp = blocked.world.machine.tcp_socket(blocked.task.pid, inode)
    if tcp is not None:
        return _tcp_channel(blocked, tcp, writing).checked(blocked, fd, writing)
    lock = Lock("socket", name=link, key=("socket", inode))
    if not blocked.world.machine.is_visible(blocked.task.pid, "net"):
        missing = OTHER_NAMESPACE.format(blocked.task.pid)
        return Channel(lock, outside=True, missing=missing)
    if isinstance(table, str):
        return Channel(lock, outside=True, missing=table)
    return Channel(lock, outside=True, evidence=("neither a TCP nor a unix socket",))


def processes(world: World, inode: int) -> set[int]:
    """The processes that have the socket open."""
    return {pid for pid, _ in descriptors(world).of_socket(inode)}


# unix


def _unix_table(world: World) -> UnixTable:
    """All unix sockets by inode, or why they can't be had."""

    def read() -> UnixTable:
        try:
            return world.machine.unix_sockets()
        except OSError as error:
            return (
                f"unix sockets can't be listed ({error.strerror}); load the unix_diag module "
                "(modprobe unix_diag)"
            )

    return once(world, "unix", read)


def _unix_channel(
    blocked: Blocked, table: Mapping[int, UnixSocket], own: UnixSocket, writing: bool
) -> Channel:
    peer = own.peer
    if own.state == sockets.LISTEN:
        lock = Lock("accept", name=_unix_name(own, None), key=("socket", own.inode))
        return Channel(lock, outside=True, evidence=("a listening socket: anyone may connect",))
    if peer is None:
        lock = Lock("unix_socket", name=_unix_name(own, None), key=("socket", own.inode))
        return Channel(lock, outside=True, evidence=("not connected: anyone may send",))
    if not writing and own.queued:
        return _moving("unix_socket", _unix_name(own, None), own.inode)
    if peer == 0:  # the server has not accepted yet, or the peer is closed
        return _unaccepted(blocked, table.values(), own)
    name = _unix_name(own, table.get(peer))
    key = ("socket", min(own.inode, peer), max(own.inode, peer))
    return _connection(blocked, Lock("unix_socket", name=name, key=key), own.inode, peer)


def _unaccepted(blocked: Blocked, table: Iterable[UnixSocket], own: UnixSocket) -> Channel:
    lock = Lock("unix_socket", name=_unix_name(own, None), key=("socket", own.inode))
    for listener in table:
        if own.inode in listener.pending:
            name = _unix_name(own, listener)
            return _listener(blocked, lock.kind, name, own.inode, [listener.inode])
    return Channel(lock, outside=True, evidence=("the other side is closed",))


def _unix_name(one: UnixSocket, other: UnixSocket | None) -> str:
    """The path that either end is bound to, with the inodes, the same from both ends."""
    inodes = sorted(unix.inode for unix in (one, other) if unix is not None)
    pair = " <-> ".join(f"[{inode}]" for inode in inodes)
    for unix in (one, other):
        if unix is not None and unix.name:
            path = unix.name.rstrip(b"\0").decode("utf-8", "backslashreplace")
            return f"{path.replace(chr(0), '@')} {pair}"
    return f"unix {pair}"


# TCP


class TcpTable(NamedTuple):
    """The TCP sockets of one network namespace, and the same by (local, remote)."""

    all: list[TcpSocket]
    by_ends: dict[tuple[Endpoint, Endpoint], TcpSocket]


def _tcp_table(blocked: Blocked) -> TcpTable:
    pid, machine = blocked.task.pid, blocked.world.machine

    def read() -> TcpTable:
        found = list(machine.tcp_sockets(pid))
        return TcpTable(found, {(tcp.local, tcp.remote): tcp for tcp in found})

    return once(blocked.world, ("tcp_socket", machine.namespace(pid, "net") or pid), read)


def _tcp_channel(blocked: Blocked, own: TcpSocket, writing: bool) -> Channel:
    name = f"{endpoint_name(own.local)} <-> {endpoint_name(own.remote)}"
    if own.state == sockets.LISTEN:
        lock = Lock("accept", name=endpoint_name(own.local), key=("socket", own.inode))
        return Channel(lock, outside=True, evidence=("a listening socket: anyone may connect",))
    table = _tcp_table(blocked) if _is_local(own) else None
    peer = table.by_ends.get((own.remote, own.local)) if table is not None else None
    if peer is None:
        lock = Lock("tcp_socket", name=name, key=("socket", own.inode))
        return Channel(lock, outside=True, evidence=(f"the peer is {endpoint_name(own.remote)}",))
    in_flight = own.unsent and not peer.unread if writing else own.unread or peer.unsent
    if in_flight:
        return _moving("tcp_socket", name, own.inode)
    if peer.inode == 0:
        if peer.state not in (sockets.ESTABLISHED, sockets.CLOSE_WAIT):
            lock = Lock("tcp_socket", name=name, key=("socket", own.inode))
            return Channel(lock, outside=True, evidence=("the peer has closed",))
        return _listener(
            blocked, "tcp_socket", name, own.inode, _tcp_listeners(blocked, own.remote)
        )
    key = ("socket", min(own.inode, peer.inode), max(own.inode, peer.inode))
    return _connection(blocked, Lock("tcp_socket", name=name, key=key), own.inode, peer.inode)


def _is_local(tcp: TcpSocket) -> bool:
    return sockets.is_loopback(tcp.remote[0]) or tcp.remote[0] == tcp.local[0]


def _tcp_listeners(blocked: Blocked, endpoint: Endpoint) -> list[int]:
    address, port = endpoint
    return [
        tcp.inode
        for tcp in _tcp_table(blocked).all
        if tcp.state == sockets.LISTEN and tcp.local[1] == port
        if tcp.local[0] == address or not any(tcp.local[0])
    ]


# both


def _connection(blocked: Blocked, lock: Lock, own: int, peer: int) -> Channel:
    """The channel to the processes that have the peer socket open."""
    far, near = processes(blocked.world, peer), processes(blocked.world, own)
    peers = choose_peers(blocked.world, blocked.task, far, near, "peer socket")
    if not peers.tasks:
        return Channel(lock, outside=True, missing="no process that we can read has the other "
                       f"end of {lock.name} open; {blocked.world.machine.remedy}")  # fmt: skip
    return peers.channel(blocked, lock)


def _listener(
    blocked: Blocked, kind: str, name: str, own: int, listeners: Iterable[int]
) -> Channel:
    """The channel to those who could accept a connection that nobody has accepted."""
    lock = Lock(kind, name=name, key=("socket", own))
    far = {pid for inode in listeners for pid in processes(blocked.world, inode)}
    if not far:
        return Channel(lock, outside=True, evidence=("not accepted, and nobody listens",))
    tasks = tasks_of_all(blocked.world, far)
    owners = ", ".join(str(pid) for pid in sorted(far)[:8])
    return Channel(lock, tasks, evidence=(f"not accepted yet; pid {owners} listens",))


def _moving(kind: str, name: str, inode: int) -> Channel:
    lock = Lock(kind, name=name, key=("socket", inode))
    return Channel(lock, outside=True, evidence=("data is on its way",))


def _connecting(blocked: Blocked, fd: int) -> Channel | None:
    """The channel of connect(2): whoever listens at the address has to accept."""
    link = blocked.world.machine.link(blocked.task.pid, fd)
    inode = link_inode(link) if link is not None and link.startswith("socket:") else None
    if inode is None:
        return None
    _, address, length = blocked.call.args[:3]
    data = blocked.process.read(address, max(2, min(length, 128)))
    (family,) = struct.unpack_from("<H", data)
    if family == AF_UNIX:
        return _connecting_unix(blocked, inode, data[2:])
    tcp = blocked.world.machine.tcp_socket(blocked.task.pid, inode)
    if family not in (AF_INET, AF_INET6) or tcp is None:
        return Channel(Lock("connect", name=link, key=("socket", inode)), outside=True)
    name = f"connect to {endpoint_name(tcp.remote)}"
    if not _is_local(tcp):
        return Channel(Lock("tcp_socket", name=name, key=("socket", inode)), outside=True)
    return _listener(blocked, "tcp_socket", name, inode, _tcp_listeners(blocked, tcp.remote))


def _connecting_unix(blocked: Blocked, inode: int, path: bytes) -> Channel:
    if path[:1] != b"\0":
        path = path.partition(b"\0")[0]
    name = f"connect to {path.decode('utf-8', 'backslashreplace').replace(chr(0), '@')}"
    table = _unix_table(blocked.world)
    if isinstance(table, str) or not blocked.world.machine.is_visible(blocked.task.pid, "net"):
        missing = table if isinstance(table, str) else OTHER_NAMESPACE.format(blocked.task.pid)
        lock = Lock("unix_socket", name=name, key=("socket", inode))
        return Channel(lock, outside=True, missing=missing)
    listeners = [
        unix.inode
        for unix in table.values()
        if unix.state == sockets.LISTEN and unix.name is not None
        if unix.name == path or (path[:1] != b"\0" and unix.name.rstrip(b"\0") == path)
    ]
    return _listener(blocked, "unix_socket", name, inode, listeners)
