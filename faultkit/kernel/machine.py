"""A kernel's dump as a Machine: everything is read from the kernel's own structures."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from faultkit.kernel.filelocks import FileLocks
from faultkit.kernel.files import S_IFCHR, S_IFIFO, S_IFSOCK, Files, Inode, OpenFile, processes
from faultkit.kernel.kinship import Kinship
from faultkit.kernel.objects import UnknownLayout, need
from faultkit.kernel.polls import polled_files
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.sockets import Sockets
from faultkit.kernel.sysv import SystemV
from faultkit.kernel.trees import rb_nodes
from faultkit.machine import Machine
from faultkit.model import Task
from faultkit.procfs.borrow import UNKNOWN, Readiness
from faultkit.procfs.fds import Device, End, FdInfo, Mount, Watched
from faultkit.procfs.locks import FileLock
from faultkit.procfs.sockets import TcpSocket, UnixSocket
from faultkit.procfs.sysvipc import MessageQueue, Semaphore
from faultkit.target import FaultkitError

MOST_WATCHED = 4096  # descriptors of one epoll set
FIFO_OPEN = frozenset(("wait_for_partner", "fifo_open"))  # fs/pipe.c


class DumpDescriptors:
    """Every process's open files, by their inodes; what they are is read when asked for."""

    def __init__(self, machine: DumpMachine) -> None:
        self._machine = machine
        self._files = machine.files
        self.unreadable: list[int] = []
        self._of: dict[int, list[tuple[int, int, int]]] = {}  # (pid, fd, file) by inode address
        files = self._files
        for pid, tasks in processes(files.system).items():
            try:
                table = files.descriptors(tasks[0])
            except UnknownLayout:
                raise
            except FaultkitError:
                self.unreadable.append(pid)
                continue
            for fd, address in table.items():
                self._of.setdefault(files.inode_of(address), []).append((pid, fd, address))
            if not all(map(files.inode_of, table.values())):
                self.unreadable.append(pid)  # some of them

    def _open_as(self, inode: Inode | None) -> Sequence[tuple[int, int, int]]:
        return self._of.get(inode.address, ()) if inode is not None else ()

    def of_pipe(self, inode: int) -> Sequence[End]:
        """Who has an end of the unnamed pipe open."""
        found = self._open_as(self._files.by_kind.get((S_IFIFO, inode)))
        opened = [(pid, self._files.file(address)) for pid, _, address in found]
        return [End(pid, file.reads, file.writes) for pid, file in opened if file is not None]

    def of_socket(self, inode: int) -> Sequence[tuple[int, int]]:
        """The (pid, fd) pairs that have the socket open."""
        found = self._open_as(self._files.by_kind.get((S_IFSOCK, inode)))
        return [(pid, fd) for pid, fd, _ in found]

    def carrying(self) -> Mapping[int, Collection[int]]:
        """Not looked for."""
        return {}

    def of_file(self, inode: int, device: Device) -> Sequence[tuple[int, int, FdInfo]]:
        """The descriptors of a file with a path."""
        found = self._open_as(self._files.by_key.get((device, inode)))
        infos = [(pid, fd, self._machine.fdinfo(pid, fd)) for pid, fd, _ in found]
        return [(pid, fd, info) for pid, fd, info in infos if info is not None]

    def inodes(self) -> Iterator[Inode]:
        """All inodes that anybody has open."""
        for address in self._of:
            inode = self._files.inode(address) if address else None
            if inode is not None:
                yield inode

    def sockets(self) -> Iterator[Inode]:
        """The inodes of all sockets."""
        return (inode for inode in self.inodes() if inode.is_socket)

    def devices(self) -> Iterator[tuple[int, OpenFile]]:
        """Who has which character device open."""
        for inode in self.inodes():
            for pid, _, address in self._open_as(inode) if inode.kind == S_IFCHR else ():
                file = self._files.file(address)
                if file is not None:
                    yield pid, file


class UnixSockets(Mapping[int, UnixSocket]):
    """The unix sockets by inode number: those that have been come across at once, all of them
    when they are listed."""

    def __init__(self, machine: DumpMachine) -> None:
        self._machine = machine
        self._known: dict[int, UnixSocket] = {}

    def __getitem__(self, number: int) -> UnixSocket:
        if number not in self._known:
            inode = self._machine.files.by_kind.get((S_IFSOCK, number))
            found = self._machine.unix_socket(inode) if inode is not None else None
            if found is None:
                raise KeyError(number)
            self._known[number] = found
        return self._known[number]

    def __iter__(self) -> Iterator[int]:
        for inode in self._machine.descriptors().sockets():
            if inode.number in self:
                yield inode.number

    def __len__(self) -> int:
        return sum(1 for _ in self)


