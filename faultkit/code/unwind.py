"""Call stacks from registers and memory, without a debugger.

Frames are left by call frame information.  A task read through /proc gives only pc and sp, so a
function that addresses its frame by rbp needs rbp recovered: from what its own code has done
to rsp since it set rbp, else by looking on the stack for the call that entered it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from faultkit.code import FormatError, cfi
from faultkit.code.expression import DWARF_REGISTERS, UnknownRegister, evaluate, known
from faultkit.code.images import Image, Images, Read
from faultkit.code.plt import got_target, plt_target, slot_of
from faultkit.code.prologue import frame_pointer, row_from_code
from faultkit.code.symbols import symbol_at
from faultkit.code.x86 import Instruction, call_before, instructions
from faultkit.record import NamedTuple
from faultkit.target import ReadError

MASK = (1 << 64) - 1
CALLEE_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")
_CALLEE_NUMBERS = tuple(DWARF_REGISTERS.index(name) for name in CALLEE_SAVED)
MAX_SCAN = 64 << 10  # bytes of stack looked at for one return address
MAX_CODE_SCAN = 4096  # the same for a function without call frame information
MAX_BODY, MAX_STEPS = 1024, 256  # the same where it is guessed; instructions that are followed
MAX_REACH = 4096  # bytes from the start of such a function to its pc
MAX_TAIL = 256  # bytes of a function that are searched for a tail call
CHUNK = 4096
ALIGNMENT = 16  # of the starts of functions
PADDING = b"\x90\xcc\xc3\x00"  # last bytes of nop, int3, ret and the long nops

# How a frame was found
START = "registers"  # it is where the task is
CFI = "cfi"  # by call frame information, and its pc does follow a call (or is a signal's)
SIGNAL = "signal"  # the frame that a signal interrupted, saved whole by the kernel
PROLOGUE = "prologue"  # by what the function's code did to rsp and rbp, and it follows a call
UNCHECKED = "unchecked"  # by call frame information, but its pc does not follow a call
SCAN = "scan"  # a return address on the stack that fits: likely, not sure
SURE = frozenset((START, CFI, SIGNAL, PROLOGUE))

# mov $__NR_rt_sigreturn, %rax; syscall (glibc sysdeps/unix/sysv/linux/x86_64/libc_sigaction.c,
# musl src/signal/x86_64/restore.s); gdb knows the frame by the same bytes.
_SIGRETURN = bytes.fromhex("48c7c00f0000000f05")
# struct rt_sigframe (arch/x86/include/asm/sigframe.h): the ucontext lies at sp, and its
# registers (struct sigcontext_64) 40 bytes into it, in this order.
_CONTEXT = 40
_CONTEXT_ORDER = (
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx",
    "rax", "rcx", "rsp", "rip",
)  # fmt: skip


class Step(NamedTuple):
    """One frame, innermost first.

    `pc` is where it goes on (a return address but for the first and interrupted frames: look up
    `code_address` for its function and line).  `cfa` is the stack pointer before its function
    was called, None for the last frame where it is unknown.  `function_start` is the start of
    its call frame information.  `registers` are those known in this frame, "rip" and "rsp"
    always.  `how` says how the frame was found; `sure` is False for what is only likely, and
    for every frame that follows from it.
    """

    pc: int
    cfa: int | None
    function_start: int | None
    registers: dict[str, int]
    is_signal_frame: bool
    how: str
    sure: bool
    code_address: int


class _Caller(NamedTuple):
    registers: dict[str, int]
    cfa: int
    how: str


def unwind(
    read: Read,
    images: Images,
    registers: Mapping[str, int | None],
    limit: int = 64,
) -> list[Step]:
    """The frames of a task that has `registers` ("rip" and "rsp" at least), at most `limit`.

    Never raises: the list ends where the stack does, or where no caller can be found.
    """
    current = {name: value for name, value in registers.items() if value is not None}
    steps: list[Step] = []
    how, sure, exact = START, True, True
    while len(steps) < limit and current.get("rip") and "rsp" in current:
        pc = current["rip"]
        code_address = pc if exact else pc - 1
        image = images.at(code_address)
        is_signal = _is_sigreturn(read, pc)
        fde = None if image is None or is_signal else _fde(image, code_address)
        caller = None
        start = fde.start if fde is not None else None
        try:
            if is_signal:
                caller = _interrupted(read, current)
            elif fde is not None:
                is_signal = fde.cie.signal_frame
                caller = _caller(read, images, fde, code_address, current)
            elif image is not None and image.is_code(code_address):
                caller, start = _caller_from_code(read, images, image, code_address, current)
            elif len(steps) == 0:
                caller = _called_nowhere(read, current)
        except (ReadError, FormatError):
            pass
        if caller is not None and not is_signal and caller.cfa <= current["rsp"]:
            caller = None  # a stack never grows back
        steps.append(
            Step(
                pc,
                caller.cfa if caller is not None else None,
                start,
                current,
                is_signal,
                how,
                sure,
                pc if is_signal else code_address,
            )
        )
        if caller is None or not images.is_code(caller.registers["rip"]):
            break
        current, _, how = caller
        exact = is_signal
        after_call = call_before(read, current["rip"]) is not None
        if how == CFI and not after_call and not _is_sigreturn(read, current["rip"]):
            how = UNCHECKED
        sure = sure and how in SURE
    return steps


def _fde(image: Image, address: int) -> cfi.Fde | None:
    try:
        return cfi.find_fde(image, address)
    except (FormatError, ReadError):
        return None


def _is_sigreturn(read: Read, pc: int) -> bool:
    try:
        return read(pc, len(_SIGRETURN)) == _SIGRETURN
    except ReadError:
        return False


def _interrupted(read: Read, registers: dict[str, int]) -> _Caller:
    words = struct.unpack("<17Q", read(registers["rsp"] + _CONTEXT, 17 * 8))
    found = dict(zip(_CONTEXT_ORDER, words))
    return _Caller(found, found["rsp"], SIGNAL)


def _called_nowhere(read: Read, registers: dict[str, int]) -> _Caller | None:
    """The caller of code that can't run: a jump to nowhere has just pushed the return address."""
    sp = registers["rsp"]
    back = int.from_bytes(read(sp, 8), "little")
    if call_before(read, back) is None:
        return None
    caller = {n: registers[n] for n in CALLEE_SAVED if n in registers}
    return _Caller({**caller, "rip": back, "rsp": sp + 8}, sp + 8, SCAN)


