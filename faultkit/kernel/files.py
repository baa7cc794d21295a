"""Open files: who has which open, what they are, and by what path; read when first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from faultkit.kernel import states
from faultkit.kernel.objects import Layout, is_kernel_pointer, need, text
from faultkit.kernel.system import System
from faultkit.kernel.target import Kernel
from faultkit.model import Task
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, ReadError

MOST_FDS = 1 << 16  # of one process
MOST_PARTS = 128  # of a path

S_IFMT, S_IFSOCK, S_IFCHR, S_IFIFO = 0o170000, 0o140000, 0o020000, 0o010000
FMODE_READ, FMODE_WRITE = 1, 2  # include/linux/fs.h

# include/uapi/linux/magic.h, and fs/pipe.c
PIPE_MAGIC, SOCKET_MAGIC, ANON_INODE_MAGIC = 0x50495045, 0x534F434B, 0x09041934


class OpenFile(NamedTuple):
    """A struct file."""

    address: int
    inode: int
    mode: int
    flags: int
    position: int
    private: int
    mount: int  # struct vfsmount
    dentry: int

    @property
    def reads(self) -> bool:
        """Whether it is open for reading."""
        return bool(self.mode & FMODE_READ)

    @property
    def writes(self) -> bool:
        """Whether it is open for writing."""
        return bool(self.mode & FMODE_WRITE)


class Inode(NamedTuple):
    """A struct inode; `device` is (major, minor) of its file system, `magic` that one's type."""

    address: int
    mode: int
    number: int
    size: int
    pipe: int
    locks: int  # struct file_lock_context
    mapping: int  # struct address_space
    device: tuple[int, int]
    magic: int
    type: str

    @property
    def kind(self) -> int:
        """S_IFIFO, S_IFSOCK..."""
        return self.mode & S_IFMT

    @property
    def is_pipe(self) -> bool:
        """Whether it is an unnamed pipe."""
        return self.kind == S_IFIFO and self.magic == PIPE_MAGIC

    @property
    def is_socket(self) -> bool:
        """Whether it belongs to a socket, and is not the path that one is bound to."""
        return self.kind == S_IFSOCK and self.magic == SOCKET_MAGIC

    @property
    def key(self) -> tuple[tuple[int, int], int]:
        """(device, number), as the kernel's lock tables name the file."""
        return self.device, self.number


