"""Seccomp filters: which instruction of which filter decided on a system call.

Classic BPF over struct seccomp_data, as seccomp_check_filter() in kernel/seccomp.c admits it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from faultkit.record import NamedTuple

MASK = 0xFFFFFFFF
MOST_STEPS = 1 << 14
# include/uapi/linux/seccomp.h: actions, the strictest first
ACTIONS = {
    0x80000000: "SECCOMP_RET_KILL_PROCESS",
    0x00000000: "SECCOMP_RET_KILL_THREAD",
    0x00030000: "SECCOMP_RET_TRAP",
    0x00050000: "SECCOMP_RET_ERRNO",
    0x7FC00000: "SECCOMP_RET_USER_NOTIF",
    0x7FF00000: "SECCOMP_RET_TRACE",
    0x7FFC0000: "SECCOMP_RET_LOG",
    0x7FFF0000: "SECCOMP_RET_ALLOW",
}


class Verdict(NamedTuple):
    """What a filter returned, and the index of the instruction that did so."""

    action: str
    data: int
    instruction: int


def seccomp_data(nr: int, arch: int, pc: int, arguments: Sequence[int]) -> bytes:
    """struct seccomp_data."""
    return struct.pack("<iIQ6Q", nr, arch, pc, *arguments)


def run(program: bytes, data: bytes) -> Verdict | None:
    """The verdict of a filter (struct sock_filter, ...) on a call; None if it is none that the
    kernel would have admitted."""
    code = list(struct.iter_unpack("<HBBI", program[: len(program) & -8]))
    memory = [0] * 16
    a = x = at = 0
    for _ in range(MOST_STEPS):
        if at >= len(code):
            return None
        op, jt, jf, k = code[at]
        kind = op & 7
        at += 1
        operand = x if op & 8 else k
        try:
            if kind == 0:  # BPF_LD
                a = _load(op, k, data, memory)
            elif kind == 1:  # BPF_LDX
                x = _load(op, k, data, memory)
            elif kind == 2:
                memory[k] = a
            elif kind == 3:
                memory[k] = x
            elif kind == 4:
                a = _calculate(op & 0xF0, a, operand) & MASK
            elif kind == 5:
                if op & 0xF0 == 0:
                    at += k
                else:
                    at += jt if _compare(op & 0xF0, a, operand) else jf
            elif kind == 6:
                value = a if op & 0x18 == 0x10 else k
                action = ACTIONS.get(value & 0xFFFF0000, "SECCOMP_RET_KILL_PROCESS")
                return Verdict(action, value & 0xFFFF, at - 1)
            elif op & 0xF8:
                a = x
            else:
                x = a
        except (IndexError, struct.error, ZeroDivisionError, KeyError):
            return None
    return None


def _load(op: int, k: int, data: bytes, memory: list[int]) -> int:
    mode = op & 0xE0
    if mode == 0x20:  # BPF_ABS: of the data, one aligned word
        return int(struct.unpack_from("<I", data, k)[0])
    if mode == 0x60:
        return memory[k]
    if mode == 0x80:
        return len(data)
    if mode == 0:
        return k
    raise KeyError(mode)


def _calculate(op: int, a: int, b: int) -> int:
    return {
        0x00: lambda: a + b,
        0x10: lambda: a - b,
        0x20: lambda: a * b,
        0x30: lambda: a // b,
        0x40: lambda: a | b,
        0x50: lambda: a & b,
        0x60: lambda: a << (b & 31),
        0x70: lambda: a >> (b & 31),
        0x80: lambda: -a,
        0xA0: lambda: a ^ b,
    }[op]()


def _compare(op: int, a: int, b: int) -> bool:
    return {0x10: a == b, 0x20: a > b, 0x30: a >= b, 0x40: bool(a & b)}[op]
