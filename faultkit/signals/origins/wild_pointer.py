"""Accesses to addresses where nothing is mapped."""

from __future__ import annotations

from faultkit.signals.case import Case
from faultkit.signals.model import FAULT
from faultkit.signals.names import SIGSEGV
from faultkit.signals.origins import Origin
from faultkit.signals.origins._words import access_words, near_words, pattern_words
from faultkit.signals.own import library_call
from faultkit.signals.siginfo import FAULTED

SIGNALS = frozenset((SIGSEGV,))
PRIORITY = 80


def explain(case: Case) -> Origin | None:
    """Any other fault with an address."""
    info = case.info
    if info.layout != FAULTED or info.address is None:
        return None
    address, access = info.address, case.access
    evidence = [f"si_addr is {address:#x}"]
    pc = case.registers.get("rip")
    if pc is not None:
        evidence.append(f"the instruction is at {case.place(pc) or hex(pc)}")
    words = access_words(case, access)
    base = case.registers.get(access.base, 0) if access is not None and access.base else address
    pattern = pattern_words(case, base) or pattern_words(case, address)
    near = near_words(case, address)
    if address >> 47:
        where = f"{address:#x}, an address of the kernel's"
    else:
        where = f"{address:#x}, where nothing is mapped"
    if case.mapping(address) is not None:
        where = f"{address:#x}, which is mapped now, but was not at the fault"
    called = library_call(case.frames)
    place = case.own_place()
    by = f" in {called}(), called by {place}" if called and place else ""
    extra = "; ".join(word for word in (near, pattern) if word)
    return Origin(
        FAULT,
        "overrun" if near.endswith("overrun") else "bad-pointer",
        f"Bad pointer: {words}{by} hit {where}{': ' + extra if extra else ''}.",
        f"bad pointer, {words}" if access is not None else f"bad pointer {address:#x}",
        tuple(evidence),
        "look who made this pointer: use after free or munmap(), an overrun that overwrote it, or "
        "it was never set",
    )
