"""Providers: each module of the packages here knows one kind of lock, or of wait.  A new file in
one of them is all that a new kind needs.

A provider module has
- SYSCALLS: the x86_64 system call numbers that a task waiting for this lock is blocked in;
- PRIORITY: the providers of a package are asked in ascending order, the most certain
  recognition first;
- recognise(blocked) -> Wait or None: None if this is not a wait of its kind.
It may raise ReadError: then the next provider is asked.

A package has SYSCALLS (None: any) and PRIORITY too, and concerns(process).  Its modules are
imported when the first task may need them: most processes wait on glibc's futexes only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module

from faultkit.model import Wait
from faultkit.record import Protocol
from faultkit.target import Process, ReadError
from faultkit.world import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Provider(Protocol):
    """The shape of a provider module."""

    SYSCALLS: frozenset[int]
    PRIORITY: int

    def recognise(self, blocked: Blocked) -> Wait | None:
        """The wait, if it is of this kind."""


class Package(Protocol):
    """The shape of a package of providers."""

    __name__: str
    __path__: list[str]
    SYSCALLS: frozenset[int] | None
    PRIORITY: int

    def concerns(self, process: Process) -> bool:
        """Whether the process may have such locks at all; cheap."""


_packages: list[Package] = []
_providers: dict[str, dict[int, list[Provider]]] = {}  # by package and system call


def providers(blocked: Blocked) -> Iterator[Provider]:
    """The providers for the system call of the task, in the order in which they are asked."""
    for package in _concerned(blocked):
        yield from _providers_of(package).get(blocked.call.nr, ())


def recognise(blocked: Blocked) -> Wait | None:
    """What the task waits for, by the first provider that knows; None if none does."""
    try:
        for provider in providers(blocked):
            try:
                wait = provider.recognise(blocked)
            except ReadError:
                continue
            if wait is not None:
                return wait
    finally:
        blocked.process.let_go()
    return None


def _all_packages() -> list[Package]:
    if not _packages:
        found: list[Package] = _import_all(__name__, __path__[0], "")
        _packages.extend(sorted(found, key=lambda package: package.PRIORITY))
    return _packages


def _providers_of(package: Package) -> dict[int, list[Provider]]:
    """The providers of one package by system call.  Remembered only once they are complete:
    Ctrl-C may come at any point, and an empty table would deny every later deadlock."""
    known = _providers.get(package.__name__)
    if known is None:
        known = {}
        modules = _import_all(package.__name__, package.__path__[0], ".py")
        for module in sorted(modules, key=lambda module: int(module.PRIORITY)):
            for number in module.SYSCALLS:
                known.setdefault(number, []).append(module)
        _providers[package.__name__] = known
    return known


def _concerned(blocked: Blocked) -> list[Package]:
    """The packages for the system call of the task and its process."""
    process, nr = blocked.process, blocked.call.nr
    cache = blocked.world.images
    key = f"providers {process.pid} {nr}"
    if key not in cache:
        cache[key] = [
            package
            for package in _all_packages()
            if (package.SYSCALLS is None or nr in package.SYSCALLS) and package.concerns(process)
        ]
    known: list[Package] = cache[key]
    return known


def _import_all(parent: str, folder: str, suffix: str) -> list[Any]:
    """The modules with that suffix in the folder of a package; "" for its sub-packages.
    (pkgutil would load `inspect` for that.)"""
    names = [os.path.splitext(file) for file in sorted(os.listdir(folder))]
    return [
        import_module(f"{parent}.{name}")
        for name, ending in names
        if ending == suffix and not name.startswith("_")
    ]