class Files:
    """The descriptors and files of a kernel's processes.  What can't be read is None, or left
    out: no method raises for what is in memory, only UnknownLayout."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.kernel: Kernel = system.kernel
        self.unreadable: list[int] = []
        self._tables: dict[int, dict[int, int]] = {}  # by files_struct
        self._inode_of: dict[int, int] = {}
        self._files: dict[int, OpenFile | None] = {}
        self._inodes: dict[int, Inode | None] = {}
        self.by_key: dict[tuple[tuple[int, int], int], Inode] = {}  # those read so far
        self.by_kind: dict[tuple[int, int], Inode] = {}  # pipes and sockets
        self._super_blocks: dict[int, tuple[tuple[int, int], int, str]] = {}
        self._paths: dict[tuple[int, int], str | None] = {}

    @cached_property
    def _file(self) -> Layout:
        return Layout(
            self.kernel, "file",
            "f_inode", "f_mode", "f_flags", "f_pos", "private_data", "f_path.mnt", "f_path.dentry",
        )  # fmt: skip

    @cached_property
    def _inode(self) -> Layout:
        return Layout(
            self.kernel, "inode",
            "i_mode", "i_ino", "i_size", "i_pipe", "i_flctx", "i_mapping", "i_sb",
        )  # fmt: skip

    @cached_property
    def _table(self) -> Layout:
        return Layout(self.kernel, "fdtable", "max_fds", "fd")

    def table_of(self, task: Task) -> int:
        """The task's files_struct, 0 if it has none; raises ReadError."""
        return self.kernel.u64((task.address or 0) + need(self.kernel, "task_struct", "files"))

    def descriptors(self, task: Task) -> dict[int, int]:
        """The addresses of the task's open files, by descriptor.  Raises ReadError."""
        files = self.table_of(task)
        if files and files not in self._tables:
            self._tables[files] = dict(self._read_table(files))
        return self._tables.get(files, {})

    def _read_table(self, files: int) -> Iterator[tuple[int, int]]:
        kernel = self.kernel
        most, array = self._table.read(kernel.u64(files + need(kernel, "files_struct", "fdt")))
        most = min(most, MOST_FDS)
        for start in range(0, most, 512):  # a page: the rest of a table may be missing
            words = kernel.words(array + 8 * start, min(512, most - start))
            for number, word in enumerate(words, start):
                if word and is_kernel_pointer(word):
                    yield number, word

    def inode_of(self, file: int) -> int:
        """The address of the inode of a struct file, 0 if it can't be read."""
        if file not in self._inode_of:
            try:
                at = need(self.kernel, "file", "f_inode")
                self._inode_of[file] = self.kernel.u64(file + at)
            except ReadError:
                self._inode_of[file] = 0
        return self._inode_of[file]

    def file(self, address: int) -> OpenFile | None:
        """The struct file at `address`."""
        if address not in self._files:
            try:
                self._files[address] = OpenFile(address, *self._file.read(address))
            except FaultkitError:
                self._files[address] = None
        return self._files[address]

    def inode(self, address: int) -> Inode | None:
        """The struct inode at `address`."""
        if address not in self._inodes:
            try:
                *fields, super_block = self._inode.read(address)
                mode, number, size, pipe, locks, mapping = fields
                device, magic, kind = self.super_block(super_block)
                inode = Inode(
                    address, mode, number, size, pipe, locks, mapping, device, magic, kind
                )
                self._inodes[address] = self.by_key[inode.key] = inode
                if magic in (PIPE_MAGIC, SOCKET_MAGIC):
                    self.by_kind[inode.kind, number] = inode
            except FaultkitError:
                self._inodes[address] = None
        return self._inodes[address]

    def super_block(self, address: int) -> tuple[tuple[int, int], int, str]:
        """((major, minor), magic, type) of a super_block.  Raises ReadError, UnknownLayout."""
        found = self._super_blocks.get(address)
        if found is None:
            layout = self.system.layout("super_block", "s_dev", "s_magic", "s_type")
            device, magic, kind = layout.read(address)
            name = self.kernel.u64(kind + need(self.kernel, "file_system_type", "name"))
            # include/linux/kdev_t.h: 20 bits of minor
            numbers = device >> 20, device & 0xFFFFF
            found = self._super_blocks[address] = numbers, magic, text(self.kernel, name, 32)
        return found

    def open_file(self, task: Task, fd: int) -> OpenFile | None:
        """The file behind a descriptor of the task."""
        try:
            address = self.descriptors(task).get(fd)
        except FaultkitError:
            return None
        return self.file(address) if address is not None else None

    def link(self, file: OpenFile) -> str | None:
        """What /proc/PID/fd/FD links to: "pipe:[123]", "socket:[456]", a path..."""
        inode = self.inode(file.inode)
        if inode is None:
            return None
        if inode.is_pipe:
            return f"pipe:[{inode.number}]"
        if inode.is_socket:
            return f"socket:[{inode.number}]"
        if inode.magic == ANON_INODE_MAGIC:
            return f"anon_inode:{self._name(file.dentry)}"
        return self.path(file.mount, file.dentry)

    def path(self, mount: int, dentry: int) -> str | None:
        """The path of a dentry in a vfsmount, up to the root of its mount namespace; "..." where
        the way up can't be read."""
        key = mount, dentry
        if key not in self._paths:
            parts: list[str] = []
            ending = ""
            try:
                self._climb(mount, dentry, parts)
                ending = " (deleted)" if self._is_unlinked(mount, dentry) else ""
            except FaultkitError:
                parts.append("...")
            self._paths[key] = "/" + "/".join(reversed(parts)) + ending
        return self._paths[key]

    def _climb(self, mount: int, dentry: int, parts: list[str]) -> None:
        kernel = self.kernel
        root_at = need(kernel, "vfsmount", "mnt_root")
        parent_at = need(kernel, "dentry", "d_parent")
        outer = self.system.layout("mount", "mnt_parent", "mnt_mountpoint")
        within = need(kernel, "mount", "mnt")
        for _ in range(MOST_PARTS):
            if dentry == kernel.u64(mount + root_at):
                parent, point = outer.read(mount - within)
                if parent == mount - within or not parent:
                    return
                mount, dentry = parent + within, point
                continue
            parent = kernel.u64(dentry + parent_at)
            if parent == dentry:
                if not parts:  # of no directory: "dev/zero", say
                    parts.append(self._name(dentry))
                return
            parts.append(self._name(dentry))
            dentry = parent
        parts.append("...")

    def _is_unlinked(self, mount: int, dentry: int) -> bool:
        """Whether it is in no directory any more: not hashed, and no root (include/linux/dcache.h,
        d_unlinked)."""
        kernel = self.kernel
        if kernel.u64(mount + need(kernel, "vfsmount", "mnt_root")) == dentry:
            return False
        return not kernel.u64(dentry + need(kernel, "dentry", "d_hash") + 8)

    def _name(self, dentry: int) -> str:
        kernel = self.kernel
        at = need(kernel, "dentry", "d_name") + need(kernel, "qstr", "name")
        return text(kernel, kernel.u64(dentry + at), 256)


def device_name(device: tuple[int, int]) -> str:
    """The device as /proc/PID/maps has it: "fd:01"."""
    return f"{device[0]:02x}:{device[1]:02x}"


def device_of(name: str) -> tuple[int, int]:
    """The device by that name."""
    major, _, minor = name.partition(":")
    return int(major, 16), int(minor, 16)


def processes(system: System) -> dict[int, Sequence[Task]]:
    """The tasks of every process that have not exited, by its id; kernel threads are processes,
    too, the CPUs' idle tasks are not."""
    known: dict[int, Sequence[Task]] | None = system.cache.get("processes")
    if known is None:
        offset = need(system.kernel, "task_struct", "exit_state")
        found: dict[int, list[Task]] = {}
        for task in system.tasks:
            try:
                # PF_EXITING is set first (kernel/exit.c, do_exit()): most need no second look
                if task.pid and not (
                    system.flags(task) & states.PF_EXITING
                    and system.kernel.u32((task.address or 0) + offset)
                ):
                    found.setdefault(task.pid, []).append(task)
            except FaultkitError:
                continue
        known = system.cache["processes"] = {
            pid: sorted(tasks, key=lambda task: task.tid) for pid, tasks in found.items()
        }
    return known
