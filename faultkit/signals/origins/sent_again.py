"""Faults whose handler has sent the signal once more, to die of it as if it had not been there.

Crash handlers do so: signal(n, SIG_DFL); raise(n).  As a handler's own signal is blocked, it
comes when the handler has returned: at the very instruction that has failed.
"""

from __future__ import annotations

from faultkit.model import INFERRED
from faultkit.signals.case import Case
from faultkit.signals.names import (
    SI_KERNEL,
    SI_TKILL,
    SI_USER,
    SIGBUS,
    SIGFPE,
    SIGILL,
    SIGSEGV,
    signal_name,
)
from faultkit.signals.origins import Origin, explain_as
from faultkit.signals.origins._calls_made import last_call
from faultkit.signals.origins.arithmetic import INTDIV, divides
from faultkit.signals.siginfo import FAULTED, SENT, Siginfo

SIGNALS = frozenset((SIGSEGV, SIGBUS, SIGFPE, SIGILL))
PRIORITY = 5


def explain(case: Case) -> Origin | None:
    """A fault's signal by the process itself, outside of any system call."""
    if not case.by_itself or case.info.code not in (SI_TKILL, SI_USER):
        return None
    if not case.registers or last_call(case) is not None:
        return None
    info = _fault(case)
    if info is None:
        return None
    origin = explain_as(case, info)
    name = signal_name(case.info.number)
    address = origin.address if origin.address is not None else info.address
    return origin._replace(
        text=f"{origin.text} A handler of the program's own took this fault, and sent {name} once "
        "more, to die of it.",
        evidence=(
            *(line for line in origin.evidence if not line.startswith("si_")),
            f"{name} was sent by the process itself, but came outside of any system call, at an "
            "instruction that fails",
        ),
        confidence=INFERRED,
        address=address,
    )


def _fault(case: Case) -> Siginfo | None:
    """The siginfo that the instruction at rip must have had at first."""
    number = case.info.number
    pc = case.registers.get("rip", 0)
    if number == SIGFPE:
        return Siginfo(number, INTDIV, 0, FAULTED, address=pc) if divides(case) else None
    if number == SIGILL:
        bad = case.instruction is None or case.instruction.kind == "trap"
        return Siginfo(number, 2, 0, FAULTED, address=pc) if bad else None
    mapping = case.mapping(pc)
    if mapping is None or mapping.perms[2:3] not in ("x", ""):
        return Siginfo(number, 1 if mapping is None else 2, 0, FAULTED, address=pc)
    from faultkit.code.operands import is_canonical

    for access in case.accesses:
        if access.address is None:
            continue
        if not is_canonical(access.address):
            return Siginfo(number, SI_KERNEL, 0, SENT)
        there = case.mapping(access.address)
        if number == SIGBUS:
            if there is not None and there.path:
                return Siginfo(number, 2, 0, FAULTED, address=access.address)
        elif there is None:
            return Siginfo(number, 1, 0, FAULTED, address=access.address)
        elif there.perms[:2] == "--" or (there.perms[1:2] == "-" and access.mode == "write"):
            return Siginfo(number, 2, 0, FAULTED, address=access.address)
    return None
