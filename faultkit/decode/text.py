"""Back traces from text, with the source and code of their files.

What runs is not what the file has, so code is the file's, but for the bytes that an oops shows
around its faulting instruction (`Code:`).  Values are those of the registers that it shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from faultkit.code.elf import SHF_EXECINSTR
from faultkit.debuginfo.debugfile import BROKEN
from faultkit.debuginfo.lookup import Lookup
from faultkit.debuginfo.sections import PLACE
from faultkit.decode.model import Decoded, DecodedTrace, Instruction, Trace
from faultkit.decode.original import CodeOf, Relocated, code_of, original
from faultkit.decode.patches import Original
from faultkit.decode.source import Sources
from faultkit.decode.values import Code, FrameView
from faultkit.decode.view import Shown, Subject, Wanted, dress
from faultkit.target import ReadError

MASK = (1 << 64) - 1
# Traces of what an exception stopped; others that have registers were stopped by an interrupt.
FAULTS = frozenset(("oops",))
# arch/x86/mm/fault.c, show_fault_oops(): "address: ADDRESS", "for address: ADDRESS"; before 5.1
# "dereference at ADDRESS", "paging request at ADDRESS"
_TOLD = re.compile(r"(?:address:|dereference at|request at) *(?:0x)?([0-9a-f]{8,16})\b")


def dress_traces(traces: Sequence[DecodedTrace], sources: Sources, wanted: Wanted) -> list[str]:
    """Fill in source, code and values of the frames.  Returns what could not be done, each with
    its remedy."""
    subject = TextSubject(sources)
    shown = [subject.frame(trace.trace, frame) for trace in traces for frame in trace.frames]
    limits = dress([each for each in shown if each is not None], subject, wanted)
    subject.relocate([each for each in shown if each is not None])
    return limits


class TextSubject(Subject):
    """Files instead of a target."""

    def __init__(self, sources: Sources) -> None:
        super().__init__(_nothing, sources)
        self._ranges: list[tuple[int, int, Lookup, int]] = []  # [start, end), file, shift
        self._overlays: dict[int, bytes] = {}

    def frame(self, trace: Trace, decoded: Decoded) -> Shown | None:
        """The frame as it is to be dressed; None where its file is not known."""
        lookup, place = decoded.lookup, decoded.place
        if lookup is None or place is None:
            return None
        shift = place - decoded.address
        start = decoded.address - (decoded.offset or 0) if decoded.symbol is not None else None
        first = next((each for each in trace.entries if each.exact), None)
        stopped = first is not None and bool(trace.registers) and decoded.exact
        if stopped and first is not None:
            stopped = (first.address, first.symbol) in (
                (decoded.address, decoded.symbol), (None, decoded.symbol),
            )  # fmt: skip
        registers = {}
        if stopped:
            registers = {n: v for n, v in trace.registers.items() if n not in ("cr2", "rip")}
        overlay = (0, b"")
        if stopped and trace.code is not None:
            overlay = decoded.address - trace.code.at, trace.code.data
        reader = _Reader(code_of(lookup), shift, overlay)
        code = Code(lookup, shift, lambda address: None)
        view = FrameView(
            decoded.address, decoded.exact, start, code, registers, {}, None, reader.read
        )
        if start is not None and decoded.size:
            view.end = start + decoded.size
        self._ranges.append(
            (decoded.address - (1 << 20), decoded.address + (1 << 20), lookup, shift)
        )
        if overlay[1]:
            self._overlays[decoded.address] = overlay[1]
        faulted = stopped and trace.kind in FAULTS
        fault_address = _fault_address(trace) if faulted and _is_page_fault(trace) else None
        return Shown(decoded, view, faulted, fault_address)

    def original(self, start: int, size: int) -> Original | None:
        """Only where the text has bytes of its own can they differ."""
        found = self._file_at(start)
        if found is None or not any(start <= at < start + size for at in self._overlays):
            return None
        lookup, shift = found
        code = code_of(lookup)
        slide = -shift if code is not None and not code.relocatable else 0
        return original(code, start + shift & MASK, start, size, slide) if code else None

    def _file_at(self, address: int) -> tuple[Lookup, int] | None:
        for start, end, lookup, shift in self._ranges:
            if start <= address < end:
                return lookup, shift
        return None

    def name_of(self, address: int) -> str | None:
        return self.names_of((address,)).get(address)

    def names_of(self, addresses: Iterable[int]) -> Mapping[int, str | None]:
        wanted: dict[int, tuple[Lookup, int]] = {}
        vmlinux = next(((f, s) for _, _, f, s in self._ranges if not f.relocatable), None)
        for address in addresses:
            found = self._file_at(address) or vmlinux
            if found is not None and _is_code(found[0], address + found[1] & MASK):
                wanted[address] = found
        names: dict[int, str | None] = {}
        files: dict[int, tuple[Lookup, list[tuple[int, int]]]] = {}
        for address, (lookup, shift) in wanted.items():
            entry = files.setdefault(id(lookup), (lookup, []))
            entry[1].append((address, address + shift & MASK))
        for lookup, pairs in files.values():
            try:
                symbols = lookup.symbols_at({place for _, place in pairs})
            except BROKEN:
                continue
            for address, place in pairs:
                symbol = symbols.get(place)
                if symbol is not None:
                    offset = place - symbol.address
                    names[address] = symbol.name + (f"+{offset:#x}" if offset else "")
        return names

    def relocate(self, frames: Sequence[Shown]) -> None:
        """Name what instructions of modules call and work with: loading would fill that in."""
        for frame in frames:
            lookup = frame.decoded.lookup
            code = code_of(lookup) if lookup is not None and lookup.relocatable else None
            if code is None or frame.view.code is None or lookup is None:
                continue
            shift = frame.view.code.shift
            frame.decoded.instructions = [
                _relocated(instruction, code, shift) for instruction in frame.decoded.instructions
            ]


class _Reader:
    """Code from a file, but where the text has it."""

    def __init__(self, code: CodeOf | None, shift: int, overlay: tuple[int, bytes]) -> None:
        self._code = code
        self._shift = shift
        self._overlay = overlay

    def read(self, address: int, size: int) -> bytes:
        """The bytes, or ReadError."""
        start, data = self._overlay
        found = self._code.at(address + self._shift & MASK, size) if self._code else None
        if found is None:
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
            raise ReadError(address, size)
        if len(found[0]) < size:
            raise ReadError(address, size)
        whole = bytearray(found[0])
        for index in range(max(start, address), min(start + len(data), address + size)):
            whole[index - address] = data[index - start]
        return bytes(whole)


def _relocated(instruction: Instruction, code: CodeOf, shift: int) -> Instruction:
    place = instruction.address + shift & MASK
    found = code.at(place, len(instruction.bytes))
    names: Relocated = found[1] if found is not None else {}
    for _, name in names.values():
        text = instruction.text
        if name and text.startswith(("call", "jmp")):
            text = text.split(" ", 1)[0] + f" {name}"
            return instruction._replace(text=text, note=None, target=None)
        return instruction._replace(note=name, target=None)
    return instruction


def _is_code(lookup: Lookup, place: int) -> bool:
    """Whether a file has code there: only that is named, which is quick."""
    number, offset = place >> PLACE, place & (1 << PLACE) - 1
    for section in lookup.file.sections.values():
        if section.flags & SHF_EXECINSTR:
            if lookup.relocatable:
                if section.number == number and offset < section.size:
                    return True
            elif section.address <= place < section.address + section.size:
                return True
    return False


def _fault_address(trace: Trace) -> int | None:
    """The address that could not be accessed.  CR2 may be another's by then: that of the code's
    own bytes, which the oops has tried to print ("Code: Unable to access opcode bytes")."""
    told = _TOLD.search(trace.title)
    return int(told[1], 16) if told else trace.registers.get("cr2")


def _is_page_fault(trace: Trace) -> bool:
    said = trace.title.lower()
    return "page fault" in said or "paging request" in said or "null pointer" in said


def _nothing(address: int, size: int) -> bytes:
    raise ReadError(address, size)
