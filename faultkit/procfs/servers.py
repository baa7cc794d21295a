"""Who serves file systems: the processes behind FUSE connections, the servers behind sunrpc."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from faultkit.model import Task
from faultkit.procfs.process import read_proc
from faultkit.procfs.sockets import CLOSE_WAIT, ESTABLISHED, FIN_WAIT2, SYN_SENT, tcp_sockets
from faultkit.world import process_ids

FUSE = "/dev/fuse"
USERFAULTFD = "anon_inode:[userfaultfd]"
_TCP = {
    ESTABLISHED: "connected",
    SYN_SENT: "trying to connect",
    FIN_WAIT2: "being closed",
    CLOSE_WAIT: "closed by the server",
}


class Openers:
    """Who has certain special files open, by one scan of all descriptors.  `unreadable` counts
    the processes whose descriptors may not be listed."""

    def __init__(self) -> None:
        self.by_link: dict[str, list[tuple[int, int]]] = {FUSE: [], USERFAULTFD: []}
        self.unreadable = 0
        for pid in process_ids():
            try:
                numbers = os.listdir(f"/proc/{pid}/fd")
            except PermissionError:
                self.unreadable += 1
                continue
            except OSError:
                continue
            for number in numbers:
                try:
                    link = os.readlink(f"/proc/{pid}/fd/{number}")
                except OSError:
                    continue
                if link in self.by_link:
                    self.by_link[link].append((pid, int(number)))

    def tasks(self, link: str) -> Sequence[Task]:
        """The processes that have it open, each once."""
        return [Task(pid, pid) for pid in dict.fromkeys(pid for pid, _ in self.by_link[link])]

    def fuse_servers(self, connection: int) -> Sequence[int] | None:
        """The processes that serve a connection: those whose fdinfo says so (fuse_connection:,
        since Linux 6.18); with an older kernel the only one that serves FUSE at all."""
        said: dict[int, int | None] = {}
        for pid, fd in self.by_link[FUSE]:
            number = _connection(pid, fd)
            if number == connection:
                said[pid] = number
            elif number is None:
                said.setdefault(pid, None)
        named = [pid for pid, number in said.items() if number == connection]
        if named:
            return named
        if len(said) == 1:
            return list(said)
        return None if said or self.unreadable else []


def _connection(pid: int, fd: int) -> int | None:
    try:
        for line in read_proc(f"/proc/{pid}/fdinfo/{fd}").splitlines():
            if line.startswith(b"fuse_connection:"):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None


def tcp_state(server: str, port: int) -> str | None:
    """The state of this machine's TCP connection to a server, in words; None if there is none
    to be seen."""
    address = _address(server)
    if address is None:
        return None
    for connection in tcp_sockets(os.getpid()):
        if connection.remote == (address, port):
            words = _TCP.get(connection.state, f"in TCP state {connection.state}")
            unsent = connection.unsent
            return words + (f", {unsent} bytes not acknowledged" if unsent else "")
    return "no TCP connection to it"


def _address(server: str) -> bytes | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, server.partition("%")[0])
        except OSError:
            continue
    return None  # a name: resolving it would ask the network


def rpc_tasks(server: str, root: str = "/sys/kernel/debug/sunrpc") -> Sequence[str]:
    """The pending RPC calls to a server, in words (net/sunrpc/debugfs.c, tasks_show())."""
    found = []
    for client in _listed(f"{root}/rpc_clnt"):
        folder = f"{root}/rpc_clnt/{client}"
        addresses = _text(f"{folder}/xprt/info") + _text(f"{folder}/info")
        if server not in addresses.split():
            continue
        for line in _text(f"{folder}/tasks").splitlines():
            words = line.split()
            if len(words) < 11:
                continue
            xid, program, call = words[4], words[7], words[8]
            found.append(f"call {program} {call} xid {xid}, {' '.join(words[9:])}")
    return found


def _listed(folder: str) -> Sequence[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return ()


def _text(path: str) -> str:
    try:
        return read_proc(path).decode("utf-8", "replace")
    except OSError:
        return ""
