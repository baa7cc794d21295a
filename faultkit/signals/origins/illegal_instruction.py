"""SIGILL: instructions that are to crash the program, damaged code, and code that is none."""

from __future__ import annotations

from faultkit.signals.case import Case
from faultkit.signals.model import FAULT
from faultkit.signals.names import SIGILL
from faultkit.signals.origins import Origin
from faultkit.signals.origins._file_code import file_bytes
from faultkit.signals.origins._words import mapping_words
from faultkit.signals.siginfo import FAULTED
from faultkit.target import ReadError

SIGNALS = frozenset((SIGILL,))
PRIORITY = 20
WINDOW = 32  # bytes of code around rip that are compared with the file
UD2, UD1 = b"\x0f\x0b", b"\x0f\xb9"


def explain(case: Case) -> Origin | None:
    """A SIGILL by the processor."""
    if case.info.layout != FAULTED:
        return None
    pc = case.registers.get("rip")
    if pc is None:
        return None
    code = case.bytes_at_pc
    place = case.place(pc) or f"{pc:#x}"
    own = case.own_place()
    where = own or place
    shown = f"the bytes at {place}: {code[:8].hex(' ')}"
    damaged = _damage(case, pc)
    if damaged is not None:
        return Origin(
            FAULT,
            "corrupted-text",
            f"Corrupted code: the bytes at {place} are not those of the file: they differ in "
            f"{damaged}.",
            f"corrupted code at {place}",
            (shown,),
            "look who writes to code (mprotect, patching, a debugger's breakpoint left behind); "
            "if nobody does, test the memory: mcelog, memtest",
        )
    mapping = case.mapping(pc)
    what = mapping_words(case, pc) or "memory"
    if code[:2] == UD2 or code[:2] == UD1 or code[1:3] == UD1:
        by = ""
        if UD1 in (code[:2], code[1:3]):
            by = ", as -fsanitize-trap and UBSan place it"
        return Origin(
            FAULT,
            "deliberate-trap",
            f"Deliberate crash: {where} ran into {'ud2' if code[:2] == UD2 else 'ud1'}, an "
            "instruction that compilers place where code must never get to: __builtin_trap(), "
            f"__builtin_unreachable(), a missing return, a failed check, Rust's abort{by}.",
            f"deliberate trap ({'ud2' if code[:2] == UD2 else 'ud1'}) in {where}",
            (shown, *(("the code is as in the file",) if file_bytes(case, pc, 1) else ())),
            "look which check or unreachable branch is there",
        )
    if mapping is None or not mapping.path.startswith("/"):
        return Origin(
            FAULT,
            "jump-into-data",
            f"The processor was to execute {what} at {place}, whose bytes are no instruction: a "
            "jump went wrong, or generated code is broken.",
            f"no instruction at {place}",
            (shown,),
            "look who jumped there: the top of the stack, and function pointers",
        )
    middle = _in_the_middle(case, pc)
    if middle is not None:
        return Origin(
            FAULT,
            "jump-into-the-middle",
            f"A jump went into the middle of an instruction: {place} lies inside the one at "
            f"{middle:#x}.",
            f"jump into the middle of an instruction at {place}",
            (shown, "the code is as in the file"),
            "look for a damaged function pointer or return address",
        )
    known = case.encoding is not None
    return Origin(
        FAULT,
        "unknown-instruction",
        f"{where} executes an instruction that this processor does not know"
        + (": it was compiled for another one (-march), or the virtual machine hides it."
           if known else ", and its bytes are none that is defined."),
        f"instruction that the processor does not know in {where}",
        (shown, "the code is as in the file"),
        "compare lscpu's flags with what the program was compiled for",
    )  # fmt: skip


def _damage(case: Case, pc: int) -> str | None:
    """How the code around rip differs from its file; None if it does not, or it can't be told."""
    start = pc - WINDOW
    original = file_bytes(case, start, 2 * WINDOW)
    if original is None:
        start, original = pc, file_bytes(case, pc, 8)
    if original is None:
        return None
    try:
        now = case.process.read(start, len(original))
    except ReadError:
        return None
    differ = [at for at, (a, b) in enumerate(zip(now, original)) if a != b]
    if not differ:
        return None
    first = differ[0]
    bits = sum(bin(now[at] ^ original[at]).count("1") for at in differ)
    flipped = ", a single bit: likely a memory error" if bits == 1 else ""
    there, here = original[first : first + 8].hex(" "), now[first : first + 8].hex(" ")
    count = f"{len(differ)} byte" + ("s" if len(differ) > 1 else "")
    return f"{count} from {start + first:#x} on{flipped}; file {there}, memory {here}"


def _in_the_middle(case: Case, pc: int) -> int | None:
    """The address of the instruction that `pc` lies inside of, None if it begins one."""
    for instruction in case.code.instructions(pc):
        if instruction.address == pc:
            return None
        if instruction.address < pc < instruction.end:
            return instruction.address
    return None
