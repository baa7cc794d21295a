"""What the processor refuses without an address: SI_KERNEL, si_addr 0, which is no null pointer.

A general protection fault (exc_general_protection in arch/x86/kernel/traps.c) and, of addresses
that are calculated with rsp or rbp, a stack-segment fault (SIGBUS) give no address: it is the
instruction's operand that tells it.
"""

from __future__ import annotations

from faultkit.model import INFERRED
from faultkit.signals.case import Case
from faultkit.signals.model import FAULT, KERNEL
from faultkit.signals.names import SI_KERNEL, SIGBUS, SIGSEGV, signal_name
from faultkit.signals.origins import Origin
from faultkit.signals.origins._calls_made import Call, last_call
from faultkit.signals.origins._words import access_words, pattern_words

SIGNALS = frozenset((SIGSEGV, SIGBUS))
PRIORITY = 15
RT_SIGRETURN = 15


def explain(case: Case) -> Origin | None:
    """A fault with SI_KERNEL: by the operands, the kind of instruction, or the stack."""
    if case.info.code != SI_KERNEL or not case.registers:
        return None
    if "orig_rax" in case.registers and (call := last_call(case)) is not None:
        return _signal_frame(case) or _in_a_call(case, call)
    return (
        _operand(case)
        or _branch(case)
        or _privileged(case)
        or _misaligned(case)
        or _signal_frame(case)
        or Origin(
            KERNEL,
            "general-protection",
            f"{signal_name(case.info.number)} by the kernel, without an address: the processor "
            "refused the instruction, or the kernel could not go on with this process. The "
            "operands that can be seen are in order.",
            "general protection fault",
            (f"the instruction is at {_place(case)}",),
            "look at the instruction: x/i $pc",
            INFERRED,
        )
    )


def _in_a_call(case: Case, call: Call) -> Origin:
    """The kernel's own, as every fault of an instruction makes orig_rax -1
    (arch/x86/entry/entry_64.S)."""
    name = signal_name(case.info.number)
    return Origin(
        KERNEL,
        "in-system-call",
        f"{name} by the kernel during {call.name}(), and not by an instruction: the kernel could "
        "not go on with this process (its area for restartable sequences, rseq, is damaged), or a "
        "tracer has it sent.",
        f"sent by the kernel during {call.name}()",
        (f"orig_rax is {call.nr} ({call.name}), and would be -1 after a fault",),
        "look for a tracer (strace -e inject), and for who overwrites thread-local memory",
        INFERRED,
    )


def _place(case: Case) -> str:
    pc = case.registers.get("rip", 0)
    return case.place(pc) or f"{pc:#x}"


def _non_canonical(
    case: Case, value: int, text: str, brief: str, next_: str, pointer: int | None = None
) -> Origin:
    pattern = pattern_words(case, value if pointer is None else pointer)
    return Origin(
        FAULT,
        "non-canonical",
        f"{text} {value:#x} is a non-canonical address: no address at all (its upper 17 bits "
        f"differ). This is no null pointer, although si_addr is 0"
        f"{': ' + pattern if pattern else ''}.",
        f"{brief} {value:#x}",
        (f"the instruction is at {_place(case)}", "si_code is SI_KERNEL, si_addr 0"),
        next_,
        address=value,
    )


def _operand(case: Case) -> Origin | None:
    from faultkit.code.operands import is_canonical

    for access in case.accesses:
        if access.address is not None and not is_canonical(access.address):
            words = access_words(case, access)
            return _non_canonical(
                case,
                access.address,
                f"Bad pointer: {words}:",
                f"non-canonical pointer, {access.operand} =",
                "look who overwrote the pointer: use after free, overrun, or an uninitialised one",
                case.registers.get(access.base) if access.base else None,
            )
    return None


