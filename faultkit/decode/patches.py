"""Instructions that the running kernel changed: what they were, and who changes such ones.

A kernel's code is not its file's: alternatives, return thunks, retpolines, static calls, static
keys, paravirt calls, fentry and breakpoints are all patched in (arch/x86/kernel/alternative.c,
static_call.c, jump_label.c, ftrace.c, kprobes).  Told by comparing bytes, never by tables alone.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

from faultkit.code import x86
from faultkit.code.encoding import Memory
from faultkit.decode.model import Instruction
from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MASK = (1 << 64) - 1
BREAKPOINT = b"\xcc"
REST = "patched: rest of the one before"
LOCK, DS = 0xF0, 0x3E
NEAR = 3  # bytes on both sides of a breakpoint that have to be as they were
Names: TypeAlias = "Callable[[int], str | None]"

_TRACE = ("__fentry__", "mcount")
_RETURN = ("__x86_return_thunk", "srso_", "its_return_thunk", "retbleed_", "zen_untrain_ret")
_INDIRECT = ("__x86_indirect_", "__x86_its_")
_STATIC_CALL = "__SCT__"


class Original(NamedTuple):
    """A function's bytes as its file has them, from the address `start` on.

    `relocated` are the places in `data` that loading fills in: offset -> (size, symbol's name
    or None); `slide` is how far the kernel was moved (KASLR), which changes addresses in it.
    """

    start: int
    data: bytes
    relocated: Mapping[int, tuple[int, str | None]] = {}
    slide: int = 0


def mark(
    instructions: Sequence[Instruction], original: Original, name_of: Names
) -> list[Instruction]:
    """The instructions, with a note on those that differ from the file's.

    `name_of` names an address of the target.  What differs only by relocation is not marked.
    """
    if not instructions:
        return []
    boundaries: list[int] = []
    found = []
    whole = b"".join(instruction.bytes for instruction in instructions)
    live = whole, instructions[0].address - original.start
    for instruction in instructions:
        at = instruction.address - original.start
        size = len(instruction.bytes)
        before = original.data[at : at + size] if at >= 0 else b""
        if len(before) < size or _same(instruction.bytes, before, at, original):
            found.append(instruction)
            continue
        if not boundaries:
            end = instructions[-1].address + len(instructions[-1].bytes) - original.start
            boundaries = _boundaries(original.data[:end], original.start)
        said = _why(instruction, live, original, boundaries, name_of)
        note = "; ".join(each for each in (instruction.note, said) if each)
        found.append(instruction._replace(note=note or None))
    return found


def _same(live: bytes, file: bytes, at: int, original: Original) -> bool:
    """Whether the bytes are the file's, relocations done."""
    if live == file:
        return True
    differing = {index for index in range(len(live)) if live[index] != file[index]}
    for place, (size, _) in original.relocated.items():
        differing -= set(range(place - at, place - at + size))
    if not differing:
        return True
    if not original.slide:
        return False
    for size in (4, 8):  # R_X86_64_32S and R_X86_64_64; per-CPU ones move the other way
        first = min(differing)
        for start in range(max(first - size + 1, 0), first + 1):
            if max(differing) >= start + size or start + size > len(live):
                continue
            moved = int.from_bytes(live[start : start + size], "little") - int.from_bytes(
                file[start : start + size], "little"
            )
            whole = (1 << 8 * size) - 1
            if (moved - original.slide) & whole == 0 or (moved + original.slide) & whole == 0:
                return True
    return False


def _boundaries(data: bytes, start: int) -> list[int]:
    """The addresses at which the file's instructions begin."""
    found, at = [], 0
    while at < len(data):
        instruction = x86.decode(data, start + at, at)
        found.append(start + at)
        at += instruction.size if instruction is not None else 1
    return found


