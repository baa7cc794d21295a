"""Providers: each module here knows one kind of lock, or of wait.

A provider module has
- SYSCALLS: the x86_64 system call numbers that a task waiting for this lock is blocked in;
- PRIORITY: providers are asked in ascending order, the most certain recognition first;
- recognise(blocked) -> Wait or None: None if this is not a wait of its kind.
It may raise ReadError: then the next provider is asked.
"""

import importlib
import pkgutil
from typing import Optional, Protocol, cast

from faultkit.model import Wait
from faultkit.target import ReadError
from faultkit.world import Blocked


class Provider(Protocol):
    """The shape of a provider module."""

    SYSCALLS: frozenset[int]
    PRIORITY: int

    def recognise(self, blocked: Blocked) -> Optional[Wait]:
        """The wait, if it is of this kind."""


_by_syscall: dict[int, list[Provider]] = {}


def providers(nr: int) -> list[Provider]:
    """The providers for system call `nr`, in the order in which they are to be asked."""
    if not _by_syscall:
        modules = [
            cast(Provider, importlib.import_module(f"{__name__}.{info.name}"))
            for info in pkgutil.iter_modules(__path__)
            if not info.name.startswith("_")
        ]
        for module in sorted(modules, key=lambda module: module.PRIORITY):
            for number in module.SYSCALLS:
                _by_syscall.setdefault(number, []).append(module)
    return _by_syscall.get(nr, [])


def recognise(blocked: Blocked) -> Optional[Wait]:
    """What the task waits for, by the first provider that knows; None if none does."""
    for provider in providers(blocked.call.nr):
        try:
            wait = provider.recognise(blocked)
        except ReadError:
            continue
        if wait is not None:
            return wait
    return None
