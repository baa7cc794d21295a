"""File locks: flock, POSIX and open file description locks on an inode, and who waits for them.

struct file_lock was split in 6.9 (c69ff4071935, "filelock: split leases out of struct
file_lock"): what is common is in its member `c`, a struct file_lock_core.
"""

from __future__ import annotations

from functools import cached_property

from faultkit.kernel.files import Files, Inode
from faultkit.kernel.objects import BrokenList, Layout, entries, need
from faultkit.kernel.queues import own_wait_queues
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.target import Kernel
from faultkit.procfs.locks import END, FLOCK, OFD, POSIX, FileLock
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MOST_LOCKS = 4096  # of one file
FL_POSIX, FL_FLOCK, FL_OFDLCK = 1, 2, 1024  # include/linux/fs.h, filelock.h
MODES = {0: "read", 1: "write"}  # F_RDLCK, F_WRLCK
# Where a task sleeps for one: the head that its wait queue entry is on.
_WAITS = ("c.flc_wait", "fl_wait")


class Held(NamedTuple):
    """A struct file_lock: `owner` is a files_struct for POSIX locks, else a struct file."""

    lock: FileLock
    file: int
    owner: int
    blocker: int


class FileLocks:
    """The locks of inodes.  Nothing raises but UnknownLayout."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.kernel: Kernel = files.kernel
        self._of: dict[int, list[Held]] = {}

    @cached_property
    def _layout(self) -> Layout:
        return Layout(
            self.kernel, "file_lock", "fl_start", "fl_end",
            ("c.flc_flags", "fl_flags"), ("c.flc_type", "fl_type"), ("c.flc_pid", "fl_pid"),
            ("c.flc_file", "fl_file"), ("c.flc_owner", "fl_owner"), ("c.flc_blocker", "fl_blocker"),
        )  # fmt: skip

    def of_inode(self, inode: Inode) -> list[Held]:
        """The locks that are held on the file."""
        if inode.address not in self._of:
            self._of[inode.address] = self._read(inode)
        return self._of[inode.address]

    def _read(self, inode: Inode) -> list[Held]:
        if not inode.locks:
            return []
        links = need(self.kernel, "file_lock", self._path(("c.flc_list", "fl_list")))
        found = []
        for member in ("flc_flock", "flc_posix"):
            head = inode.locks + need(self.kernel, "file_lock_context", member)
            try:
                for address in entries(self.kernel, head, links, MOST_LOCKS):
                    held = self.read(address, inode)
                    if held is not None:
                        found.append(held)
            except (BrokenList, FaultkitError):
                continue
        return found

    def _path(self, names: tuple[str, str]) -> str:
        return names[0] if self.kernel.offset("file_lock", names[0]) is not None else names[1]

    def read(self, address: int, inode: Inode) -> Held | None:
        """The struct file_lock at `address`; None if that is none."""
        try:
            start, end, flags, kind, pid, file, owner, blocker = self._layout.read(address)
        except FaultkitError:
            return None
        mode = MODES.get(kind & 0xFF)
        if mode is None or not 0 <= start <= end <= END:
            return None
        if flags & FL_FLOCK:
            name = FLOCK
        elif flags & FL_OFDLCK:
            name, pid = OFD, -1
        elif flags & FL_POSIX:
            name = POSIX
        else:
            return None
        lock = FileLock(name, mode, pid, inode.device, inode.number, start, end, bool(blocker))
        return Held(lock, file, owner, blocker)

    def request_of(self, sleeper: Sleeper) -> Held | None:
        """The lock that a task sleeps for: its wait queue entry, on its stack, is the only one
        on the list in the struct file_lock (fs/locks.c, locks_lock_inode_wait and others)."""
        waits = need(self.kernel, "file_lock", self._path(_WAITS))
        for queue in own_wait_queues(sleeper):
            try:
                held = self._read_request(queue - waits)
            except FaultkitError:
                continue
            if held is not None and held.blocker:
                return held
        return None

    def _read_request(self, address: int) -> Held | None:
        file_at = need(self.kernel, "file_lock", self._path(("c.flc_file", "fl_file")))
        file = self.files.file(self.kernel.u64(address + file_at))
        inode = self.files.inode(file.inode) if file is not None else None
        return self.read(address, inode) if inode is not None else None
