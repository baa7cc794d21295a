"""File locks: the lines of /proc/locks and the "lock:" lines of /proc/PID/fdinfo/FD."""

from __future__ import annotations

from collections.abc import Iterable

from faultkit.procfs.process import read_proc
from faultkit.record import NamedTuple

FLOCK = "FLOCK"
POSIX = "POSIX"
OFD = "OFDLCK"
END = (1 << 63) - 1  # OFFSET_MAX: the range has no end


class FileLock(NamedTuple):
    """One lock on the bytes [start, end] of an inode.

    `pid` is the process that took it: -1 for OFD locks, 0 where that process is in a pid
    namespace that we can't see.  `device` is (major, minor) of the file system.  `blocked`
    tells a request that waits for the lock listed before it.
    """

    kind: str
    mode: str  # "read" or "write"
    pid: int
    device: tuple[int, int]
    inode: int
    start: int
    end: int
    blocked: bool = False

    @property
    def file(self) -> tuple[tuple[int, int], int]:
        """The file's identity as the kernel's lock tables have it."""
        return self.device, self.inode

    def conflicts(self, mode: str, start: int, end: int) -> bool:
        """Whether it keeps another owner from `mode` on [start, end] (posix_locks_conflict
        in fs/locks.c: the ranges overlap and one of the two writes)."""
        return "write" in (self.mode, mode) and self.start <= end and start <= self.end


def parse_lock(line: str) -> FileLock | None:
    """One line, from either file (lock_get_status in fs/locks.c); None if it is not a lock's."""
    words = line.split()
    if words[:1] == ["lock:"]:
        words = words[1:]
    words = words[1:]  # the ordinal
    blocked = words[:1] == ["->"]
    if blocked:
        words = words[1:]
    if len(words) != 7 or words[2] not in ("READ", "WRITE"):
        return None
    kind, _, mode, pid, file, start, end = words
    try:
        major, minor, inode = file.split(":")
        return FileLock(
            kind,
            mode.lower(),
            int(pid),
            (int(major, 16), int(minor, 16)),
            int(inode),
            int(start),
            END if end == "EOF" else int(end),
            blocked,
        )
    except ValueError:
        return None


def parse_locks(lines: Iterable[str]) -> list[FileLock]:
    """The locks among some lines."""
    return [lock for lock in map(parse_lock, lines) if lock is not None]


def all_locks() -> list[FileLock]:
    """Every lock of /proc/locks whose owner our pid namespace shows; [] if it can't be read."""
    try:
        text = read_proc("/proc/locks", 1 << 25).decode("ascii", "replace")
    except OSError:
        return []
    return parse_locks(text.split("\n"))
