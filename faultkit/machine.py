"""What an operating system keeps about processes beside their memory: descriptors, file locks,
sockets, IPC, kinship.  Of this machine by /proc, or of a kernel dump by its structures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence

from faultkit.model import Task
from faultkit.record import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.procfs.borrow import Readiness
    from faultkit.procfs.fds import Device, End, FdInfo, Mount
    from faultkit.procfs.locks import FileLock
    from faultkit.procfs.sockets import TcpSocket, UnixSocket
    from faultkit.procfs.sysvipc import MessageQueue, Semaphore

FAULT_SIGNALS = (4, 5, 7, 8, 11, 32, 33)  # ILL TRAP BUS FPE SEGV, and two of the C library's own


class Descriptors(Protocol):
    """Every process's open descriptors."""

    @property
    def unreadable(self) -> Sequence[int]:
        """The processes whose descriptors can't be listed."""

    def of_pipe(self, inode: int) -> Sequence[End]:
        """Who has an end of the unnamed pipe open."""

    def of_socket(self, inode: int) -> Sequence[tuple[int, int]]:
        """The (pid, fd) pairs that have the socket open."""

    def carrying(self) -> Mapping[int, Collection[int]]:
        """The unix sockets, by inode, with descriptors in them that were sent and not received
        yet, and the processes that could receive them."""

    def of_file(self, inode: int, device: Device) -> Sequence[tuple[int, int, FdInfo]]:
        """The descriptors of a file with a path, by whatever path they were opened."""


class Machine(ABC):
    """One running system, or a picture of one.  Process and thread ids are those that its
    outermost visible pid namespace gives.  Nothing raises for what is gone: it is None, or empty.
    """

    remedy = "run as root, outside any container"  # for what can't be seen of other processes
    lock_table = "/proc/locks"  # where its file locks can be looked up

    # descriptors

    @abstractmethod
    def link(self, pid: int, fd: int) -> str | None:
        """What the descriptor is: "pipe:[123]", "socket:[456]", "anon_inode:[eventfd]" or a
        path; None if it is closed, or can't be told."""

    @abstractmethod
    def fdinfo(self, pid: int, fd: int) -> FdInfo | None:
        """What /proc/PID/fdinfo/FD tells, None if that can't be had."""

    @abstractmethod
    def file_identity(self, pid: int, fd: int) -> tuple[Device, int, Mount] | None:
        """(device, inode, mount) of an open file with a path."""

    @abstractmethod
    def file_size(self, pid: int, fd: int) -> int | None:
        """The file's size in bytes."""

    @abstractmethod
    def is_fifo(self, task: Task, fd: int) -> bool:
        """Whether the task's descriptor is a FIFO (a pipe with a path)."""

    @abstractmethod
    def same_description(self, pid: int, fd: int, other_pid: int, other_fd: int) -> bool | None:
        """Whether two descriptors share one open file description; None if that can't be told."""

    @abstractmethod
    def readiness(self, pid: int, fd: int, writing: bool) -> Readiness:
        """Whether a read from, or a write to, the pipe or socket would go on now."""

    def polled(self, task: Task) -> Sequence[tuple[int, int]] | None:
        """The (descriptor, events) pairs that the task's poll() or select() waits for, where the
        system tells them; else None."""
        return None

    @abstractmethod
    def descriptors(self) -> Descriptors:
        """Everybody's descriptors, as they are now."""

    # file locks

    @abstractmethod
    def locks(self, file: tuple[Device, int]) -> Sequence[FileLock]:
        """The locks that are held on the file (device, inode), without the requests that wait."""

    def lock_request(self, task: Task) -> FileLock | None:
        """The file lock that the task waits for, where the system tells it; else None."""
        return None

    # sockets

    @abstractmethod
    def unix_sockets(self) -> Mapping[int, UnixSocket]:
        """The unix sockets by inode.  Raises OSError where they can't be listed."""

    @abstractmethod
    def tcp_socket(self, pid: int, inode: int) -> TcpSocket | None:
        """One TCP socket of the process's network namespace; None if it is none."""

    @abstractmethod
    def tcp_sockets(self, pid: int) -> Sequence[TcpSocket]:
        """The TCP sockets of the process's network namespace."""

    # System V IPC

    @abstractmethod
    def semaphore(self, pid: int, semid: int, number: int) -> Semaphore | None:
        """A semaphore of the process's IPC namespace."""

    @abstractmethod
    def semaphore_key(self, pid: int, semid: int) -> int:
        """The key of a semaphore set, 0 if it has none."""

    def semaphore_operations(self, task: Task) -> Sequence[tuple[int, int]] | None:
        """The (number, operation) pairs of the semop() that the task sleeps in, where the system
        tells them; else None."""
        return None

    @abstractmethod
    def message_queue(self, pid: int, msqid: int) -> MessageQueue | None:
        """A message queue of the process's IPC namespace."""

    # processes

    @abstractmethod
    def tasks(self, pid: int) -> Sequence[Task]:
        """The process's threads.  Raises FaultkitError if it is gone."""

    @abstractmethod
    def children(self, pid: int, tid: int | None = None) -> Sequence[int]:
        """The children of a process, or of one of its threads, in the order of their birth."""

    @abstractmethod
    def state(self, pid: int, tid: int | None = None) -> str | None:
        """The letter of a task's state (R, S, D, T, t, Z...), None if it is gone."""

    @abstractmethod
    def is_dead(self, pid: int) -> bool:
        """Whether nothing of the process runs any more: gone, or a zombie without threads."""

    @abstractmethod
    def process_group(self, pid: int) -> int | None:
        """The process group's id."""

    @abstractmethod
    def inner_pid(self, pid: int, level_of: int) -> int:
        """The id that `pid` has in the pid namespace of the process `level_of`."""

    @abstractmethod
    def same_memory(self, pid: int, other_pid: int) -> bool | None:
        """Whether two processes share their memory; None if it can't be told."""

    @abstractmethod
    def handled_signals(self, pid: int) -> frozenset[int] | None:
        """The signals that the process has handlers of its own for; None if that can't be
        told."""

    def handles_signals(self, pid: int, but: Collection[int] = ()) -> bool:
        """Whether the process has such a handler, or may have, of others than faults, the C
        library's own signals and `but`."""
        handled = self.handled_signals(pid)
        return handled is None or bool(handled.difference(FAULT_SIGNALS, but))

    @abstractmethod
    def namespace(self, pid: int, kind: str) -> str | None:
        """The identity of a namespace ("ipc", "net", "pid") of the process."""

    @abstractmethod
    def is_visible(self, pid: int, kind: str) -> bool:
        """Whether what lives in the process's namespace of that kind can be seen; for "pid":
        whether its ids are the ones used here."""

    @abstractmethod
    def sees_all_processes(self) -> bool:
        """Whether every process there is can be seen."""

    @abstractmethod
    def opens_fifo(self, task: Task) -> bool:
        """Whether the task sleeps in open() until somebody opens a FIFO's other end."""
