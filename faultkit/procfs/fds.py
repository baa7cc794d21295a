"""Descriptors: what /proc/PID/fd and /proc/PID/fdinfo tell of them, of one process or of all."""

from __future__ import annotations

import os
import stat

from faultkit.procfs.locks import FileLock, parse_locks
from faultkit.procfs.process import ask_process, home_of, read_proc
from faultkit.record import NamedTuple
from faultkit.world import process_ids

PF_KTHREAD = 0x00200000  # include/linux/sched.h
KCMP = 312  # x86_64
KCMP_FILE, KCMP_VM = 0, 1

# Where asking a file's attributes may wait for a server, perhaps the very one that hangs.
REMOTE_FILE_SYSTEMS = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "gfs", "ocfs", "lustre")

# Files that everybody has open and nobody locks or talks through.
NEVER_SHARED = ("/dev/null", "/dev/zero", "/dev/pts/", "/dev/tty", "/proc/", "/sys/")

Device = tuple[int, int]


class Watched(NamedTuple):
    """One descriptor in an epoll set: its number when it was added, the events, its inode."""

    fd: int
    events: int
    inode: int | None


class FdInfo(NamedTuple):
    """/proc/PID/fdinfo/FD.  `inode` is None before Linux 5.14; `pid` is a pidfd's process;
    `passing` counts the descriptors that were sent to a unix socket and not received yet."""

    position: int
    flags: int
    mount: int | None
    inode: int | None
    locks: tuple[FileLock, ...]
    watched: tuple[Watched, ...]
    pid: int | None
    passing: int = 0

    @property
    def reads(self) -> bool:
        """Whether the descriptor is open for reading."""
        return self.flags & os.O_ACCMODE in (os.O_RDONLY, os.O_RDWR)

    @property
    def writes(self) -> bool:
        """Whether the descriptor is open for writing."""
        return self.flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)


class End(NamedTuple):
    """A descriptor of a pipe: whose it is, and which directions it is open for."""

    pid: int
    reads: bool
    writes: bool


class Mount(NamedTuple):
    """A line of mountinfo: the device as the kernel's lock tables have it, and the type."""

    device: Device
    type: str

    @property
    def remote(self) -> bool:
        """Whether a server answers for the file system."""
        return self.type.startswith(REMOTE_FILE_SYSTEMS)


def link(pid: int, fd: int) -> str | None:
    """What the descriptor is: "pipe:[123]", "socket:[456]", "anon_inode:[eventfd]" or a path;
    None if it is closed, gone or not ours to read."""
    try:
        return ask_process(pid, f"fd/{fd}", os.readlink)
    except OSError:
        return None


def link_inode(link: str) -> int | None:
    """The inode number of a "pipe:[N]" or "socket:[N]" link."""
    kind, _, number = link.partition(":[")
    if kind in ("pipe", "socket") and number[:-1].isdigit():
        return int(number[:-1])
    return None


def fdinfo(pid: int, fd: int) -> FdInfo | None:
    """/proc/PID/fdinfo/FD, None if it can't be read."""
    try:
        text = ask_process(pid, f"fdinfo/{fd}", _read).decode("ascii", "replace")
    except OSError:
        return None
    numbers: dict[str, int] = {}
    locks = []
    watched = []
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        try:
            if name == "lock":
                locks.append(line)
            elif name == "tfd":
                watched.append(_watched(line))
            elif name in ("pos", "mnt_id", "ino", "Pid", "scm_fds"):
                numbers[name] = int(value)
            elif name == "flags":
                numbers[name] = int(value, 8)
        except ValueError:
            continue
    return FdInfo(
        numbers.get("pos", 0),
        numbers.get("flags", 0),
        numbers.get("mnt_id"),
        numbers.get("ino"),
        tuple(parse_locks(locks)),
        tuple(watched),
        numbers.get("Pid"),
        numbers.get("scm_fds", 0),
    )


def _read(path: str) -> bytes:
    return read_proc(path, 1 << 24)


def _watched(line: str) -> Watched:
    """ "tfd: 5 events: 19 data: 5 pos:0 ino:f296 sdev:9" (ep_show_fdinfo in fs/eventpoll.c);
    raises ValueError."""
    words = line.replace(":", " ").split()
    fields = dict(zip(words[::2], words[1::2]))
    inode = fields.get("ino")
    return Watched(
        int(fields.get("tfd", "")),
        int(fields.get("events", ""), 16),
        int(inode, 16) if inode is not None else None,
    )


def mounts(pid: int) -> dict[int, Mount]:
    """The mounts that the process sees, by mount id; {} if it is gone."""
    try:
        text = ask_process(pid, "mountinfo", _read).decode("utf-8", "replace")
    except OSError:
        return {}
    found = {}
    for line in text.split("\n"):
        left, _, right = line.partition(" - ")
        try:
            number, _, device = left.split()[:3]
            major, minor = device.split(":")
            found[int(number)] = Mount((int(major), int(minor)), right.split()[0])
        except (ValueError, IndexError):
            continue
    return found


def same_description(pid: int, fd: int, other_pid: int, other_fd: int) -> bool | None:
    """Whether two descriptors share one open file description (kcmp(2), KCMP_FILE); None
    where the kernel doesn't answer."""
    if (pid, fd) == (other_pid, other_fd):
        return True
    return _kcmp(pid, other_pid, KCMP_FILE, fd, other_fd)


