"""Providers for waits in other system calls."""

from faultkit.target import Process

SYSCALLS = None
PRIORITY = 40


def concerns(process: Process) -> bool:
    """Any process may wait so."""
    return True
