"""SIGIO and its like: a descriptor is ready."""

from __future__ import annotations

from faultkit.signals.case import Case
from faultkit.signals.model import IO_READY
from faultkit.signals.names import code_words, signal_name
from faultkit.signals.origins import Origin
from faultkit.signals.siginfo import POLLED

SIGNALS = None
PRIORITY = 30


def explain(case: Case) -> Origin | None:
    """A signal that F_SETOWN or F_SETSIG asked for (fs/fcntl.c, send_sigio_to_task)."""
    info = case.info
    if info.layout != POLLED:
        return None
    words = code_words(info.number, info.code) or "it is ready"
    return Origin(
        IO_READY,
        "io",
        f"{signal_name(info.number)} for descriptor {info.fd}: {words}. The program has asked for "
        "it by fcntl(F_SETOWN) or F_SETSIG.",
        f"descriptor {info.fd} is ready",
        (f"si_band is {info.band or 0:#x}",),
    )
