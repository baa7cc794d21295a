"""Waits that may end by themselves: timers, signals, terminals, devices, clients to come.

Asked last: what no other provider knows better."""

from __future__ import annotations

from faultkit.model import Wait
from faultkit.waits._ipc import FD_IN_A_CORE, fd_argument, outside
from faultkit.world import Blocked

READS = frozenset({0, 17, 19, 78, 89, 217, 295, 327})  # read*, readlink, getdents
WRITES = frozenset({1, 18, 20, 40, 74, 75, 187, 277, 285, 296, 306, 328})  # write*, f*sync...
SOCKET_CALLS = {
    42: "connect", 43: "accept", 288: "accept", 44: "socket", 45: "socket", 46: "socket",
    47: "socket", 299: "socket", 307: "socket",
}  # fmt: skip
OPENS = {2: 0, 257: 1, 437: 1, 85: 0}  # open, openat, openat2, creat: where the path is
IOCTL, FCNTL, SPLICES = 16, 72, {275: "splice", 276: "tee", 278: "vmsplice", 326: "copy"}
RESTART = 219
# number: (kind, index of the pointer to the timeout, always timed)
SIMPLE: dict[int, tuple[str, int | None, bool]] = {
    35: ("sleep", None, True),  # nanosleep
    230: ("sleep", None, True),  # clock_nanosleep
    34: ("signal", None, False),  # pause
    130: ("signal", None, False),  # rt_sigsuspend
    128: ("signal", 2, False),  # rt_sigtimedwait
    208: ("aio", 4, False),  # io_getevents
    333: ("aio", 4, False),  # io_pgetevents
    426: ("io_uring", None, False),  # io_uring_enter
    242: ("posix_mq", 4, False),  # mq_timedsend
    243: ("posix_mq", 4, False),  # mq_timedreceive
    RESTART: ("timed", None, True),
}
SYSCALLS = (
    READS | WRITES | frozenset(SOCKET_CALLS) | frozenset(OPENS) | frozenset(SPLICES)
    | frozenset(SIMPLE) | {IOCTL, FCNTL, 73}
)  # fmt: skip
PRIORITY = 1000

MOST_PATH = 4096
KINDS = {
    "anon_inode:[eventfd]": "eventfd",
    "anon_inode:[timerfd]": "timerfd",
    "anon_inode:[signalfd]": "signalfd",
    "anon_inode:inotify": "inotify",
    "anon_inode:[fanotify]": "fanotify",
    "anon_inode:[userfaultfd]": "userfaultfd",
    "anon_inode:[perf_event]": "perf_event",
}
PREFIXES = (
    ("/dev/pts/", "terminal"),
    ("/dev/tty", "terminal"),
    ("/dev/console", "terminal"),
    ("/dev/ptmx", "terminal"),
    ("/dev/fuse", "fuse server"),
    ("/dev/", "device"),
    ("/proc/", "proc file"),
    ("socket:", "socket"),
    ("pipe:", "pipe"),
    ("anon_inode:", "anonymous file"),
    ("/", "file"),
)


def recognise(blocked: Blocked) -> Wait | None:
    """The wait of a task in one of these system calls: always OUTSIDE."""
    nr = blocked.call.nr
    if nr in SIMPLE:
        kind, timeout, timed = SIMPLE[nr]
        if timeout is not None:
            timed = blocked.call.args[timeout] != 0
        return outside(blocked, kind, timed=timed)
    if nr in OPENS:
        return _open(blocked)
    if nr in SOCKET_CALLS:
        return _descriptor(blocked, SOCKET_CALLS[nr])
    if nr in SPLICES:
        return outside(blocked, SPLICES[nr], f"fd {fd_argument(blocked)}")
    return _descriptor(blocked, None)


def _descriptor(blocked: Blocked, kind: str | None) -> Wait:
    """A wait on the descriptor in the first argument."""
    nr = blocked.call.nr
    fd = fd_argument(blocked)
    mode = "read" if nr in READS else "write" if nr in WRITES else None
    machine = blocked.machine
    if machine is None:
        missing = None if kind == "accept" else FD_IN_A_CORE
        return outside(blocked, kind or "file", f"fd {fd}", mode=mode, missing=missing)
    link = machine.link(blocked.task.pid, fd)
    if link is None:
        return outside(blocked, kind or "file", f"fd {fd}", mode=mode)
    return outside(blocked, kind or kind_of(link), f"fd {fd} {link}", mode=mode)


def kind_of(link: str) -> str:
    """What a person calls the file behind a descriptor's link."""
    if link in KINDS:
        return KINDS[link]
    return next((kind for prefix, kind in PREFIXES if link.startswith(prefix)), "file")


def _open(blocked: Blocked) -> Wait:
    """An open() that blocks: of a FIFO, until somebody opens its other end."""
    path = _string(blocked, blocked.call.args[OPENS[blocked.call.nr]])
    machine = blocked.machine
    is_fifo = machine is not None and machine.opens_fifo(blocked.task)
    return outside(blocked, "pipe" if is_fifo else "open", path)


def _string(blocked: Blocked, address: int) -> str | None:
    """The text at an address, up to a page boundary at a time; None if there is none."""
    data = b""
    while len(data) < MOST_PATH and address:
        size = 0x1000 - ((address + len(data)) & 0xFFF)
        data += blocked.process.read(address + len(data), size)
        if b"\0" in data:
            return data.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    return None
