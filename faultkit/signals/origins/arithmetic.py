"""SIGFPE: integer divisions, and floating-point exceptions that the program asked for."""

from __future__ import annotations

from faultkit.code.encoding import Memory
from faultkit.signals.case import Case
from faultkit.signals.model import FAULT
from faultkit.signals.names import SIGFPE, code_words
from faultkit.signals.origins import Origin
from faultkit.signals.siginfo import FAULTED
from faultkit.target import FaultkitError

SIGNALS = frozenset((SIGFPE,))
PRIORITY = 20
INTDIV = 1
DIV, IDIV = 6, 7  # of opcodes F6 and F7, by the register field
_MXCSR = ("invalid operation", "denormal operand", "division by zero", "overflow", "underflow",
          "inexact result")  # fmt: skip


def explain(case: Case) -> Origin | None:
    """A SIGFPE by the processor."""
    if case.info.layout != FAULTED:
        return None
    place = case.own_place()
    where = f" in {place}" if place else ""
    if case.info.code == INTDIV:
        return _division(case, where)
    mxcsr = case.registers.get("mxcsr")
    flags = ""
    if mxcsr is not None:
        raised = [word for bit, word in enumerate(_MXCSR) if mxcsr >> bit & 1]
        unmasked = [word for bit, word in enumerate(_MXCSR) if not mxcsr >> 7 + bit & 1]
        flags = f"MXCSR is {mxcsr:#x}: raised {', '.join(raised) or 'nothing'}; trapping on " + (
            ", ".join(unmasked) or "nothing"
        )
    kind = code_words(SIGFPE, case.info.code) or "floating-point exception"
    return Origin(
        FAULT,
        "floating-point",
        f"Floating-point exception{where}: {kind}. It is a signal only as the program asked for "
        "it, by feenableexcept() or MXCSR.",
        kind + where,
        (flags,) if flags else (),
        "look at the operands: info all-registers",
    )


def _division(case: Case, where: str) -> Origin:
    operands = _operands(case)
    if operands is None:
        return Origin(
            FAULT,
            "division",
            f"Integer division{where}: the divisor was 0, or the quotient too large.",
            "integer division" + where,
        )
    divisor, dividend, bits, signed, name = operands
    evidence = (f"the divisor, {name}, is {divisor}", f"the dividend is {dividend}")
    if divisor is None:
        most = (1 << bits - signed) - 1
        if not (-most if signed else 0) <= dividend <= most:
            return Origin(
                FAULT,
                "division",
                f"Integer division{where}: {dividend} was divided by {name}, which can't be read: "
                "it was 0, or too small for that.",
                "integer division" + where,
            )
        divisor = 0
        evidence = (
            f"the divisor, {name}, can't be read; by any number but 0 the quotient would fit",
            evidence[1],
        )
    if divisor == 0:
        return Origin(
            FAULT,
            "division-by-zero",
            f"Integer division by zero{where}: {dividend} / 0; the divisor is {name}.",
            "integer division by zero" + where,
            evidence,
            "look where the divisor comes from",
        )
    smallest = signed and divisor == -1 and dividend == -(1 << bits - 1)
    return Origin(
        FAULT,
        "division-overflow",
        f"Integer division{where}: the quotient of {dividend} / {divisor} does not fit into "
        f"{bits} bits" + (": the smallest number divided by -1." if smallest else "."),
        ("smallest integer divided by -1" if smallest else "quotient too large") + where,
        evidence,
        "check for this pair of numbers before dividing",
    )


def divides(case: Case) -> bool:
    """Whether the instruction at rip is an integer division."""
    parts = case.encoding
    return (
        parts is not None
        and not parts.table
        and parts.opcode in (0xF6, 0xF7)
        and parts.register & 7 in (DIV, IDIV)
    )


def _operands(case: Case) -> tuple[int | None, int, int, bool, str] | None:
    """(divisor, dividend, bits, signed, the divisor's operand) of div and idiv at rip; a divisor in
    memory that can't be read is None."""
    parts, registers = case.encoding, case.registers
    if parts is None or not divides(case):
        return None
    signed = parts.register & 7 == IDIV
    size = 1 if parts.opcode == 0xF6 else parts.width
    bits = 8 * size
    divisor: int | None
    if isinstance(parts.operand, Memory):
        access = case.accesses[0] if case.accesses else None
        if access is None or access.address is None:
            return None
        try:
            divisor = int.from_bytes(case.process.read(access.address, size), "little")
        except FaultkitError:  # a variable that was never written to may be left out of a core
            divisor = None
        name = access.operand
    else:
        name = str(parts.operand)
        high_byte = size == 1 and not parts.rex and 4 <= parts.rm < 8
        if high_byte:
            name = ("rax", "rcx", "rdx", "rbx")[parts.rm & 3]
        if name not in registers:
            return None
        divisor = registers[name] >> 8 * high_byte & (1 << bits) - 1
        name = f"{name}'s second byte" if high_byte else name
    low, high = registers.get("rax"), registers.get("rdx")
    if low is None or high is None:
        return None
    mask = (1 << bits) - 1
    dividend = low & 0xFFFF if size == 1 else (high & mask) << bits | low & mask
    if signed:
        divisor = None if divisor is None else _signed(divisor, bits)
        dividend = _signed(dividend, 2 * bits)
    return divisor, dividend, bits, signed, name


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value
