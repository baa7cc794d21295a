"""SIGSYS: system calls that a seccomp filter, or user dispatch, refused."""

from __future__ import annotations

from faultkit.signals.case import Case
from faultkit.signals.model import KERNEL, SECCOMP
from faultkit.signals.names import SIGSYS
from faultkit.signals.origins import Origin
from faultkit.signals.siginfo import SYSTEM_CALL
from faultkit.syscalls import syscall_name

SIGNALS = frozenset((SIGSYS,))
PRIORITY = 20
SYS_SECCOMP, SYS_USER_DISPATCH = 1, 2
X86_64, I386 = 0xC000003E, 0x40000003  # include/uapi/linux/audit.h
X32 = 0x40000000


def explain(case: Case) -> Origin | None:
    """A SIGSYS with the refused call: force_sig_seccomp() in kernel/signal.c."""
    info = case.info
    if info.layout != SYSTEM_CALL or info.nr is None:
        return None
    name, kind = _call(info.nr, info.arch)
    place = case.own_place()
    by = f" by {place}" if place else ""
    at = f"si_call_addr is {info.call_address or 0:#x}"
    arguments = _arguments(case)
    if info.code == SYS_USER_DISPATCH:
        return Origin(
            KERNEL,
            "user-dispatch",
            f"The system call {name}{by} was caught by syscall user dispatch (prctl "
            "PR_SET_SYSCALL_USER_DISPATCH), as emulators like Wine use it.",
            f"{name}() caught by user dispatch",
            (at,),
        )
    fatal = ""
    if case.process.kind == "core" and case.innermost:
        fatal = (
            " The rule was SECCOMP_RET_KILL_PROCESS or _KILL_THREAD, or SECCOMP_RET_TRAP without "
            "a handler."
        )
    rule = _rule(case)
    return Origin(
        SECCOMP,
        "seccomp",
        f"A seccomp filter refused the system call {name} (number {info.nr}{kind}){by}. The rule "
        f"that did so returned the data {info.errno} (SECCOMP_RET_DATA){rule}.{fatal}",
        f"seccomp refused {name}()",
        (at, f"si_errno, the rule's own number, is {info.errno}", *arguments),
        f"look in the filter (the service's SystemCallFilter=, the container's profile, or the "
        f"program's own) for {name}; `ausearch -m SECCOMP` and dmesg have a line for killed ones",
    )


def _rule(case: Case) -> str:
    """Which instruction of which of the process's filters it was, where they can be read; the
    strictest verdict counts, of equal ones the newest filter's (seccomp_run_filters)."""
    from faultkit.signals.bpf import ACTIONS, run, seccomp_data

    info = case.info
    registers = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
    if any(name not in case.registers for name in registers):
        return ""
    data = seccomp_data(
        info.nr or 0,
        info.arch or 0,
        info.call_address or 0,
        [case.registers[name] for name in registers],
    )
    filters = case.process.seccomp_filters(case.task)
    verdicts = [(run(one, data), number) for number, one in enumerate(filters, 1)]
    known = [(verdict, number) for verdict, number in verdicts if verdict is not None]
    if not known:
        return ""
    order = list(ACTIONS.values())
    verdict, number = min(known, key=lambda one: order.index(one[0].action))
    if verdict.data != info.errno:
        return ""
    return (
        f": {verdict.action}, by instruction {verdict.instruction} of filter {number} of "
        f"{len(filters)}, the newest first"
    )


def _call(nr: int, arch: int | None) -> tuple[str, str]:
    """The call's name, and what to say of its architecture."""
    if arch == X86_64:
        return syscall_name(nr & ~X32), ", of the x32 ABI" if nr & X32 else ""
    if arch == I386:
        return f"number {nr} of 32-bit x86", ", by int $0x80 or from 32-bit code"
    return f"number {nr}", f", architecture {arch or 0:#x}"


def _arguments(case: Case) -> tuple[str, ...]:
    names = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
    values = [f"{name} {case.registers[name]:#x}" for name in names if name in case.registers]
    return ("arguments: " + ", ".join(values),) if values else ()
