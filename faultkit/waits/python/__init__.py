"""Providers for the locks of CPython.  Asked before futexes: they are made of condition variables
and semaphores."""

from faultkit.target import Process
from faultkit.waits._futex import SYSCALLS as SYSCALLS

PRIORITY = 10


def concerns(process: Process) -> bool:
    """Whether an interpreter is mapped, by the names of the images: python3.11,
    libpython3.11.so, lib-dynload/..."""
    return any("python" in mapping.path.lower() for mapping in process.files())
