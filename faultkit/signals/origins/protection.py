"""Accesses that a mapping, a protection key or the shadow stack does not permit."""

from __future__ import annotations

from faultkit.model import INFERRED, PROVEN
from faultkit.signals.case import Case
from faultkit.signals.model import FAULT
from faultkit.signals.names import SIGSEGV
from faultkit.signals.origins import Origin
from faultkit.signals.origins._calls import called_from
from faultkit.signals.origins._words import access_words, mapping_words
from faultkit.signals.siginfo import BNDERR, FAULTED, PKUERR
from faultkit.target import PAGE, ReadError

SIGNALS = frozenset((SIGSEGV,))
PRIORITY = 40
ACCERR, CPERR = 2, 10
NEAR_END = 256  # bytes behind the end of a mapping
TEXT_SHOWN = 40  # characters of a constant that is written to


def explain(case: Case) -> Origin | None:
    """A fault with one of the codes that are about permission."""
    info = case.info
    if info.layout != FAULTED or info.address is None:
        return None
    if info.code == PKUERR:
        return _protection_key(case, info.address)
    if info.code == CPERR:
        return _shadow_stack(case)
    if info.code == BNDERR and info.lower is not None and info.upper is not None:
        return Origin(
            FAULT,
            "bounds",
            f"Bound check: the address is outside of {info.lower:#x}-{info.upper:#x}.",
            "failed bound check",
        )
    return _access(case, info.address) if info.code == ACCERR else None


def _access(case: Case, address: int) -> Origin | None:
    if case.registers.get("rip") == address:
        return None  # see jump.py
    mapping = case.mapping(address)
    if mapping is None:
        return None
    perms = mapping.perms[:3]
    what = mapping_words(case, address) or ""
    access = case.access
    words = access_words(case, access)
    evidence = (f"si_addr is {address:#x}", f"mapped there: {what}")
    ran_over = _overrun(case, address)
    if ran_over:
        return Origin(
            FAULT,
            "overrun",
            f"Overrun: {words} ran over the end of {ran_over}, into {what}.",
            f"overrun of {ran_over}",
            evidence,
            "look at the loop or copy there, and at the size of the buffer that ends at "
            f"{address & -PAGE:#x}",
        )
    if perms == "---":
        return Origin(
            FAULT,
            "no-access",
            f"Access to memory that nobody may touch: {words} hit {what}, which is a guard, "
            "memory reserved but not used, or protected by mprotect(PROT_NONE).",
            f"access to memory that is protected ({what})",
            evidence,
            "look for an overrun of the buffer beside it, and for a use after it was protected",
        )
    writes = access is not None and access.mode == "write"
    if perms[1:2] == "-" and (writes or access is None):
        name = case.place(address)
        named = f"{name} in {what}" if name and mapping.path and "+0x" not in name else what
        text = _text_at(case, address)
        constant = f', the constant "{text}"' if text and mapping.path else ""
        return Origin(
            FAULT,
            "write-to-read-only",
            f"Write to read-only memory: {words} hit {named}{constant}.",
            f"write to read-only memory ({named}{constant})",
            evidence,
            "look for a string literal or const object that is changed"
            if mapping.path
            else "look who has made it read-only (mprotect()), and for an overrun of what lies "
            "before it",
            PROVEN if writes else INFERRED,
        )
    return Origin(
        FAULT,
        "not-permitted",
        f"The mapping did not permit the access: {words} hit {what}. Its permissions as seen now "
        "allow it, so they were changed since, or a guard lies inside it.",
        f"access that {what} did not permit",
        evidence,
        "look for mprotect() by another thread",
    )


def _overrun(case: Case, address: int) -> str:
    """The mapping that a register of the operand still points into, and that ends where the
    address lies; "" if there is none."""
    access = case.access
    below = case.mapping((address & -PAGE) - 1)
    if access is None or below is None or below.perms[1:2] != "w" or address % PAGE >= NEAR_END:
        return ""
    base = case.registers.get(access.base, 0) if access.base else 0
    if not below.start <= base < below.end or access.stack or access.base in ("rsp", "rbp"):
        return ""
    return mapping_words(case, below.start) or ""


def _text_at(case: Case, address: int) -> str:
    for size in (TEXT_SHOWN, 8, 1):
        try:
            data = case.process.read(address, size)
        except ReadError:
            continue
        text = data.split(b"\0")[0]
        if len(text) >= 2 and all(0x20 <= byte < 0x7F for byte in text):
            return text.decode("ascii")
        return ""
    return ""


def _protection_key(case: Case, address: int) -> Origin:
    key = case.info.pkey
    rights = case.registers.get("pkru")
    words = access_words(case, case.access)
    said = ""
    if rights is not None and key is not None and 0 <= key < 16:
        bits = rights >> 2 * key & 3
        said = {0: "", 1: " forbids any access", 2: " forbids writes", 3: " forbids any access"}[
            bits
        ]
        said = f" PKRU{said} with this key." if said else ""
    return Origin(
        FAULT,
        "protection-key",
        f"Protection key {key}: {words} hit {mapping_words(case, address) or hex(address)}, whose "
        f"key this thread's rights do not permit.{said}",
        f"memory with protection key {key}",
        (f"si_pkey is {key}",) + ((f"PKRU is {rights:#x}",) if rights is not None and said else ()),
        "look where pkey_set() or WRPKRU gives the rights, and whether this thread came past it",
    )


def _shadow_stack(case: Case) -> Origin:
    instruction = case.instruction
    kind = instruction.kind if instruction is not None else None
    top = case.word(case.registers.get("rsp", 0))
    target = f" to {case.place(top) or hex(top)}" if top is not None and kind == "ret" else ""
    caller = called_from(case)
    what = "a return" + target + " that the shadow stack does not know"
    if kind in ("call", "jmp"):
        what = "an indirect branch to a place without ENDBR64"
    return Origin(
        FAULT,
        "shadow-stack",
        f"Control protection: {what}. The return address on the stack was overwritten, or the "
        "program switches stacks without telling the processor.",
        "the shadow stack and the stack disagree",
        () if caller is None else (f"on top of the stack: {caller.place}",),
        "look for an overrun of a local array; of coroutines, whether they support shadow stacks",
    )
