"""SIGTRAP: breakpoints, with and without a debugger."""

from __future__ import annotations

from faultkit.signals.case import Case
from faultkit.signals.model import DEBUGGER, FAULT
from faultkit.signals.names import SI_KERNEL, SIGTRAP
from faultkit.signals.origins import Origin
from faultkit.signals.origins._file_code import file_bytes
from faultkit.target import ReadError

SIGNALS = frozenset((SIGTRAP,))
PRIORITY = 20
INT3, INT1 = 0xCC, 0xF1
BRKPT, TRACE, HWBKPT, PERF = 1, 2, 4, 6


def explain(case: Case) -> Origin | None:
    """A SIGTRAP by the processor, or for the debugger."""
    code = case.info.code
    if code > 0 and code & 0x7F == SIGTRAP:  # 0x80: at a system call (PTRACE_O_TRACESYSGOOD)
        return Origin(DEBUGGER, "debugger-event", "A stop for the debugger, no signal of the "
                      "program's.", "a stop for the debugger")  # fmt: skip
    if code == TRACE:
        return Origin(
            FAULT if case.process.kind == "core" else DEBUGGER,
            "single-step",
            "A single step: the trap flag is set in EFLAGS"
            + (", by the program itself, or by a debugger that went away."
               if case.process.kind == "core" else ", by the debugger."),
            "single step",
            (f"eflags is {case.registers.get('eflags', 0):#x}",),
        )  # fmt: skip
    if code == HWBKPT:
        return Origin(DEBUGGER, "hardware-breakpoint", "A hardware breakpoint or watchpoint hit.",
                      "hardware breakpoint")  # fmt: skip
    if code == PERF:
        return Origin(FAULT, "perf-event", "A perf event that was opened with sigtrap.",
                      "perf event")  # fmt: skip
    if code not in (SI_KERNEL, BRKPT):
        return None
    pc = case.registers.get("rip", 0)
    before = _byte(case, pc - 1)
    if before not in (INT3, INT1) and not case.process.live:
        return None
    at = pc - 1 if before in (INT3, INT1) else pc
    place = case.place(at) or f"{at:#x}"
    own = _own_code(case, at)
    if case.process.live and own is not True:
        return Origin(DEBUGGER, "breakpoint", f"A breakpoint at {place}: the debugger's, or one "
                      "of the program's own.", f"breakpoint at {place}")  # fmt: skip
    whose = 'It is part of the program (an assertion, __debugbreak, asm("int3"))'
    if own is False:
        whose = "The file has another byte there: a debugger or tracer left its breakpoint behind"
    name = "int3" if before == INT3 else "int1"
    return Origin(
        FAULT,
        "breakpoint",
        f"Breakpoint without a debugger: {place} executed {name}, and nobody traces the process. "
        f"{whose}.",
        f"breakpoint without a debugger in {case.own_place() or place}",
        (f"the byte before rip is {before:#04x}",) if before is not None else (),
        "look what the program wants to stop for there"
        if own is not False
        else "look for tracers (gdb, uprobes, SystemTap) that ended without cleaning up",
    )


def _byte(case: Case, address: int) -> int | None:
    try:
        return case.process.read(address, 1)[0]
    except ReadError:
        return None


def _own_code(case: Case, address: int) -> bool | None:
    """Whether the mapped file has that breakpoint too; None if it can't be told."""
    data = file_bytes(case, address, 1)
    return None if data is None else data[0] in (INT3, INT1)
