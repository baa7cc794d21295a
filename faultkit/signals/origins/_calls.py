"""Who called, or jumped to, an address where there is no code."""

from __future__ import annotations

from faultkit.record import NamedTuple
from faultkit.signals.case import Case


class Caller(NamedTuple):
    """The call: `address` is where it would return to, `place` its function in words."""

    address: int
    place: str


def called_from(case: Case) -> Caller | None:
    """The call whose return address is on top of the stack, None if there is none."""
    from faultkit.code.x86 import call_before

    back = case.word(case.registers.get("rsp", 0))
    if back is None:
        return None
    mapping = case.mapping(back)
    if mapping is None or mapping.perms[2:3] not in ("", "x"):
        return None
    if call_before(case.process.read, back) is None:
        return None
    line = case.process.line(back - 1)
    place = case.place(back - 1) or f"{back:#x}"
    if line is not None and line.file and line.line:
        place = f"{place.partition('+')[0]} at {line.file.rpartition('/')[2]}:{line.line}"
    return Caller(back, place)


def returned_to(case: Case, pc: int) -> bool:
    """Whether a `ret` has just taken `pc` from the stack: it lies right below its top."""
    return case.word(case.registers.get("rsp", 0) - 8) == pc
