"""SIGCHLD: what a child did."""

from __future__ import annotations

from faultkit.signals.case import Case
from faultkit.signals.model import CHILD
from faultkit.signals.names import code_words, signal_name
from faultkit.signals.origins import Origin
from faultkit.signals.siginfo import CHILD_ENDED

SIGNALS = None
PRIORITY = 30
EXITED = 1


def explain(case: Case) -> Origin | None:
    """A SIGCHLD with the child's pid and status."""
    info = case.info
    if info.layout != CHILD_ENDED or info.pid is None:
        return None
    status = info.status or 0
    with_ = f"status {status & 0xFF}" if info.code == EXITED else signal_name(status)
    words = code_words(info.number, info.code)
    return Origin(
        CHILD,
        "child",
        f"SIGCHLD for child {info.pid}, of uid {info.uid}: {words}, with {with_}.",
        f"child {info.pid}: {words}, {with_}",
    )
