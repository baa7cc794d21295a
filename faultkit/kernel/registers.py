"""The callee-saved registers in every frame of a kernel back trace.

A host's back trace tells where each frame is and its stack pointer.  The registers come from
where the task left them: what __switch_to_asm pushed, the CPU's own as the dump recorded them, or
the struct pt_regs of an interrupted frame.  From a frame to its caller they are what the
function's prologue pushed.
"""

from __future__ import annotations

import struct

from faultkit.code.prologue import Stack, stack_at
from faultkit.code.x86 import call_before
from faultkit.kernel.objects import UnknownLayout, need
from faultkit.kernel.system import System
from faultkit.model import Frame, Task
from faultkit.target import FaultkitError, ReadError

MOST_LEFT_OUT = 32  # frames of one back trace
CALLEE_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")
# struct pt_regs (arch/x86/include/asm/ptrace.h); the order has not changed since 2.6.24
_PT_REGS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
    "rsi", "rdi", "orig_rax", "rip", "cs", "rflags", "rsp", "ss",
)  # fmt: skip


def frames_with_registers(system: System, task: Task) -> tuple[Frame, ...]:
    """The task's back trace, each frame with `function_start` and with those of the callee-saved
    registers that are known in it (all that are known, where it was interrupted); () if it has
    none.  Kept for the next who asks."""
    known: dict[Task, tuple[Frame, ...]] = system.cache.setdefault("registers", {})
    if task not in known:
        known[task] = _frames(system, task)
    return known[task]


def _frames(system: System, task: Task) -> tuple[Frame, ...]:
    try:
        frames = list(system.frames(task))
    except FaultkitError:
        return ()
    if not frames:
        return ()
    registers = _first(system, task, frames[0])
    result: list[Frame] = []
    most = len(frames) + MOST_LEFT_OUT
    while frames and len(result) < most:
        frame = frames.pop(0)
        if not system.is_code(frame.address):
            break  # what goes on in user space
        stopped = frame.registers or (interrupted(system, frame) if result else None)
        exact = not result or bool(stopped)
        if stopped:
            registers = dict(stopped)
        bounds = system.function_bounds(frame.address - (not exact))
        start = bounds[0] if bounds is not None else None
        # what a function that does not return goes back to may lie in the next one
        symbol = system.symbol_at(start) if start is not None else None
        if symbol is not None and start is not None:
            named = frame._replace(
                symbol=symbol.name, offset=frame.address - start, module=symbol.module
            )
        else:
            named = frame
        result.append(
            named._replace(
                index=len(result),
                function_start=start,
                registers={name: value for name, value in registers.items() if name != "rsp"},
            )
        )
        stack = _stack(system, start, frame.address - (not exact))
        left_out = _left_out(system, frame, stack, frames[0] if frames else None, registers)
        if left_out is not None:
            frames.insert(0, left_out)
        registers = _callers(system, frame, stack, frames[0] if frames else None, registers)
    return tuple(result)


def _first(system: System, task: Task, frame: Frame) -> dict[str, int]:
    """What is known of the registers in the innermost frame."""
    if system.on_cpu(task):
        for cpu, current in system.running.items():
            if current == task:
                found = system.kernel.registers(cpu)
                return found if found.get("rip") == frame.address else {}
        return {}
    return switched_out(system, task)


def switched_out(system: System, task: Task) -> dict[str, int]:
    """The callee-saved registers that __switch_to_asm left on the stack of a task that sleeps
    (struct inactive_task_frame, arch/x86/include/asm/switch_to.h); {} if it can't be read."""
    kernel = system.kernel
    try:
        sp = kernel.u64(
            (task.address or 0)
            + need(kernel, "task_struct", "thread")
            + need(kernel, "thread_struct", "sp")
        )
        start = system.stack_base(task)
        if not start <= sp < start + system.thread_size or sp & 7:
            return {}
        places = {
            "rbx": need(kernel, "inactive_task_frame", "bx"),
            "rbp": need(kernel, "inactive_task_frame", "bp"),
        }
        for name in ("r12", "r13", "r14", "r15"):
            places[name] = need(kernel, "inactive_task_frame", name)
        return {name: kernel.u64(sp + place) for name, place in places.items()}
    except (ReadError, UnknownLayout):
        return {}


def interrupted(system: System, frame: Frame) -> dict[str, int] | None:
    """The registers of a frame that an interrupt or exception stopped, None if none did.

    The processor aligns the stack to 16 bytes before it pushes (SDM volume 3, 6.14.2), so that
    struct pt_regs ends there; with FRED 16 bytes lie between.  It is one if it tells this very
    frame's pc and stack pointer.
    """
    if frame.sp is None:
        return None
    size = 8 * len(_PT_REGS)
    for padding in (0, 16):
        try:
            words = system.kernel.words((frame.sp & ~15) - padding - size, len(_PT_REGS))
        except (ReadError, struct.error):
            return None
        found = dict(zip(_PT_REGS, words))
        if found["rip"] == frame.address and found["rsp"] == frame.sp:
            del found["orig_rax"], found["cs"], found["ss"], found["rflags"]
            return found
    return None


def _stack(system: System, start: int | None, pc: int) -> Stack | None:
    """What the function at `start` has done to the stack by the time it is at `pc`."""
    if start is None:
        return None
    known: dict[tuple[int, int], Stack | None] = system.cache.setdefault("prologues", {})
    if (start, pc) not in known:
        try:
            known[start, pc] = stack_at(system.kernel.read, start, pc)
        except FaultkitError:
            known[start, pc] = None
    return known[start, pc]


def _left_out(
    system: System,
    frame: Frame,
    stack: Stack | None,
    above: Frame | None,
    registers: dict[str, int],
) -> Frame | None:
    """The frame that a host left out of the back trace above `frame`, as crash does with code
    that it has no symbols for: what `frame` goes back to is not what comes next."""
    if stack is None or stack.sp is None or above is None or above.sp is None or not frame.sp:
        return None
    if stack.sp[0] == 0:
        sp = frame.sp - stack.sp[1]
    elif stack.rbp is not None and stack.rbp[0] == 0 and "rbp" in registers:
        sp = registers["rbp"] - stack.rbp[1]  # it aligned its stack
    else:
        return None
    if not frame.sp < sp < above.sp:
        return None
    try:
        address = system.kernel.u64(sp - 8)
        if address == above.address or not system.is_code(address):
            return None
        if call_before(system.kernel.read, address) is None:
            return None
    except FaultkitError:
        return None
    return Frame(0, address, sp=sp) if system.function_bounds(address - 1) is not None else None


def _callers(
    system: System,
    frame: Frame,
    stack: Stack | None,
    above: Frame | None,
    registers: dict[str, int],
) -> dict[str, int]:
    """The callee-saved registers in the frame above: those that this one's function pushed are
    on the stack, the others as they are.  {} where the code does not tell what it pushed."""
    if above is None or above.sp is None or frame.sp is None:
        return {}
    if stack is None or stack.sp is None:
        return {}
    if stack.sp[0] == 0 and frame.sp - stack.sp[1] != above.sp:
        return {}  # it is not where the back trace has it
    result = {name: registers[name] for name in CALLEE_SAVED if name in registers}
    if stack.rbp is not None:
        result.pop("rbp", None)
    for name, (base, offset) in stack.saved.items():
        result.pop(name, None)
        if base == 0:
            try:
                result[name] = system.kernel.u64(above.sp + offset)
            except ReadError:
                continue
    return result
