"""Accesses through a null pointer, and through what was calculated from one."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.model import INFERRED, PROVEN
from faultkit.signals.case import Case
from faultkit.signals.model import FAULT
from faultkit.signals.names import SIGSEGV
from faultkit.signals.origins import Origin
from faultkit.signals.origins._calls import called_from
from faultkit.signals.origins._words import access_words
from faultkit.signals.own import in_heap, is_own, library_call
from faultkit.signals.siginfo import FAULTED
from faultkit.target import Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.code.operands import Access

SIGNALS = frozenset((SIGSEGV,))
PRIORITY = 20
MAPERR, ACCERR = 1, 2
NEAR = 1 << 16  # bytes around 0 that nobody may map: vm.mmap_min_addr
ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
BLOCKS = ("mem", "str", "stp", "wcs", "wmem")  # functions that have no data of their own
FAR = 1 << 32  # an index seldom leads further
SMALL = 1 << 12  # a pointer below that is one to a member of a null structure


def explain(case: Case) -> Origin | None:
    """An access near address 0, or anywhere from a register that is 0."""
    info = case.info
    if info.layout != FAULTED or info.address is None or info.code not in (MAPERR, ACCERR):
        return None
    address = info.address
    pc = case.registers.get("rip")
    if pc is not None and pc == address and pc < NEAR:
        return _call(case, pc)
    near = address < NEAR or address >= (1 << 64) - NEAR
    access = case.access
    base = case.registers.get(access.base, -1) if access and access.base else -1
    if not near and not (base == 0 and access and _is_pointer(access, address)):
        return _indexed(case, address)
    offset = address - (1 << 64) if address >> 63 else address
    pointer = base if 0 <= base < SMALL else 0
    text = access_words(case, access)
    function = library_call(case.frames)
    members = () if function else _members(case, pointer, offset - pointer)
    if base > 0 and not members and pointer and not function:  # a member's address
        members, pointer = _members(case, 0, offset), 0
    what, brief, confidence = _member_words(members, pointer, offset - pointer)
    place = case.own_place()
    if function and in_heap(case.frames):
        what = (
            f"{function}(){f', called by {place},' if place else ''} came upon it in what it keeps "
            "of the heap, which is corrupted: an overrun or a use after free came before"
        )
        brief, confidence = f"corrupted heap: null pointer inside {function}()", INFERRED
    elif function and place and not _was_given(case, function, address):
        what = (
            f"{function}(), called by {place}, came upon it: in what it was given, as no argument "
            "of its own is null, or in data of the library's"
        )
        brief = f"null pointer inside {function}()"
    elif function and place:
        what = f"{function}() was given a null pointer by {place}"
        brief = f"null pointer given to {function}()"
    if len(members) > 1:
        brief = f"null pointer: {brief}"
    elif not brief:
        brief = f"null pointer, {text}" if access else "null pointer"
    null = "Null pointer" if offset == 0 else "Near-null pointer"
    if function or what:
        said = f"{null}: {text}; {what}."
    else:
        said = f"{null}: {text}."
        if offset:
            said = f"{null}: {text}, that is {_offset_words(offset)} from address 0."
    return Origin(
        FAULT,
        "null-pointer" if offset == 0 else "near-null-pointer",
        said,
        brief,
        _evidence(case, address),
        _next(case, members, place, pointer),
        confidence,
    )


def _is_pointer(access: Access, address: int) -> bool:
    """Whether the base register of an operand that leads far from 0 was the pointer in it: where
    there are two registers, the other one may be, and no object is so large that it reaches into
    the kernel's half, or so far down."""
    if address >> 47:
        return False
    return access.base not in ("rsp", "rbp") and (access.scaled is None or address < FAR)


def _was_given(case: Case, function: str, address: int) -> bool:
    """Whether a null pointer may have been among the arguments of the library's function: unless
    its caller's code shows that none was."""
    if function.startswith(BLOCKS):
        return True
    from faultkit.code.x86 import call_before

    own = next((frame for frame in case.frames if is_own(frame)), None)
    steps = case.code.unwind(case.registers)
    at = next((n for n, step in enumerate(steps) if own and step.pc == own.address), 0)
    call = call_before(case.process.read, steps[at].pc) if at else None
    if call is None:
        return True
    values = [case.code.argument(steps, at, call.address, name) for name in ARGUMENTS]
    known = [value.value for value in values if value is not None]
    return not known or 0 in known or address in known


def _call(case: Case, pc: int) -> Origin:
    caller = called_from(case)
    who = f" by {caller.place}" if caller is not None else ""
    where = "0" if not pc else f"{pc:#x}"
    evidence = [f"rip is {pc:#x}"]
    if caller is not None:
        evidence.append(f"the return address {caller.address:#x} is on top of the stack")
    return Origin(
        FAULT,
        "null-call",
        f"A null function pointer was called{who}: the processor was to execute code at address "
        f"{where}.",
        f"null function pointer called{who}",
        tuple(evidence),
        "look which function pointer, virtual table or callback is not set there",
    )


def _indexed(case: Case, address: int) -> Origin | None:
    """An element far behind a null pointer that the source line indexes."""
    if address >> 32:
        return None
    members = _members(case, 0, address)
    if not members or not members[0].member.startswith("["):
        return None
    first = members[0]
    return Origin(
        FAULT,
        "null-pointer",
        f"Null pointer: {access_words(case, case.access)}, which is {first.pointer}"
        f"{first.member}; {first.pointer} is null.",
        f"{first.pointer} is null ({first.pointer}{first.member})",
        _evidence(case, address),
        _next(case, members, case.own_place()),
        INFERRED,
    )


def _members(case: Case, pointer: int, offset: int) -> Sequence[Member]:
    if offset < 0:
        return ()
    pc = None if case.innermost else case.registers.get("rip")
    return case.process.members(case.task, pointer, offset, pc)


def _member_words(members: Sequence[Member], pointer: int, offset: int) -> tuple[str, str, str]:
    """What is null, or as near to it as `pointer` is, and which member was wanted: in a sentence,
    in few words, and how sure."""
    if not members:
        return "", "", PROVEN
    first = members[0]
    if len(members) > 1:
        named = [f"{one.pointer}->{one.member}" if one.member else one.pointer for one in members]
        fits = " or ".join(named[:3])
        value = f"{pointer:#x}" if pointer else "null"
        return f"these pointers in scope are {value}, and fit: {', '.join(named)}", fits, INFERRED
    what = brief = f"{first.pointer} is {pointer:#x}" if pointer else f"{first.pointer} is null"
    if first.member.startswith("_vptr"):
        what += f": a virtual function was to be called, by the table of that {first.type}"
        brief += " (virtual call)"
    elif first.member:
        what += f", and its member {first.member} ({first.type}) is at offset {offset:#x}"
        brief += f" (its member {first.member})"
    return what, brief, PROVEN


def _offset_words(offset: int) -> str:
    return f"{offset:#x} bytes" if offset >= 0 else f"{-offset:#x} bytes down"


def _evidence(case: Case, address: int) -> tuple[str, ...]:
    pc = case.registers.get("rip")
    found = [f"si_addr is {address:#x}"]
    if pc is not None:
        found.append(f"the instruction is at {case.place(pc) or hex(pc)}")
    return tuple(found)


def _next(case: Case, members: Sequence[Member], place: str | None, pointer: int = 0) -> str:
    where = f" in {place}" if place else ""
    if len(members) == 1:
        return f"look why {members[0].pointer} is {f'{pointer:#x}' if pointer else 'null'}{where}"
    return f"look which pointer is null{where}"
