"""Where an interrupt stopped a task, when crash looks for it in the wrong place.

Interrupts run on stacks of their own.  From 5.8 to 5.11 a function switched to them and kept the
old stack pointer in the topmost word of the new one (arch/x86/entry/entry_64.S,
asm_call_sysvec_on_stack; 931b94145981).  The interrupted registers lie above it on the task's
stack; crash takes them from a few words beside that, if the stack is nearly empty, and says
"possibly bogus exception frame".
"""

from __future__ import annotations

import struct

from crash_ext.backtrace import Printed
from faultkit.kernel.system import PT_REGS
from faultkit.kernel.target import Kernel
from faultkit.target import ReadError

WORDS = len(PT_REGS)
NEAR = 512  # bytes from the old stack pointer to the registers: the frames of the entry code
PAGE = 4096
KERNEL_CS, KERNEL_SS = 0x10, 0x18  # arch/x86/include/asm/segment.h
FLAG_ALWAYS, FLAGS_END = 0x2, 1 << 22  # of RFLAGS
NO_REGISTERS = ("orig_rax", "cs", "ss", "eflags")


def mended(kernel: Kernel, frames: list[Printed]) -> list[Printed]:
    """The frames, those of exceptions at no code replaced by what the stacks say."""
    result: list[Printed] = []
    for frame in frames:
        if result and frame.registers is not None and kernel.symbol_at(frame.address) is None:
            frame = _below(kernel, result[-1]) or frame
        result.append(frame)
    return result


def _below(kernel: Kernel, entry: Printed) -> Printed | None:
    """The interrupted frame below the outermost one of an interrupt's stack."""
    try:
        old = kernel.u64(entry.sp)
        if old & 7 or not old >> 63:
            return None
        data = _up_to(kernel, old, NEAR + 8 * WORDS)
    except ReadError:
        return None
    for at in range(0, len(data) - 8 * WORDS + 1, 8):
        values = dict(zip(PT_REGS, struct.unpack_from(f"<{WORDS}Q", data, at)))
        if _are_registers(kernel, values, old + at):
            pc, sp = values["rip"], values["rsp"]
            registers = {name: value for name, value in values.items() if name not in NO_REGISTERS}
            return Printed(pc, sp, registers)
    return None


def _up_to(kernel: Kernel, address: int, size: int) -> bytes:
    """The memory there; less if it ends, as a stack does, with the page.  Raises ReadError."""
    try:
        return kernel.read(address, size)
    except ReadError:
        return kernel.read(address, PAGE - address % PAGE)


def _are_registers(kernel: Kernel, values: dict[str, int], address: int) -> bool:
    """Whether a struct pt_regs of an interrupted kernel lies there.  The processor aligned the
    stack to 16 bytes before it pushed (SDM volume 3, 6.14.2)."""
    return (
        values["cs"] & 0xFFFF == KERNEL_CS
        and values["ss"] & 0xFFFF == KERNEL_SS
        and values["rsp"] & ~15 == address + 8 * WORDS
        and values["eflags"] & FLAG_ALWAYS != 0
        and values["eflags"] < FLAGS_END
        and kernel.symbol_at(values["rip"]) is not None
    )
