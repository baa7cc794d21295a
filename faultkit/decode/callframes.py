"""The registers of each frame of a kernel back trace, by call frame information.

Kernels keep theirs in .debug_frame (DWARF 5, section 6.4), which unlike ORC tells where all
callee-saved registers were pushed.  A frame is believed only if its canonical frame address is
where the host's back trace has the next frame; registers that a callee may change are known
where an exception or the dump recorded them, and nowhere else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from faultkit.code import FormatError, cfi
from faultkit.code.expression import DWARF_REGISTERS, UnknownRegister, evaluate, sleb, uleb
from faultkit.code.unwind import CALLEE_SAVED
from faultkit.model import Frame
from faultkit.record import NamedTuple
from faultkit.target import ReadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MASK = (1 << 64) - 1
_NO_CIE = 0xFFFFFFFF
MOST_MATCHES = 64

Read = Callable[[int, int], bytes]


class FrameTable:
    """A .debug_frame section; addresses are the file's own."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._found: dict[int, cfi.Fde | None] = {}
        self._cies: dict[int, cfi.Cie] = {}

    def find(self, start: int) -> cfi.Fde | None:
        """The FDE of the function that starts at `start`; None if there is none.

        Its address is searched for in the section's bytes: that costs nothing beside reading
        tens of thousands of entries.
        """
        if start not in self._found:
            try:
                self._found[start] = self._find(start)
            except (FormatError, struct.error):
                self._found[start] = None
        return self._found[start]

    def _find(self, start: int) -> cfi.Fde | None:
        data, wanted = self.data, struct.pack("<Q", start)
        at = data.find(wanted)
        for _ in range(MOST_MATCHES):
            if at < 0:
                return None
            if at >= 8:
                length, cie = struct.unpack_from("<II", data, at - 8)
                end = at - 4 + length
                if cie != _NO_CIE and length >= 20 and end <= len(data) and self._is_cie(cie):
                    (size,) = struct.unpack_from("<Q", data, at + 8)
                    return cfi.Fde(start, start + size, self._cie(cie), data[at + 16 : end])
            at = data.find(wanted, at + 1)
        return None

    def _is_cie(self, offset: int) -> bool:
        return self.data[offset + 4 : offset + 8] == b"\xff\xff\xff\xff"

    def _cie(self, offset: int) -> cfi.Cie:
        if offset not in self._cies:
            self._cies[offset] = self._parse_cie(offset)
        return self._cies[offset]

    def _parse_cie(self, offset: int) -> cfi.Cie:
        data = self.data
        (length,) = struct.unpack_from("<I", data, offset)
        end = offset + 4 + length
        version = data[offset + 8]
        if version not in (1, 3, 4) or end > len(data):
            raise FormatError(f"call frame information of version {version}")
        stop = data.find(b"\0", offset + 9, end)
        if stop != offset + 9:
            raise FormatError("call frame information with an augmentation")
        position = stop + 1 + (2 if version == 4 else 0)
        code_align, position = uleb(data, position)
        data_align, position = sleb(data, position)
        if version == 1:
            register, position = data[position], position + 1
        else:
            register, position = uleb(data, position)
        return cfi.Cie(code_align, data_align, register, 0, False, False, data[position:end])


class State(NamedTuple):
    """A frame and what is known in it: `registers` by name, `origins` in words for those that
    were recovered from the stack, `cfa` the stack pointer before the call that made the frame."""

    frame: Frame
    exact: bool
    registers: dict[str, int]
    origins: dict[str, str]
    cfa: int | None


# (the FrameTable, what to add to the target's addresses to get the file's) for a code address
Tables: TypeAlias = "Callable[[int], tuple[FrameTable, int] | None]"


def frame_states(
    frames: Sequence[Frame], first: dict[str, int], tables: Tables, read: Read, running: bool
) -> list[State]:
    """The states of `frames`, innermost first.

    `first` are the registers known in the innermost one, whose address is a return address
    unless the task was `running`.  Frames need `function_start` and
    `sp`; those that an exception stopped have all their registers ("rip" among them).
    """
    states: list[State] = []
    registers, origins = dict(first), dict[str, str]()
    for index, frame in enumerate(frames):
        stopped = frame.registers if frame.registers and "rdi" in frame.registers else None
        exact = (index == 0 and running) or stopped is not None
        if stopped is not None:
            registers, origins = dict(stopped), {}
        if frame.sp is not None:
            registers["rsp"] = frame.sp
        above = frames[index + 1] if index + 1 < len(frames) else None
        cfa, saved, places = _caller(frame, exact, registers, origins, tables, read)
        interrupted = above is not None and above.registers and "rdi" in above.registers
        if above is not None and above.sp not in (None, cfa) and not interrupted:
            if cfa is not None and not exact:
                registers, origins = {}, {}  # left over from before, or on another stack
            cfa, saved, places = None, {}, {}
        states.append(State(frame, exact, dict(registers), dict(origins), cfa))
        registers, origins = saved, places
    return states


def _caller(
    frame: Frame,
    exact: bool,
    registers: dict[str, int],
    origins: dict[str, str],
    tables: Tables,
    read: Read,
) -> tuple[int | None, dict[str, int], dict[str, str]]:
    """(CFA, the caller's registers, where they come from); (None, {}, {}) if unknown."""
    nothing: tuple[None, dict[str, int], dict[str, str]] = None, {}, {}
    if frame.function_start is None:
        return nothing
    found = tables(frame.function_start)
    if found is None:
        return nothing
    table, shift = found
    fde = table.find(frame.function_start + shift & MASK)
    place = frame.address - (not exact) + shift & MASK
    if fde is None or not fde.start <= place < fde.end:
        return nothing
    known = dict(registers)
    try:
        row = cfi.row_at(fde, place)
        if isinstance(row.cfa, bytes):
            cfa = evaluate(row.cfa, known, read)
        else:
            name = DWARF_REGISTERS[row.cfa[0]]
            if name not in known:
                return nothing
            cfa = known[name] + row.cfa[1] & MASK
    except (FormatError, IndexError, ReadError):
        return nothing
    if frame.sp is not None and not frame.sp < cfa < frame.sp + (1 << 16):
        return nothing
    saved: dict[str, int] = {}
    places: dict[str, str] = {}
    who = frame.symbol or f"{frame.function_start:#x}"
    for name in CALLEE_SAVED:
        number = DWARF_REGISTERS.index(name)
        kind, operand = row.rules.get(number, (cfi.SAME, 0))
        try:
            if kind == cfi.SAME and name in known:
                saved[name] = known[name]
                if name in origins:
                    places[name] = origins[name]
            elif kind == cfi.AT and isinstance(operand, int):
                saved[name] = int.from_bytes(read(cfa + operand & MASK, 8), "little")
                places[name] = f"{name} as {who} saved it"
            elif kind == cfi.IS and isinstance(operand, int):
                saved[name] = cfa + operand & MASK
            elif kind in (cfi.AT_EXPRESSION, cfi.IS_EXPRESSION) and isinstance(operand, bytes):
                value = evaluate(operand, known, read, [cfa])
                if kind == cfi.AT_EXPRESSION:
                    value = int.from_bytes(read(value, 8), "little")
                saved[name] = value
                places[name] = f"{name} as {who} saved it"
        except (ReadError, UnknownRegister, FormatError):
            continue
    return cfa, saved, places