class DumpMachine(Machine):
    """Everything that was there when the dump was taken."""

    remedy = "take a fuller dump (makedumpfile -d 31 keeps what the kernel itself needs)"
    lock_table = "the inode's locks"

    def __init__(self, files: Files, kinship: Kinship) -> None:
        self.files = files
        self.kernel = files.kernel
        self.kinship = kinship
        self.asleep: Sleeper | None = None  # the one asked about last: its stack was read
        self._file_locks = FileLocks(files)
        self._all_sockets = Sockets(files)
        self._system_v = SystemV(self.kernel, kinship)

    def _task(self, pid: int) -> Task | None:
        """A task of the process; all share its descriptors."""
        tasks = processes(self.files.system).get(pid)
        return tasks[0] if tasks else None

    def _open(self, pid: int, fd: int) -> OpenFile | None:
        task = self._task(pid)
        return self.files.open_file(task, fd) if task is not None else None

    def _inode(self, pid: int, fd: int) -> Inode | None:
        file = self._open(pid, fd)
        return self.files.inode(file.inode) if file is not None else None

    def _sleeper(self, task: Task) -> Sleeper:
        if self.asleep is None or self.asleep.task != task:
            self.asleep = Sleeper(self.files.system, task, 0)
        return self.asleep

    # descriptors

    def link(self, pid: int, fd: int) -> str | None:
        file = self._open(pid, fd)
        return self.files.link(file) if file is not None else None

    def fdinfo(self, pid: int, fd: int) -> FdInfo | None:
        file, inode, task = self._open(pid, fd), self._inode(pid, fd), self._task(pid)
        if file is None or inode is None or task is None:
            return None
        owner = self.files.table_of(task)
        locks = tuple(
            held.lock
            for held in self._file_locks.of_inode(inode)
            # fs/locks.c, __show_fd_locks
            if held.file == file.address and held.owner in (owner, file.address)
        )
        return FdInfo(
            file.position, file.flags, None, inode.number, locks, self._watched(file), None
        )

    def _watched(self, file: OpenFile) -> tuple[Watched, ...]:
        """What an epoll descriptor watches; () for any other file (fs/eventpoll.c)."""
        if self.files.link(file) != "anon_inode:[eventpoll]":
            return ()
        kernel = self.kernel
        found = []
        try:
            layout = self.files.system.layout("epitem", "ffd.file", "ffd.fd", "event.events")
            node_at = need(kernel, "epitem", "rbn")
            root = need(kernel, "eventpoll", "rbr") + need(kernel, "rb_root_cached", "rb_root")
            for node in rb_nodes(kernel, kernel.u64(file.private + root), MOST_WATCHED):
                address, fd, events = layout.read(node - node_at)
                other = self.files.file(address)
                inode = self.files.inode(other.inode) if other is not None else None
                found.append(Watched(fd, events, inode.number if inode is not None else None))
        except FaultkitError:
            return ()
        return tuple(found)

    def file_identity(self, pid: int, fd: int) -> tuple[Device, int, Mount] | None:
        inode = self._inode(pid, fd)
        if inode is None:
            return None
        return inode.device, inode.number, Mount(inode.device, inode.type)

    def file_size(self, pid: int, fd: int) -> int | None:
        inode = self._inode(pid, fd)
        return inode.size if inode is not None else None

    def is_fifo(self, task: Task, fd: int) -> bool:
        inode = self._inode(task.pid, fd)
        return inode is not None and inode.kind == S_IFIFO

    def same_description(self, pid: int, fd: int, other_pid: int, other_fd: int) -> bool | None:
        one, other = self._open(pid, fd), self._open(other_pid, other_fd)
        return None if one is None or other is None else one.address == other.address

    def readiness(self, pid: int, fd: int, writing: bool) -> Readiness:
        inode = self._inode(pid, fd)
        if inode is None:
            return UNKNOWN
        if inode.is_socket:
            return self._all_sockets.readiness(inode.address, writing)
        return self._pipe_readiness(inode, writing) if inode.kind == S_IFIFO else UNKNOWN

    def _pipe_readiness(self, inode: Inode, writing: bool) -> Readiness:
        """As pipe_poll in fs/pipe.c tells."""
        try:
            layout = self.files.system.layout(
                "pipe_inode_info", "head", "tail", "max_usage", "readers", "writers"
            )
            head, tail, most, readers, writers = layout.read(inode.pipe)
            bits = 8 * (self.kernel.size("pipe_inode_info", "head") or 4)
        except FaultkitError:
            return UNKNOWN
        used = (head - tail) % (1 << bits)
        return Readiness(used < most or not readers if writing else used > 0 or not writers)

    def polled(self, task: Task) -> Sequence[tuple[int, int]] | None:
        found = polled_files(self._sleeper(task))
        if not found:
            return None if found is None else ()
        try:
            numbers = {file: fd for fd, file in self.files.descriptors(task).items()}
        except FaultkitError:
            return None
        if not all(file in numbers for file in found):
            return None  # closed meanwhile: what it watches has no number any more
        return [(numbers[file], events) for file, events in found.items()]

    def descriptors(self) -> DumpDescriptors:
        return self._descriptors

    @cached_property
    def _descriptors(self) -> DumpDescriptors:
        return DumpDescriptors(self)

    # file locks

    def locks(self, file: tuple[Device, int]) -> Sequence[FileLock]:
        inode = self.files.by_key.get(file)
        return [held.lock for held in self._file_locks.of_inode(inode)] if inode else ()

    def lock_request(self, task: Task) -> FileLock | None:
        held = self._file_locks.request_of(self._sleeper(task))
        return held.lock if held is not None else None

    # sockets

    def unix_sockets(self) -> Mapping[int, UnixSocket]:
        if self.kernel.offset("unix_sock", "peer") is None:
            raise OSError(0, "the debug information of the module unix is not loaded")
        return UnixSockets(self)

    def unix_socket(self, inode: Inode) -> UnixSocket | None:
        """The unix socket with that inode; None if it is another kind of socket."""
        sock = self._all_sockets.of_inode(inode.address)
        return self._all_sockets.unix(sock) if sock is not None else None

    def tcp_socket(self, pid: int, inode: int) -> TcpSocket | None:
        found = self.files.by_kind.get((S_IFSOCK, inode))
        sock = self._all_sockets.of_inode(found.address) if found is not None else None
        return self._all_sockets.tcp(sock) if sock is not None else None

    def tcp_sockets(self, pid: int) -> Sequence[TcpSocket]:
        net = self.kinship.namespace_address(pid, "net_ns")
        found = []
        for inode in self._descriptors.sockets():
            sock = self._all_sockets.of_inode(inode.address)
            if sock is None or (net and sock.net and sock.net != net):
                continue
            tcp = self._all_sockets.tcp(sock)
            if tcp is not None:
                found.append(tcp)
        return found

    # System V IPC

    def _ipc(self, pid: int) -> int:
        return self.kinship.namespace_address(pid, "ipc_ns")

    def semaphore(self, pid: int, semid: int, number: int) -> Semaphore | None:
        return self._system_v.semaphore(self._ipc(pid), semid, number)

    def semaphore_key(self, pid: int, semid: int) -> int:
        return self._system_v.key(self._ipc(pid), semid)

    def semaphore_operations(self, task: Task) -> Sequence[tuple[int, int]] | None:
        return self._system_v.operations(self._sleeper(task))

    def message_queue(self, pid: int, msqid: int) -> MessageQueue | None:
        return self._system_v.queue(self._ipc(pid), msqid)

    # processes

    def tasks(self, pid: int) -> Sequence[Task]:
        return processes(self.files.system).get(pid, ())

    def children(self, pid: int, tid: int | None = None) -> Sequence[int]:
        return self.kinship.children(pid, tid)

    def state(self, pid: int, tid: int | None = None) -> str | None:
        return self.kinship.state(pid, tid)

    def is_dead(self, pid: int) -> bool:
        return self.kinship.is_dead(pid)

    def process_group(self, pid: int) -> int | None:
        return self.kinship.process_group(pid)

    def inner_pid(self, pid: int, level_of: int) -> int:
        return self.kinship.inner_pid(pid, level_of)

    def same_memory(self, pid: int, other_pid: int) -> bool | None:
        return self.kinship.same_memory(pid, other_pid)

    def handled_signals(self, pid: int) -> frozenset[int] | None:
        return self.kinship.handled_signals(pid)

    def namespace(self, pid: int, kind: str) -> str | None:
        return self.kinship.namespace(pid, kind)

    def is_visible(self, pid: int, kind: str) -> bool:
        return kind != "pid" or self.kinship.is_outermost(pid)

    def sees_all_processes(self) -> bool:
        return True

    def opens_fifo(self, task: Task) -> bool:
        try:
            return not FIFO_OPEN.isdisjoint(self._sleeper(task).functions)
        except FaultkitError:
            return False
