"""The system call in which a signal came, by the registers."""

from __future__ import annotations

from faultkit.record import NamedTuple
from faultkit.signals.case import Case
from faultkit.syscalls import syscall_name
from faultkit.target import ReadError

ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
MASK = (1 << 64) - 1
SYSCALL = b"\x0f\x05"
MOV_EAX = 0xB8  # mov $number, %eax


class Call(NamedTuple):
    """A system call: `nr` is -1 where it is not known: signal frames do not keep it, and the code
    may have it from elsewhere."""

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
    number = registers.get("orig_rax")
    if number is not None and number >> 63:
        return None
    try:
        if case.process.read(pc - 2, 2) != SYSCALL:
            return None
    except ReadError:
        pass
    if number is None:
        number = _number_in_code(case, pc)
    result = registers.get("rax")
    return Call(
        number,
        syscall_name(number) if number >= 0 else "a system call",
        tuple(registers[name] for name in ARGUMENTS),
        None if result is None else result - (1 << 64) if result >> 63 else result,
    )


def _number_in_code(case: Case, pc: int) -> int:
    """The call's number by the instruction before the `syscall` that ends at `pc`, -1 if it has
    none."""
    try:
        code = case.process.read(pc - 7, 7)
    except ReadError:
        return -1
    if code[0] != MOV_EAX or code[5:] != SYSCALL:
        return -1
    return int.from_bytes(code[1:5], "little")


def signed32(value: int) -> int:
    """The low half as a C int."""
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low
