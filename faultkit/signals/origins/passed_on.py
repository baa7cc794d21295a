"""A fault's siginfo that the program has sent to itself: a crash handler passes on what it got."""

from __future__ import annotations

from faultkit.model import INFERRED
from faultkit.signals.case import Case
from faultkit.signals.model import SIGQUEUE
from faultkit.signals.names import SIGBUS, SIGFPE, SIGILL, SIGSEGV, code_name, signal_name
from faultkit.signals.origins import Origin
from faultkit.signals.origins._calls_made import last_call
from faultkit.signals.siginfo import FAULTED

SIGNALS = frozenset((SIGSEGV, SIGBUS, SIGFPE, SIGILL))
PRIORITY = 4
PASSES_ON = frozenset(("rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"))


def explain(case: Case) -> Origin | None:
    """A fault's siginfo at the return from a call that takes a siginfo: no instruction has failed
    there.  A thread may give such a one to itself only (do_rt_sigqueueinfo in kernel/signal.c)."""
    info = case.info
    if info.layout != FAULTED or "orig_rax" not in case.registers:
        return None
    call = last_call(case)
    if call is None or call.name not in PASSES_ON:
        return None
    name, code = signal_name(info.number), code_name(info.number, info.code)
    place = case.own_place()
    return Origin(
        SIGQUEUE,
        "passed-on",
        f"The program gave {name} to itself{f' by {place}' if place else ''}, with the siginfo of "
        f"a fault ({code} at {info.address or 0:#x}) that came before, or that it has made up: no "
        "instruction has failed here.",
        f"sent by itself with {call.name}(), as {code} at {info.address or 0:#x}",
        (f"the system call is {call.name}",),
        "look at the fault that its handler took: above, if it is still on the stack",
        INFERRED,
    )
