"""Origins: each module here knows one reason for signals.  A new file is all that a new one needs.

A module has
- SIGNALS: the numbers of the signals that it may explain, None for any;
- PRIORITY: the modules are asked in ascending order, the most certain one first;
- explain(case) -> Origin or None: None if this signal did not come about so.
It may raise ReadError: then the next one is asked.
"""

from __future__ import annotations

import os
from importlib import import_module

from faultkit.model import PROVEN
from faultkit.record import NamedTuple, Protocol
from faultkit.signals.case import Case
from faultkit.signals.model import KERNEL, UNKNOWN
from faultkit.signals.names import code_name, code_words, signal_name
from faultkit.signals.siginfo import Siginfo
from faultkit.target import ReadError


class Origin(NamedTuple):
    """Where a signal came from: `origin` and `cause` as SignalFinding has them; `text` says it in
    a sentence or two; `brief` in a few words, for the verdict; `next` what to look at."""

    origin: str
    cause: str
    text: str
    brief: str = ""
    evidence: tuple[str, ...] = ()
    next: str = ""
    confidence: str = PROVEN
    address: int | None = None


class Module(Protocol):
    """The shape of a module here."""

    SIGNALS: frozenset[int] | None
    PRIORITY: int

    def explain(self, case: Case) -> Origin | None:
        """Where the signal came from, if it is of this kind."""


_modules: list[Module] = []


def modules() -> list[Module]:
    """All modules, in the order in which they are asked."""
    if not _modules:
        names = [os.path.splitext(file) for file in sorted(os.listdir(__path__[0]))]
        found: list[Module] = [
            import_module(f"{__name__}.{name}")
            for name, ending in names
            if ending == ".py" and not name.startswith("_")
        ]
        _modules.extend(sorted(found, key=lambda module: module.PRIORITY))
    return _modules


def explain(case: Case) -> Origin:
    """Where the signal came from, by the first module that knows."""
    number = case.info.number
    for module in modules():
        if module.SIGNALS is not None and number not in module.SIGNALS:
            continue
        try:
            origin = module.explain(case)
        except ReadError:
            continue
        if origin is not None:
            return origin
    return _by_code(case.info)


def explain_as(case: Case, info: Siginfo) -> Origin:
    """Where another signal would have come from, at the same place."""
    same = Case(case.process, case.task, info, case.registers, case.senders, case.innermost)
    return explain(same)


def _by_code(info: Siginfo) -> Origin:
    number, code = info.number, info.code
    words = code_words(number, code) or "a code that is not known here"
    return Origin(
        KERNEL if code > 0 else UNKNOWN,
        "unknown",
        f"{signal_name(number)} with si_code {code_name(number, code)}: {words}.",
    )
