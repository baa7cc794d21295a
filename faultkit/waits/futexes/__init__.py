"""Providers for waits on a futex: of glibc, C++ and Rust, and any other."""

from faultkit.target import Process
from faultkit.waits._futex import SYSCALLS as SYSCALLS

PRIORITY = 30


def concerns(process: Process) -> bool:
    """Any process may wait so."""
    return True
