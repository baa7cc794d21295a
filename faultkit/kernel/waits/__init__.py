"""Providers for kernels: each module here knows one kind of lock, or of wait, of the kernel.
A new file is all that a new kind needs.

A provider module has
- FUNCTIONS: the kernel functions (without suffixes of clones) in which a task that waits for
  this lock sleeps: it is asked about tasks that have one of them near the top of their stack;
- PRIORITY: those concerned are asked in ascending order, the most certain recognition first;
- recognise(sleeper) -> Wait or None: None if this is not a wait of its kind.
It may raise FaultkitError: then the next provider is asked.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import import_module

from faultkit.kernel.sleeper import Sleeper
from faultkit.model import Wait
from faultkit.record import Protocol
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Provider(Protocol):
    """The shape of a provider module."""

    FUNCTIONS: frozenset[str]
    PRIORITY: int

    def recognise(self, sleeper: Sleeper) -> Wait | None:
        """The wait, if it is of this kind."""


_by_function: dict[str, list[Provider]] = {}


def recognise(sleeper: Sleeper) -> Wait | None:
    """What the task waits for, by the first provider that knows; None if none does."""
    try:
        functions = sleeper.functions
    except FaultkitError:
        return None
    for provider in _concerned(functions):
        try:
            wait = provider.recognise(sleeper)
        except FaultkitError:
            continue
        if wait is not None:
            return wait
    return None


def _concerned(functions: tuple[str, ...]) -> list[Provider]:
    """The providers of any of the functions, in the order in which they are asked."""
    known = _providers()
    # stacks differ by what else lies on them
    return _in_order(tuple([name for name in functions if name in known]))


@lru_cache(maxsize=1 << 12)
def _in_order(functions: tuple[str, ...]) -> list[Provider]:
    known = _providers()
    asked = {id(provider): provider for name in functions for provider in known[name]}
    return sorted(asked.values(), key=lambda provider: provider.PRIORITY)


def _providers() -> dict[str, list[Provider]]:
    """The providers by function.  Remembered only once they are complete: Ctrl-C may come at
    any point."""
    if not _by_function:
        found: dict[str, list[Provider]] = {}
        for file in sorted(os.listdir(__path__[0])):
            name, ending = os.path.splitext(file)
            if ending == ".py" and not name.startswith("_"):
                module: Any = import_module(f"{__name__}.{name}")
                for function in module.FUNCTIONS:
                    found.setdefault(function, []).append(module)
        _by_function.update(found)
    return _by_function
