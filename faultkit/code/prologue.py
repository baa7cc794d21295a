"""Where a frame's parts lie, from what its function's code has done to rsp and rbp.

For registers that are not known, and for code without call frame information.
"""

from __future__ import annotations

from faultkit.code import cfi
from faultkit.code.encoding import Memory
from faultkit.code.expression import DWARF_REGISTERS
from faultkit.code.images import Read
from faultkit.code.x86 import RBP, RSP, Instruction, decode
from faultkit.record import NamedTuple
from faultkit.target import ReadError

MASK = (1 << 64) - 1
MAX_CODE = 64 << 10  # bytes of a function's code that are followed
MAX_INSTRUCTIONS = 10_000
PAGE = 4096
_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")

# A place on the stack: (base, offset).  Base 0 is the CFA; each change of rsp by something
# unknown (alloca, alignment) starts another base.
Place = tuple[int, int]


class Stack(NamedTuple):
    """What is known before an instruction: where rsp and rbp point, which registers of the
    caller were pushed where.  None is unknown; an rbp that is None may be the caller's."""

    sp: Place | None
    rbp: Place | None
    saved: dict[str, Place]


_ENTRY = Stack((0, -8), None, {})


def stack_at(read: Read, start: int, pc: int, steps: int = MAX_INSTRUCTIONS) -> Stack | None:
    """What is known at `pc` of the stack of the function that starts at `start`.

    `pc` may lie inside an instruction: a return address less one.  Follows the code's paths,
    the straight one first, until one gets to pc; None where none does, within `steps`
    instructions.
    """
    code = _Code(read)
    paths = [(start, _ENTRY)]
    seen: set[int] = set()
    switch: Stack | None = None  # where a jump through a table leaves the stack
    ends: list[int] = []  # behind jumps and returns: code there may be the table's
    while paths and len(seen) < steps:
        address, stack = paths.pop()
        while address not in seen and len(seen) < steps:
            seen.add(address)
            instruction = code.at(address)
            if instruction is None:
                break
            if address <= pc < instruction.end:
                return stack
            kind, target = instruction.kind, instruction.target
            if kind in ("jmp", "jcc") and target is not None and 0 <= target - start < MAX_CODE:
                paths.append((target, stack))
            if kind in ("jmp", "ret", "trap"):
                if kind == "jmp" and target is None and switch is None:
                    switch = stack
                ends.append(instruction.end)
                break
            if instruction.writes & (RSP | RBP):
                stack = _step(stack, instruction, len(seen))
            address = instruction.end
        while switch is not None and ends and not paths:
            end = ends.pop()
            if end <= pc and end not in seen:
                paths.append((end, switch))
    return None


class _Code:
    """Instructions at any address, from pages that are read once."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.pages: dict[int, bytes] = {}

    def at(self, address: int) -> Instruction | None:
        """The instruction at `address`; None where there is none or it can't be read."""
        page = address & -PAGE
        for size in (2 * PAGE, PAGE):  # instructions may straddle pages
            if page not in self.pages:
                try:
                    self.pages[page] = self.read(page, size)
                except ReadError:
                    continue
        return decode(self.pages.get(page, b""), address, address - page)


def _step(stack: Stack, instruction: Instruction, fresh: int) -> Stack:
    """The stack after an instruction that writes rsp or rbp; `fresh` is an unused base."""
    kind, source, destination = instruction.kind, instruction.source, instruction.destination
    sp, rbp, saved = stack
    if kind == "push":
        sp = _moved(sp, -8)
        callers = source in _SAVED and source not in saved and (source != "rbp" or rbp is None)
        if sp is not None and isinstance(source, str) and callers:
            saved = {**saved, source: sp}
        return Stack(sp, rbp, saved)
    if kind == "pop":
        if isinstance(destination, str) and saved.get(destination) == sp:
            saved = {name: place for name, place in saved.items() if name != destination}
        return Stack(_moved(sp, 8), None if destination == "rbp" else rbp, saved)
    if kind == "leave":
        saved = {name: place for name, place in saved.items() if name != "rbp"}
        return Stack(_moved(rbp, 8), None, saved)
    place: Place | None = None
    if kind == "mov" and isinstance(source, str):
        place = sp if source == "rsp" else rbp if source == "rbp" else None
    elif kind == "lea" and isinstance(source, Memory) and source.scaled is None:
        base = sp if source.base == "rsp" else rbp if source.base == "rbp" else None
        place = _moved(base, source.displacement)
    elif kind in ("add", "sub") and isinstance(source, int) and instruction.width == 8:
        base = sp if destination == "rsp" else rbp
        place = _moved(base, source if kind == "add" else -source)
    if instruction.writes & RSP:
        return Stack(place or (fresh, 0), rbp, saved)
    return Stack(sp, place, saved)


def _moved(place: Place | None, distance: int) -> Place | None:
    return (place[0], place[1] + distance) if place is not None else None


def frame_pointer(read: Read, start: int, pc: int, sp: int) -> int | None:
    """rbp in the frame of the function that starts at `start`, is at `pc` and has `sp`.

    Exact where the function sets rbp from rsp and afterwards moves rsp only by constants; None
    otherwise.
    """
    stack = stack_at(read, start, pc)
    if stack is None or stack.sp is None or stack.rbp is None or stack.sp[0] != stack.rbp[0]:
        return None
    return sp + stack.rbp[1] - stack.sp[1] & MASK


def row_from_code(read: Read, start: int, pc: int, steps: int = MAX_INSTRUCTIONS) -> cfi.Row | None:
    """What call frame information would say at `pc`, for a function that has none; None where
    the code does not tell."""
    stack = stack_at(read, start, pc, steps)
    if stack is None:
        return None
    if stack.sp is not None and stack.sp[0] == 0:
        cfa = (DWARF_REGISTERS.index("rsp"), -stack.sp[1])
    elif stack.rbp is not None and stack.rbp[0] == 0:
        cfa = (DWARF_REGISTERS.index("rbp"), -stack.rbp[1])
    else:
        return None
    rules: dict[int, cfi.Rule] = {
        DWARF_REGISTERS.index(name): (cfi.AT, place[1])
        for name, place in stack.saved.items()
        if place[0] == 0
    }
    if "rbp" not in stack.saved and stack.rbp is not None:
        rules[DWARF_REGISTERS.index("rbp")] = (cfi.UNDEFINED, 0)
    return cfi.Row(cfa, rules)