def _caller(
    read: Read, images: Images, fde: cfi.Fde, pc: int, registers: dict[str, int]
) -> _Caller | None:
    row = cfi.row_at(fde, pc)
    try:
        return _apply(read, row, registers, CFI)
    except UnknownRegister as error:
        if error.register != "rbp":
            return None
    rbp = frame_pointer(read, fde.start, pc, registers["rsp"])
    if rbp is not None:
        caller = _apply(read, row, {**registers, "rbp": rbp}, PROLOGUE)
        if caller is not None and call_before(read, caller.registers["rip"]) is not None:
            registers["rbp"] = rbp
            return caller
    if row.cfa == (6, 16):
        rbp = _scan(read, images, fde.start, registers["rsp"])
        if rbp is not None:
            registers["rbp"] = rbp
            return _apply(read, row, registers, SCAN)
    return None


def _caller_from_code(
    read: Read, images: Images, image: Image, pc: int, registers: dict[str, int]
) -> tuple[_Caller | None, int | None]:
    """(the caller, the function's start) where there is no call frame information (musl).

    The start is the symbol's, or else the target of a call whose return address lies on the
    stack exactly where the code between that target and pc would have it.
    """
    symbol = symbol_at(image, pc)
    if symbol is not None:
        start = pc - symbol.offset
        row = row_from_code(read, start, pc)
        caller = _apply(read, row, registers, PROLOGUE) if row is not None else None
        if caller is not None:
            call = call_before(read, caller.registers["rip"])
            if call is not None and _enters(images, call, start):
                return caller, start
    for address, value in _words(read, registers["rsp"] & ~7, MAX_CODE_SCAN):
        call = call_before(read, value) if images.is_code(value) else None
        reached = call_target(images, call) if call is not None else None
        if reached is None:
            continue
        near = reached <= pc < reached + MAX_REACH
        for start in (reached,) if near else _tail_targets(images, reached):
            row = row_from_code(read, start, pc) if start <= pc < start + MAX_REACH else None
            if row is not None and row.cfa == (7, address + 8 - registers["rsp"]):
                return _apply(read, row, registers, PROLOGUE), start
    return (None, None) if symbol is not None else _caller_by_alignment(read, pc, registers)


def _caller_by_alignment(
    read: Read, pc: int, registers: dict[str, int]
) -> tuple[_Caller | None, int | None]:
    """The same for a function that nothing on the stack leads to, as it was called through a
    pointer, or by a chain of tail calls: it starts where the code before it has been padded to
    16 bytes, if what it would return to then follows a call."""
    try:
        before = read(pc - pc % ALIGNMENT - MAX_BODY, MAX_BODY + 1)
    except ReadError:
        return None, None
    for back in range(0, MAX_BODY, ALIGNMENT):
        start = pc - pc % ALIGNMENT - back
        if before[MAX_BODY - back - 1] not in PADDING:
            continue
        row = row_from_code(read, start, pc, MAX_STEPS)
        if row is None or not isinstance(row.cfa, tuple) or row.cfa[0] != 7:
            continue
        caller = _apply(read, row, registers, PROLOGUE)
        if caller is not None and call_before(read, caller.registers["rip"]) is not None:
            return caller, start
    return None, None


