"""This machine, by /proc and a few system calls."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from functools import cached_property

from faultkit.machine import Machine
from faultkit.model import Task
from faultkit.procfs import borrow, fds, locks, sockets, status, sysvipc
from faultkit.procfs.process import ProcProcess, ask_process, read_proc

FIFO_OPEN = (b"wait_for_partner", b"fifo_open")  # fs/pipe.c


class ProcMachine(Machine):
    """What is asked of tables is read once; a new one is made for a second look."""

    def __init__(self) -> None:
        self._tcp: dict[str, tuple[list[sockets.TcpSocket], dict[int, sockets.TcpSocket]]] = {}

    def link(self, pid: int, fd: int) -> str | None:
        return fds.link(pid, fd)

    def fdinfo(self, pid: int, fd: int) -> fds.FdInfo | None:
        return fds.fdinfo(pid, fd)

    def file_identity(self, pid: int, fd: int) -> tuple[fds.Device, int, fds.Mount] | None:
        return fds.file_identity(pid, fd)

    def file_size(self, pid: int, fd: int) -> int | None:
        try:
            return ask_process(pid, f"fd/{fd}", os.stat).st_size
        except OSError:
            return None

    def is_fifo(self, task: Task, fd: int) -> bool:
        """Not asked where a file server may have to answer: a read that waits for it would make
        us wait too."""
        if status.state(task.pid, task.tid) == "D":
            return False
        identity = fds.file_identity(task.pid, fd)
        if identity is None or identity[2].remote:
            return False
        try:
            return stat.S_ISFIFO(ask_process(task.pid, f"fd/{fd}", os.stat).st_mode)
        except OSError:
            return False

    def same_description(self, pid: int, fd: int, other_pid: int, other_fd: int) -> bool | None:
        return fds.same_description(pid, fd, other_pid, other_fd)

    def readiness(self, pid: int, fd: int, writing: bool) -> borrow.Readiness:
        return borrow.readiness(pid, fd, writing)

    def descriptors(self) -> fds.Descriptors:
        return fds.Descriptors()

    @cached_property
    def _locks(self) -> list[locks.FileLock]:
        return locks.all_locks()

    def locks(self, file: tuple[fds.Device, int]) -> Sequence[locks.FileLock]:
        return [lock for lock in self._locks if lock.file == file and not lock.blocked]

    def unix_sockets(self) -> dict[int, sockets.UnixSocket]:
        return sockets.unix_sockets()

    def tcp_socket(self, pid: int, inode: int) -> sockets.TcpSocket | None:
        return self._tcp_of(pid).get(inode) if inode else None

    def tcp_sockets(self, pid: int) -> Sequence[sockets.TcpSocket]:
        self._tcp_of(pid)
        return self._tcp[self._network(pid)][0]

    def _network(self, pid: int) -> str:
        return status.namespace(pid, "net") or str(pid)

    def _tcp_of(self, pid: int) -> dict[int, sockets.TcpSocket]:
        name = self._network(pid)
        if name not in self._tcp:
            found = sockets.tcp_sockets(pid)
            self._tcp[name] = found, {tcp.inode: tcp for tcp in found if tcp.inode}
        return self._tcp[name][1]

    def semaphore(self, pid: int, semid: int, number: int) -> sysvipc.Semaphore | None:
        return sysvipc.semaphore(semid, number)

    @cached_property
    def _semaphore_keys(self) -> dict[int, int]:
        return sysvipc.semaphore_keys()

    def semaphore_key(self, pid: int, semid: int) -> int:
        return self._semaphore_keys.get(semid, 0)

    @cached_property
    def _message_queues(self) -> dict[int, sysvipc.MessageQueue]:
        return sysvipc.message_queues()

    def message_queue(self, pid: int, msqid: int) -> sysvipc.MessageQueue | None:
        return self._message_queues.get(msqid)

    def tasks(self, pid: int) -> Sequence[Task]:
        return ProcProcess(pid).tasks()

    def children(self, pid: int, tid: int | None = None) -> Sequence[int]:
        return status.children(pid, tid)

    def state(self, pid: int, tid: int | None = None) -> str | None:
        return status.state(pid, tid)

    def is_dead(self, pid: int) -> bool:
        return status.is_dead(pid)

    def process_group(self, pid: int) -> int | None:
        return status.process_group(pid)

    def inner_pid(self, pid: int, level_of: int) -> int:
        return status.inner_pid(pid, level_of)

    def same_memory(self, pid: int, other_pid: int) -> bool | None:
        return fds.same_memory(pid, other_pid)

    def handled_signals(self, pid: int) -> frozenset[int] | None:
        return status.handled_signals(pid)

    def namespace(self, pid: int, kind: str) -> str | None:
        return status.namespace(pid, kind)

    def is_visible(self, pid: int, kind: str) -> bool:
        return status.is_our_namespace(pid, kind)

    def sees_all_processes(self) -> bool:
        return status.sees_all_processes()

    def opens_fifo(self, task: Task) -> bool:
        try:
            return read_proc(f"/proc/{task.pid}/task/{task.tid}/wchan") in FIFO_OPEN
        except OSError:
            return False
