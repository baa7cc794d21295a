"""Providers: each module of the packages `futexes` and `calls` knows one kind of lock, or of
wait.  A new file there is all that a new kind needs.

A provider module has
- SYSCALLS: the x86_64 system call numbers that a task waiting for this lock is blocked in;
- PRIORITY: the providers of a package are asked in ascending order, the most certain
  recognition first;
- recognise(blocked) -> Wait or None: None if this is not a wait of its kind.
It may raise ReadError: then the next provider is asked.

A package is imported when the first task needs it: most processes wait on futexes only.
"""

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Optional, Protocol, cast

from faultkit.model import Wait
from faultkit.target import ReadError
from faultkit.waits import _futex
from faultkit.world import Blocked


class Provider(Protocol):
    """The shape of a provider module."""

    SYSCALLS: frozenset[int]
    PRIORITY: int

    def recognise(self, blocked: Blocked) -> Optional[Wait]:
        """The wait, if it is of this kind."""


_packages: dict[str, dict[int, list[Provider]]] = {}


def providers(nr: int) -> Iterator[Provider]:
    """The providers for system call `nr`, in the order in which they are to be asked."""
    if nr in _futex.SYSCALLS:
        yield from _package("futexes").get(nr, ())
    yield from _package("calls").get(nr, ())


def _package(name: str) -> dict[int, list[Provider]]:
    """The providers of one package by system call."""
    known = _packages.get(name)
    if known is None:
        known = _packages[name] = {}
        modules = [cast(Provider, import_module(module)) for module in _modules(name)]
        for module in sorted(modules, key=lambda module: module.PRIORITY):
            for number in module.SYSCALLS:
                known.setdefault(number, []).append(module)
    return known


def _modules(package: str) -> Iterator[str]:
    """The names of the modules of a package (pkgutil would load `inspect` for that)."""
    for file in sorted(os.listdir(os.path.join(__path__[0], package))):
        name, suffix = os.path.splitext(file)
        if suffix == ".py" and not name.startswith("_"):
            yield f"{__name__}.{package}.{name}"


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