def _enters(images: Images, call: Instruction, function: int) -> bool:
    """Whether a call may have entered the function: directly, through a pointer, or through
    another function that ends in a jump to it (a tail call)."""
    reached = call_target(images, call)
    return reached is None or reached == function or function in _tail_targets(images, reached)


def _tail_targets(images: Images, start: int) -> list[int]:
    """The functions that the one at `start` may end in a jump to."""
    try:
        jumps = [i for i in instructions(images.read, start, start + MAX_TAIL) if i.kind == "jmp"]
    except ReadError:
        return []
    return [target for jump in jumps if (target := call_target(images, jump)) is not None]


def _apply(read: Read, row: cfi.Row, registers: dict[str, int], how: str) -> _Caller | None:
    """The caller's registers by the rules of `row`; None where the stack ends."""
    if isinstance(row.cfa, bytes):
        cfa = evaluate(row.cfa, registers, read)
    else:
        cfa = known(registers, row.cfa[0]) + row.cfa[1] & MASK
    back = row.rules.get(cfi.RETURN_ADDRESS, (cfi.AT, -8))
    if back[0] == cfi.UNDEFINED:
        return None
    caller = {"rsp": cfa}
    for number in {*_CALLEE_NUMBERS, *row.rules} - {cfi.RETURN_ADDRESS}:
        if number >= len(DWARF_REGISTERS):
            continue
        name = DWARF_REGISTERS[number]
        if number in row.rules:
            value = _value(read, row.rules[number], cfa, registers, name)
        else:
            value = registers.get(name)
        if value is not None:
            caller[name] = value
    rip = _value(read, back, cfa, registers, "rip")
    if not rip:
        return None
    caller["rip"] = rip
    return _Caller(caller, cfa, how)


def _value(
    read: Read, rule: cfi.Rule, cfa: int, registers: dict[str, int], name: str
) -> int | None:
    kind, operand = rule
    try:
        if isinstance(operand, bytes):
            value = evaluate(operand, registers, read, [cfa])
            if kind == cfi.AT_EXPRESSION:
                value = int.from_bytes(read(value, 8), "little")
            return value
        if kind == cfi.AT:
            return int.from_bytes(read(cfa + operand & MASK, 8), "little")
        if kind == cfi.IS:
            return cfa + operand & MASK
        if kind == cfi.REGISTER:
            return known(registers, operand)
    except UnknownRegister:
        return None
    return registers.get(name) if kind == cfi.SAME else None


def _words(read: Read, address: int, size: int) -> Iterator[tuple[int, int]]:
    """(address, value) of the words from `address` up, until `size` or unreadable memory."""
    end = address + size
    while address < end:
        stop = min(end, (address | CHUNK - 1) + 1)
        try:
            data = read(address, stop - address)
        except ReadError:
            return
        for index in range(len(data) // 8):
            yield address + 8 * index, int.from_bytes(data[8 * index : 8 * index + 8], "little")
        address = stop


def _scan(read: Read, images: Images, function: int, sp: int) -> int | None:
    """A likely rbp of the function at `function`: below the return address of a call to it.

    A direct call to the function decides; an indirect one serves, if there is none, where the
    saved rbp below it leads to another return address.
    """
    weak: int | None = None
    saved = 0
    for address, value in _words(read, sp & ~7, MAX_SCAN):
        frame, saved = saved, value
        if address == sp or not images.is_code(value):
            continue
        call = call_before(read, value)
        if call is None:
            continue
        reached = call_target(images, call)
        if reached == function:
            return address - 8
        if reached is None and weak is None and address < frame < sp + (8 << 20):
            try:
                above = int.from_bytes(read(frame + 8, 8), "little")
            except ReadError:
                continue
            if images.is_code(above) and call_before(read, above) is not None:
                weak = address - 8
    return weak


def call_target(images: Images, call: Instruction) -> int | None:
    """The address that a call or jump reaches, through the PLT or GOT; None when indirect."""
    if call.target is not None:
        stub = plt_target(images, call.target)
        return stub.address if stub is not None and stub.address else call.target
    slot = slot_of(call.source)
    found = got_target(images, slot) if slot is not None else None
    return found.address if found is not None else None