def same_memory(pid: int, other_pid: int) -> bool | None:
    """Whether two processes share their memory (kcmp(2), KCMP_VM); None if it can't be told."""
    return _kcmp(pid, other_pid, KCMP_VM, 0, 0)


def _kcmp(pid: int, other_pid: int, what: int, index: int, other_index: int) -> bool | None:
    try:
        import ctypes

        answer = ctypes.CDLL(None).syscall(KCMP, pid, other_pid, what, index, other_index)
    except (ImportError, OSError, AttributeError):
        return None
    return None if answer < 0 else answer == 0


class Descriptors:
    """Every process's open descriptors, as one scan of /proc/*/fd found them.

    `by_link` maps a link ("pipe:[123]", "/run/x.lock") to (pid, fd) pairs; `unreadable` are
    the processes whose descriptors we may not list.
    """

    def __init__(self) -> None:
        self.by_link: dict[str, list[tuple[int, int]]] = {}
        self.unreadable: list[int] = []
        self._by_inode: dict[int, list[tuple[int, int, FdInfo]]] | None = None
        self._mounts: dict[int, dict[int, Mount]] = {}
        for pid in process_ids():
            try:
                numbers = os.listdir(f"/proc/{pid}/fd") or os.listdir(f"{home_of(pid)}/fd")
            except PermissionError:
                if not _is_kernel_thread(pid):
                    self.unreadable.append(pid)
                continue
            except OSError:
                continue
            for number in numbers:
                target = link(pid, int(number))
                if target is not None:
                    self.by_link.setdefault(target, []).append((pid, int(number)))

    def of_pipe(self, inode: int) -> list[End]:
        """Who has an end of the unnamed pipe open: by the modes of the descriptors' links, which
        are what the files were opened for (fs/proc/fd.c, tid_fd_update_inode)."""
        ends = []
        for pid, fd in self.by_link.get(f"pipe:[{inode}]", []):
            try:
                mode = ask_process(pid, f"fd/{fd}", os.lstat).st_mode
            except OSError:
                continue
            ends.append(End(pid, bool(mode & stat.S_IRUSR), bool(mode & stat.S_IWUSR)))
        return ends

    def of_socket(self, inode: int) -> list[tuple[int, int]]:
        """The (pid, fd) pairs that have the socket open."""
        return self.by_link.get(f"socket:[{inode}]", [])

    def carrying(self) -> dict[int, set[int]]:
        """The unix sockets to which descriptors were sent that nobody has received yet, by inode,
        and who has the sockets open (net/unix/af_unix.c, unix_show_fdinfo, from Linux 5.8 on)."""
        found: dict[int, set[int]] = {}
        for name, pairs in self.by_link.items():
            inode = link_inode(name) if name.startswith("socket:") else None
            if inode is not None:
                info = fdinfo(*pairs[0])
                if info is not None and info.passing:
                    found[inode] = {pid for pid, _ in pairs}
        return found

    def of_file(self, inode: int, device: Device) -> list[tuple[int, int, FdInfo]]:
        """The descriptors of a file with a path, by whatever path they were opened."""
        if self._by_inode is None:
            self._by_inode = self._index()
        return [
            (pid, fd, info)
            for pid, fd, info in self._by_inode.get(inode, [])
            if any(lock.file == (device, inode) for lock in info.locks)
            or self._device(pid, info) == device
        ]

    def _index(self) -> dict[int, list[tuple[int, int, FdInfo]]]:
        """All descriptors of files with a path by inode number: one read for each."""
        index: dict[int, list[tuple[int, int, FdInfo]]] = {}
        for name, pairs in self.by_link.items():
            if name[:1] != "/" or name.startswith(NEVER_SHARED):
                continue
            for pid, fd in pairs:
                info = fdinfo(pid, fd)
                if info is None:
                    continue
                inode = info.inode
                if inode is None and info.locks:
                    inode = info.locks[0].inode
                if inode is None:
                    mount = self._mount(pid, info)
                    inode = _stat_inode(pid, fd, mount) if mount is not None else None
                if inode is not None:
                    index.setdefault(inode, []).append((pid, fd, info))
        return index

    def _mount(self, pid: int, info: FdInfo) -> Mount | None:
        if pid not in self._mounts:
            self._mounts[pid] = mounts(pid)
        return self._mounts[pid].get(info.mount) if info.mount is not None else None

    def _device(self, pid: int, info: FdInfo) -> Device | None:
        mount = self._mount(pid, info)
        return mount.device if mount is not None else None


def file_identity(pid: int, fd: int) -> tuple[Device, int, Mount] | None:
    """(device, inode, mount) of an open file, without asking its file system where the kernel
    tells it in fdinfo; None if it can't be told."""
    info = fdinfo(pid, fd)
    if info is None or info.mount is None:
        return None
    mount = mounts(pid).get(info.mount)
    if mount is None:
        return None
    inode = info.inode if info.inode is not None else _stat_inode(pid, fd, mount)
    return None if inode is None else (mount.device, inode, mount)


def _stat_inode(pid: int, fd: int, mount: Mount) -> int | None:
    if mount.remote:
        return None
    try:
        return ask_process(pid, f"fd/{fd}", os.stat).st_ino
    except OSError:
        return None


def _is_kernel_thread(pid: int) -> bool:
    try:
        text = read_proc(f"/proc/{pid}/stat")
        return bool(int(text[text.rindex(b")") + 2 :].split()[6]) & PF_KTHREAD)
    except (OSError, ValueError, IndexError):
        return True  # gone