def _why(
    live: Instruction,
    code: tuple[bytes, int],
    original: Original,
    boundaries: Sequence[int],
    name_of: Names,
) -> str | None:
    index = bisect_right(boundaries, live.address) - 1
    place = boundaries[index] if index >= 0 else live.address
    at = place - original.start
    file = x86.decode(original.data, place, at)
    if file is None:
        return "patched"
    callee = _callee(file, at, original, name_of)
    inside = place != live.address
    first = live.bytes[:1]
    if inside:
        return REST
    if first == BREAKPOINT and original.data[at : at + 1] != BREAKPOINT:
        if not _is_breakpoint(code, at, file.size, original):
            return REST
        return f"patched: breakpoint, kprobe or being patched; was {_was(file, callee)}"
    now = x86.decode(live.bytes, live.address)
    quiet = now is not None and now.kind == "nop"
    if file.kind == "call" and callee and callee.startswith(_TRACE):
        return "patched: fentry, not traced" if quiet else "patched: fentry, TRACED by ftrace"
    if file.kind in ("jmp", "ret") and (file.kind == "ret" or (callee or "").startswith(_RETURN)):
        return f"patched: return thunk, was {_was(file, callee)}"
    leads = name_of(now.target) if now is not None and now.target is not None else None
    if (callee or "").startswith(_INDIRECT) or (leads or "").startswith(_INDIRECT):
        return f"patched: retpoline, was {_was(file, callee)}"
    if callee and callee.startswith(_STATIC_CALL):
        said = "patched: static call " + callee[len(_STATIC_CALL) :]
        return said + (", set to nothing" if quiet else "")
    if callee and callee.startswith("pv_ops"):
        return f"patched: paravirt, was {_was(file, callee)}"
    if original.data[at] == LOCK and first == bytes((DS,)):
        return "patched: lock prefix, not needed on one CPU"
    if file.kind == "nop" and quiet:
        return None  # another way to do nothing
    if file.kind == "nop" and now is not None and now.kind == "jmp":
        return "patched: static key that is on, or an alternative"
    if file.kind == "jmp" and quiet and file.size in (2, 5):
        return "patched: static key or alternative, was " + _was(file, callee)
    return f"patched: alternative, was {_was(file, callee)}"


def _is_breakpoint(code: tuple[bytes, int], at: int, size: int, original: Original) -> bool:
    """Whether nothing but an instruction's first byte was changed to int3; what fills up a shorter
    alternative changes more."""
    live, start = code
    before = max(at - NEAR, start)
    behind = min(at + size + NEAR, start + len(live), len(original.data))
    now = live[before - start : at - start] + original.data[at : at + 1] + live[at - start + 1 :]
    return _same(now[: behind - before], original.data[before:behind], before, original)


def _callee(file: x86.Instruction, at: int, original: Original, name_of: Names) -> str | None:
    """The name of what the file's call or jump leads to, or of the pointer that it goes through."""
    for place in range(at, at + file.size):
        relocation = original.relocated.get(place)
        if relocation is not None and relocation[1]:
            return relocation[1]
    if file.target is not None:
        return name_of(file.target)
    source = file.source
    if isinstance(source, Memory) and source.base is None and source.scaled is None:
        address = source.displacement & MASK
        # An absolute one is as the file has it, one relative to rip as the target does.
        return name_of(address) or name_of(address + original.slide & MASK)
    return None


def _was(file: x86.Instruction, callee: str | None) -> str:
    if file.kind in ("call", "jmp", "jcc"):
        return f"{file.kind} {callee}" if callee else file.kind
    return file.kind if file.kind != "other" else "another instruction"


def relocations(table: bytes, start: int, end: int) -> list[tuple[int, int, int, int]]:
    """(offset, type, symbol number, addend) of those Elf64_Rela in `table`, which is sorted by
    offset as linkers and assemblers write it, whose offset lies in [start, end)."""
    entry = struct.Struct("<QIIq")
    low, high = 0, len(table) // 24
    while low < high:
        middle = (low + high) // 2
        if int.from_bytes(table[24 * middle : 24 * middle + 8], "little") < start:
            low = middle + 1
        else:
            high = middle
    found = []
    while 24 * low + 24 <= len(table):
        offset, kind, symbol, addend = entry.unpack_from(table, 24 * low)
        if offset >= end:
            break
        found.append((offset, kind, symbol, addend))
        low += 1
    return found
