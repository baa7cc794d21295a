"""The system call in which a signal came, by the registers."""

from __future__ import annotations

from faultkit.record import NamedTuple
from faultkit.signals.case import Case
from faultkit.syscalls import syscall_name
from faultkit.target import ReadError

ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
MASK = (1 << 64) - 1
SYSCALL = b"\x0f\x05"


class Call(NamedTuple):
    """A system call: `nr` is -1 where it is not known, as signal frames do not keep it."""

    nr: int
    name: str
    arguments: tuple[int, ...]
    result: int | None


def last_call(case: Case) -> Call | None:
    """The call that the task was in, or has just come back from, None if it was in none.

    orig_rax is the call's number while its registers are those at its end; rax then holds the
    result (arch/x86/entry/entry_64.S)."""
    registers = case.registers
    pc = registers.get("rip")
    if pc is None or any(name not in registers for name in ARGUMENTS):
        return None
    number = registers.get("orig_rax", -1)
    if number >> 63 and "orig_rax" in registers:
        return None
    try:
        if case.process.read(pc - 2, 2) != SYSCALL:
            return None
    except ReadError:
        pass
    result = registers.get("rax")
    return Call(
        number,
        syscall_name(number) if number >= 0 else "a system call",
        tuple(registers[name] for name in ARGUMENTS),
        None if result is None else result - (1 << 64) if result >> 63 else result,
    )


def signed32(value: int) -> int:
    """The low half as a C int."""
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low
