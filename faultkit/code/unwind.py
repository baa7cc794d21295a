"""Call stacks from registers and memory, without a debugger.

Frames are left by call frame information.  A task read through /proc gives only pc and sp, so a
function that addresses its frame by rbp needs rbp recovered: from what its own code has done
to rsp since it set rbp, else by looking on the stack for the call that entered it.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

from faultkit.code import FormatError, cfi
from faultkit.code.expression import DWARF_REGISTERS, UnknownRegister, evaluate, known
from faultkit.code.images import Image, Images, Read
from faultkit.code.plt import got_target, plt_target, slot_of
from faultkit.code.x86 import RBP, RSP, Instruction, Memory, call_before, instructions
from faultkit.target import ReadError

MASK = (1 << 64) - 1
CALLEE_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")
_CALLEE_NUMBERS = tuple(DWARF_REGISTERS.index(name) for name in CALLEE_SAVED)
MAX_SCAN = 64 << 10  # bytes of stack looked at for one return address
MAX_PROLOGUE = 64 << 10  # bytes of a function's code that are followed
CHUNK = 4096

# How a frame was found
START = "registers"  # it is where the task is
CFI = "cfi"  # by call frame information, and its pc does follow a call
SIGNAL = "signal"  # the frame that a signal interrupted, saved whole by the kernel
PROLOGUE = "prologue"  # by call frame information, with rbp recovered from the function's code
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
    cfa: Optional[int]
    function_start: Optional[int]
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
    registers: Mapping[str, Optional[int]],
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
        try:
            if is_signal:
                caller = _interrupted(read, current)
            elif fde is not None:
                is_signal = fde.cie.signal_frame
                caller = _caller(read, images, fde, code_address, current)
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
                fde.start if fde is not None else None,
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
        if how == CFI and not exact and call_before(read, current["rip"]) is None:
            how = UNCHECKED
        sure = sure and how in SURE
    return steps


def _fde(image: Image, address: int) -> Optional[cfi.Fde]:
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


def _called_nowhere(read: Read, registers: dict[str, int]) -> Optional[_Caller]:
    """The caller of code that can't run: a jump to nowhere has just pushed the return address."""
    sp = registers["rsp"]
    back = int.from_bytes(read(sp, 8), "little")
    if call_before(read, back) is None:
        return None
    caller = {n: registers[n] for n in CALLEE_SAVED if n in registers}
    return _Caller({**caller, "rip": back, "rsp": sp + 8}, sp + 8, SCAN)


def _caller(
    read: Read, images: Images, fde: cfi.Fde, pc: int, registers: dict[str, int]
) -> Optional[_Caller]:
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


def _apply(read: Read, row: cfi.Row, registers: dict[str, int], how: str) -> Optional[_Caller]:
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
) -> Optional[int]:
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


def frame_pointer(read: Read, start: int, pc: int, sp: int) -> Optional[int]:
    """rbp in the frame of the function that starts at `start`, is at `pc` and has `sp`.

    Exact where the function sets rbp from rsp and afterwards moves rsp only by constants; None
    otherwise (alloca, a realigned stack after the frame was set up, code split off).
    """
    below: Optional[int] = None  # rbp - rsp, None before rbp is set or when unknown
    pending: dict[int, Optional[int]] = {}  # by jump target, what held at the jump
    for instruction in instructions(read, start, min(pc + 16, start + MAX_PROLOGUE)):
        address = instruction.address
        if address in pending and below is None:
            below = pending[address]
        if address >= pc or instruction.end > pc:
            # A return address less one lies inside the call; the call itself moves nothing.
            return sp + below & MASK if below is not None else None
        kind, source, destination = instruction.kind, instruction.source, instruction.destination
        if instruction.target is not None and kind in ("jmp", "jcc"):
            pending.setdefault(instruction.target, below)
        if kind in ("jmp", "ret", "trap"):
            below = None  # what follows is reached from elsewhere
        elif kind == "mov" and (destination, source) == ("rbp", "rsp"):
            below = 0
        elif kind == "lea" and destination == "rbp" and isinstance(source, Memory):
            below = source.displacement if source[:2] == ("rsp", None) else None
        elif instruction.writes & RBP:
            below = None
        elif instruction.writes & RSP or destination == "rsp":
            below = _moved(below, kind, source, destination, instruction.width)
    return None


def _moved(
    below: Optional[int], kind: str, source: object, destination: object, width: int
) -> Optional[int]:
    """rbp - rsp after an instruction that writes rsp but not rbp."""
    if kind == "lea" and isinstance(source, Memory) and source[:2] == ("rbp", None):
        return -source.displacement
    if below is None:
        return None
    if kind == "push":
        return below + 8
    if kind == "pop" and destination != "rsp":
        return below - 8
    if kind in ("add", "sub") and isinstance(source, int) and width == 8:
        return below + source if kind == "sub" else below - source
    if kind == "lea" and isinstance(source, Memory) and source[:2] == ("rsp", None):
        return below - source.displacement
    return None


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


def _scan(read: Read, images: Images, function: int, sp: int) -> Optional[int]:
    """A likely rbp of the function at `function`: below the return address of a call to it.

    A direct call to the function decides; an indirect one serves, if there is none, where the
    saved rbp below it leads to another return address.
    """
    weak: Optional[int] = None
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


def call_target(images: Images, call: Instruction) -> Optional[int]:
    """The address that a call or jump reaches, through the PLT or GOT; None when indirect."""
    if call.target is not None:
        stub = plt_target(images, call.target)
        return stub.address if stub is not None and stub.address else call.target
    slot = slot_of(call.source)
    found = got_target(images, slot) if slot is not None else None
    return found.address if found is not None else None
