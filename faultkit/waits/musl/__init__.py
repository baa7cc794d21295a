"""Providers for the locks of musl.  Asked before futexes: the words look alike."""

from __future__ import annotations

from faultkit.target import Process
from faultkit.waits._futex import SYSCALLS as SYSCALLS

PRIORITY = 20
LIBRARY_NAMES = ("ld-musl", "libc.musl")


def concerns(process: Process) -> bool:
    """Whether the C library may be musl."""
    return libc_is_musl(process) is not False


def libc_is_musl(process: Process) -> bool | None:
    """True where a mapped library says musl, False where one says glibc, None for a static
    program, which says neither."""
    for mapping in process.files():
        name = mapping.path.rsplit("/", 1)[-1]
        if name.startswith(LIBRARY_NAMES) or "musl/" in mapping.path:
            return True
        if name.startswith(("libc.so.6", "libc-2.", "ld-linux-x86-64")):
            return False
    return None
