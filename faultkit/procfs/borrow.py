"""Asking the kernel about a process's pipe or socket through a duplicate of its descriptor.

A duplicate (pidfd_getfd(2), Linux 5.6) shares the open file description and only counts one
more reference to it for that moment: nothing is read, nothing is set."""

from __future__ import annotations

import os
import stat
from functools import cache

from faultkit.procfs.process import ask_process
from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


PIDFD_GETFD = 438  # x86_64


class Readiness(NamedTuple):
    """Whether a read or write would go on now, and whether SO_RCVTIMEO or SO_SNDTIMEO ends it
    some day; `ready` is None where the kernel can't be asked."""

    ready: bool | None
    timed: bool = False


UNKNOWN = Readiness(None)


def readiness(pid: int, fd: int, writing: bool) -> Readiness:
    """Whether the process's pipe or socket is ready, by poll(2) without waiting.

    Meant for pipes and sockets only: elsewhere poll may have to ask a file server."""
    copy = _duplicate(pid, fd)
    if copy is None:
        copy = _reopen_pipe(pid, fd, writing)
    if copy is None:
        return UNKNOWN
    import select

    try:
        poll = select.poll()
        poll.register(copy, select.POLLOUT if writing else select.POLLIN)
        return Readiness(bool(poll.poll(0)), _has_timeout(copy, writing))
    except OSError:
        return UNKNOWN
    finally:
        os.close(copy)


def _duplicate(pid: int, fd: int) -> int | None:
    """Our own descriptor of the same open file description, None if we may not have it."""
    try:
        pidfd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
    try:
        copy = int(_libc().syscall(PIDFD_GETFD, pidfd, fd, 0))
    except (ImportError, AttributeError, OSError):
        return None
    finally:
        os.close(pidfd)
    return copy if copy >= 0 else None


@cache
def _libc() -> Any:
    """The C library's functions.  Raises ImportError in a Python without ctypes."""
    import ctypes

    return ctypes.CDLL(None)


def _reopen_pipe(pid: int, fd: int, writing: bool) -> int | None:
    """The same end of the same pipe, opened once more (sockets can't be)."""
    flags = (os.O_WRONLY if writing else os.O_RDONLY) | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        if not ask_process(pid, f"fd/{fd}", os.readlink).startswith("pipe:["):
            return None
        return ask_process(pid, f"fd/{fd}", lambda path: os.open(path, flags))
    except OSError:
        return None


def _has_timeout(fd: int, writing: bool) -> bool:
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return False
    import socket

    option = socket.SO_SNDTIMEO if writing else socket.SO_RCVTIMEO
    try:
        with socket.socket(fileno=os.dup(fd)) as duplicate:
            return any(duplicate.getsockopt(socket.SOL_SOCKET, option, 16))
    except OSError:  # not a socket
        return False