def _branch(case: Case) -> Origin | None:
    """A call, jump or return to a non-canonical address."""
    from faultkit.code.operands import is_canonical

    pc = case.registers.get("rip", 0)
    if not is_canonical(pc):
        return _non_canonical(
            case, pc, "Jump to a bad address:", "jump to the non-canonical address",
            "look for an overwritten return address or function pointer",
        )  # fmt: skip
    if pc >> 63:
        return Origin(
            FAULT,
            "wild-jump",
            f"Jump to an address of the kernel's, {pc:#x}, where a program may not execute.",
            f"jump to {pc:#x}, an address of the kernel's",
            (f"rip is {pc:#x}",),
            "look for an overwritten return address or function pointer",
        )
    instruction = case.instruction
    if instruction is None:
        return None
    target: int | None = None
    if instruction.kind == "ret":
        target = case.word(case.registers.get("rsp", 0))
        text, next_ = "Return to a bad address:", "look for an overrun of a local array"
    elif instruction.kind in ("call", "jmp") and instruction.target is None:
        text = "Call of a bad address:" if instruction.kind == "call" else "Jump to a bad address:"
        next_ = "look who overwrote the function pointer, the jmp_buf or the table of jumps"
        if isinstance(instruction.source, str):
            target = case.registers.get(instruction.source)
        else:
            explicit = next((a for a in case.accesses if not a.stack), None)
            if explicit is not None and explicit.address is not None:
                target = case.word(explicit.address)
    if target is None or is_canonical(target):
        return None
    return _non_canonical(case, target, text, "branch to the non-canonical address", next_)


def _privileged(case: Case) -> Origin | None:
    from faultkit.code.operands import privileged

    name = privileged(case.encoding) if case.encoding is not None else None
    if name is None or case.info.number != SIGSEGV:
        return None
    deliberate = ""
    if name == "hlt":
        deliberate = (
            " Programs use it to crash on purpose: musl does where it finds its heap corrupted, "
            "and at the end of abort()."
        )
    return Origin(
        FAULT,
        "privileged-instruction",
        f"Privileged instruction: {name} at {_place(case)}, which user code may not execute."
        f"{deliberate}",
        f"privileged instruction {name}",
        (f"the bytes there: {case.bytes_at_pc[:8].hex(' ')}",),
        "look who calls it; if it should not be there, whether the jump to it went wrong",
    )


def _misaligned(case: Case) -> Origin | None:
    from faultkit.code.operands import needs_alignment

    needed = needs_alignment(case.encoding) if case.encoding is not None else 1
    for access in case.accesses:
        if access.stack or access.address is None or not access.address % needed:
            continue
        stack = access.base in ("rsp", "rbp")
        return Origin(
            FAULT,
            "misaligned-vector",
            f"Misaligned operand: {access_words(case, access)}: the instruction wants an address "
            f"that is a multiple of {needed}, and this one is {access.address:#x}.",
            f"misaligned operand at {access.address:#x}",
            (f"the instruction is at {_place(case)}",),
            "the stack is misaligned: look for assembly, or a thread or coroutine that was "
            "started with a misaligned stack" if stack
            else "look for a cast to a type that wants more alignment than the data has",
            address=access.address,
        )  # fmt: skip
    return None


def _signal_frame(case: Case) -> Origin | None:
    """The kernel itself gives up a process whose signal frame it can't write, or not read back
    (force_sigsegv in kernel/signal.c, rt_sigreturn in arch/x86/kernel/signal_64.c)."""
    number = case.registers.get("orig_rax", 0)
    sp = case.registers.get("rsp", 0)
    if number == RT_SIGRETURN:
        return Origin(
            KERNEL,
            "bad-signal-frame",
            "A signal handler returned, but the signal frame that the kernel had put on the stack "
            "is damaged.",
            "damaged signal frame at the return of a handler",
            (f"orig_rax is {RT_SIGRETURN} (rt_sigreturn)", f"rsp is {sp:#x}"),
            "look for an overrun of a local array in the signal handler",
        )
    mapping = case.mapping(sp - 128)
    if mapping is not None and mapping.perms[1:2] in ("w", ""):
        return None
    return Origin(
        KERNEL,
        "no-signal-stack",
        f"The kernel could not deliver a signal: its frame would not fit on the stack at {sp:#x}, "
        "which is no writable memory.",
        "no stack for a signal handler",
        (f"rsp is {sp:#x}", f"the instruction is at {_place(case)}"),
        "look for a stack overflow, a bad sigaltstack(), and code that misuses rsp",
    )
