"""Signal frames: what the kernel puts on the stack when it starts a handler.

struct rt_sigframe (arch/x86/include/asm/sigframe.h): the return address, which is the C library's
call of rt_sigreturn; a ucontext with the registers that were interrupted; and the siginfo, which
is filled in only if the handler was installed with SA_SIGINFO (x64_setup_rt_frame in
arch/x86/kernel/signal_64.c).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from faultkit.record import NamedTuple
from faultkit.signals.names import (
    SI_KERNEL,
    SI_USER,
    SIGBUS,
    SIGFPE,
    SIGILL,
    SIGSEGV,
    SIGTRAP,
    code_words,
    signals_in,
)
from faultkit.signals.siginfo import FAULTED, NUMBER_ONLY, SENT, Siginfo, parse_siginfo
from faultkit.target import FaultkitError, Process

SIGINFO = 312  # bytes from the return address to the siginfo
SIZE = SIGINFO + 128
CONTEXT = 8 + 40  # to struct sigcontext: uc_flags, uc_link, uc_stack
MASK_AT = CONTEXT + 256
# struct sigcontext (arch/x86/include/uapi/asm/sigcontext.h)
REGISTERS = (
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx",
    "rax", "rcx", "rsp", "rip", "eflags",
)  # fmt: skip
USER_CS = 0x33
RETURNS = (  # mov $15, %rax or %eax; syscall
    b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05",
    b"\xb8\x0f\x00\x00\x00\x0f\x05",
)
MOST_FRAMES = 8  # signals within one another
MOST_STACK = 1 << 20  # bytes above rsp that are searched for each
CHUNK = 1 << 12
MOST_OTHERS = 32  # signals that a handler blocks by name: with more, it blocks all that there are,
# and one that is not blocked may be its own, which it has let through again
MOST_PIDS = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h


class SignalFrame(NamedTuple):
    """A signal that a handler was started for.  `address` is the frame's; `registers` are those
    that were interrupted; `mask` the signals that were blocked then."""

    address: int
    siginfo: bytes
    registers: dict[str, int]
    mask: int


def signal_frames(process: Process, sp: int) -> Iterator[SignalFrame]:
    """The signal frames on the stack from `sp` on, the innermost first; goes on at the stack that
    was interrupted, as handlers may have one of their own (sigaltstack)."""
    known: dict[int, bool] = {}
    visited = set()
    for _ in range(MOST_FRAMES):
        found = _next_frame(process, sp, known)
        if found is None or found.address in visited:
            return
        visited.add(found.address)
        yield found
        sp = found.registers["rsp"]


def _next_frame(process: Process, sp: int, known: dict[int, bool]) -> SignalFrame | None:
    start = at = sp & -8
    while at < start + MOST_STACK:
        size = CHUNK - at % CHUNK
        try:
            words = process.words(at, size // 8)
        except FaultkitError:
            return None
        for index, word in enumerate(words):
            if word < 1 << 12 or word >> 47:
                continue
            if word not in known:
                known[word] = _is_return(process, word)
            if known[word]:
                frame = _frame(process, at + 8 * index)
                if frame is not None:
                    return frame
        at += size
    return None


def _is_return(process: Process, address: int) -> bool:
    mapping = process.mapping(address)
    if mapping is None or mapping.perms[2:3] not in ("x", ""):
        return False
    try:
        code = process.read(address, 9)
    except FaultkitError:
        return False
    return code.startswith(RETURNS)


def _frame(process: Process, address: int) -> SignalFrame | None:
    try:
        data = process.read(address, SIZE)
    except FaultkitError:
        return None
    context = data[CONTEXT:MASK_AT]
    values = struct.unpack_from(f"<{len(REGISTERS)}Q", context)
    registers = dict(zip(REGISTERS, values))
    cs = struct.unpack_from("<H", context, 8 * len(REGISTERS))[0]
    if cs != USER_CS:
        return None
    trapno, _, cr2 = struct.unpack_from("<3Q", context, 8 * (len(REGISTERS) + 2))
    registers["trapno"], registers["cr2"] = trapno, cr2
    registers["err"] = struct.unpack_from("<Q", context, 8 * (len(REGISTERS) + 1))[0]
    mask = struct.unpack_from("<Q", data, MASK_AT)[0]
    return SignalFrame(address, data[SIGINFO:], registers, mask)


def siginfo_in(frame: SignalFrame, blocked: int | None) -> Siginfo | None:
    """The siginfo in a frame, None where the kernel has put none there and it is garbage;
    `blocked` are the signals that are so in the handler."""
    info = parse_siginfo(frame.siginfo)
    if info is None or frame.siginfo[12:16] != bytes(4) or not 0 <= info.errno < 1 << 16:
        return None
    added = _added(frame, blocked)
    if added and info.number not in added and len(added) < MOST_OTHERS:
        return None
    if not 0 <= (info.pid or 0) <= MOST_PIDS:
        return None
    return info if code_words(info.number, info.code) else None


def fault_by_registers(frame: SignalFrame, blocked: int | None) -> Siginfo | None:
    """The fault that a frame without a siginfo tells of, by the trap number that it keeps, as far
    as the mask agrees: a handler runs with its own signal blocked; `blocked` are the signals that
    are so in the handler.  None if it tells of none.

    The trap number is that of the thread's last fault, 0 if it has had none: it counts only for a
    signal that the mask shows too, for a page fault also where the mask shows none (SA_NODEFER).
    Whether the instruction can have caused the fault is for the caller to check.
    """
    added = _added(frame, blocked)
    registers = frame.registers
    trap = registers["trapno"]
    fault = _FAULTS.get(trap)
    if fault is None or not (fault[0] in added if added else trap == PAGE_FAULT):
        return None
    number, code = fault
    if code == SI_KERNEL:
        return Siginfo(number, code, 0, SENT)
    address = registers["rip"]
    if trap == PAGE_FAULT:
        address, code = registers["cr2"], 2 if registers["err"] & 1 else 1
    return Siginfo(number, code, 0, FAULTED, address=address)


def number_by_mask(frame: SignalFrame, blocked: int | None) -> Siginfo | None:
    """The number of the signal whose handler runs, where the mask shows that it can be no other."""
    added = _added(frame, blocked)
    return Siginfo(added[0], SI_USER, 0, NUMBER_ONLY) if len(added) == 1 else None


def _added(frame: SignalFrame, blocked: int | None) -> list[int]:
    """The signals that are blocked since the handler has begun."""
    return [] if blocked is None else list(signals_in(blocked & ~frame.mask))


PAGE_FAULT = 14
_FAULTS = {  # arch/x86/include/asm/trapnr.h; code 1 stands for what the number does not tell
    0: (SIGFPE, 1), 1: (SIGTRAP, 1), 3: (SIGTRAP, SI_KERNEL), 6: (SIGILL, 2),
    12: (SIGBUS, SI_KERNEL), 13: (SIGSEGV, SI_KERNEL), PAGE_FAULT: (SIGSEGV, 1),
    16: (SIGFPE, 14), 17: (SIGBUS, 1), 19: (SIGFPE, 14),
}  # fmt: skip
