"""Execution where there is no code: data, or nothing at all."""

from __future__ import annotations

from faultkit.signals.case import Case
from faultkit.signals.model import FAULT
from faultkit.signals.names import SIGSEGV
from faultkit.signals.origins import Origin
from faultkit.signals.origins._calls import called_from, returned_to
from faultkit.signals.origins._words import mapping_words, pattern_words
from faultkit.signals.siginfo import FAULTED

SIGNALS = frozenset((SIGSEGV,))
PRIORITY = 30


def explain(case: Case) -> Origin | None:
    """A fault of fetching the instruction itself: si_addr is rip."""
    info, pc = case.info, case.registers.get("rip")
    if info.layout != FAULTED or pc is None or info.address != pc:
        return None
    what = mapping_words(case, pc)
    mapping = case.mapping(pc)
    if mapping is not None and mapping.perms[2:3] == "x":
        return None  # code: it is an access, or the page could not be read
    evidence = [f"rip and si_addr are both {pc:#x}"]
    caller = called_from(case)
    pattern = pattern_words(case, pc)
    if pattern:
        evidence.append(pattern)
    if caller is not None:
        came = f" It was called by {caller.place}."
        next_ = "look which function pointer or virtual table that call uses, and who overwrote it"
        evidence.append(f"the return address {caller.address:#x} is on top of the stack")
    elif returned_to(case, pc):
        came = " A return took this address from the stack: the return address was overwritten."
        next_ = "look for an overrun of a local array in the function that returned"
        evidence.append("the word below the stack pointer is this address")
    else:
        came = ""
        next_ = "look for an overwritten function pointer or return address"
    if what is None:
        return Origin(
            FAULT,
            "wild-jump",
            f"Jump to an address where nothing is mapped, {pc:#x}.{came}",
            f"jump to the unmapped address {pc:#x}",
            tuple(evidence),
            next_ + "; a library that was unloaded (dlclose) leaves such pointers too",
        )
    name = case.place(pc)
    named = f"{name} in {what}" if name else what
    return Origin(
        FAULT,
        "execute-data",
        f"Execution of data: the processor was to execute {named}, which holds no code.{came}",
        f"execution of data ({named})",
        tuple(evidence),
        next_,
    )
