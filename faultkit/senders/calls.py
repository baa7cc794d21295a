"""Direct calls and jumps to given addresses, found without decoding all of the code."""

import struct
from collections.abc import Iterable, Iterator

_REL32 = struct.Struct("<i")
_SIZE = 5  # of call rel32 and jmp rel32; jcc rel32 has one byte more before


def calls_to(code: Iterable[tuple[int, bytes]], targets: "set[int]") -> Iterator[tuple[int, int]]:
    """(where the instruction may begin, its target): bytes that look like a call, jmp or jcc to one
    of the targets.  Whoever wants to be sure decodes the function."""
    for start, data in code:
        for opcode, before in ((b"\xe8", 0), (b"\xe9", 0)):
            yield from _find(start, data, opcode, before, targets)
        for condition in range(0x80, 0x90):
            yield from _find(start, data, bytes((0x0F, condition)), 1, targets)
        for target in targets:
            yield from _short(start, data, target)


def _find(
    start: int, data: bytes, opcode: bytes, before: int, targets: "set[int]"
) -> Iterator[tuple[int, int]]:
    find, unpack = data.find, _REL32.unpack_from
    behind = start + before + _SIZE
    last = len(data) - before - _SIZE
    skip = before + 1
    place = find(opcode)
    while 0 <= place <= last:
        target = place + behind + unpack(data, place + skip)[0]
        if target in targets:
            yield start + place, target
        place = find(opcode, place + 1)


def _short(start: int, data: bytes, target: int) -> Iterator[tuple[int, int]]:
    """Jumps with an 8-bit displacement: from functions right before or behind."""
    place = target - start
    for at in range(max(place - 0x81, 0), min(place + 0x7F, len(data) - 1)):
        if data[at] == 0xEB or 0x70 <= data[at] <= 0x7F:
            distance = data[at + 1] - (data[at + 1] >> 7 << 8)
            if at + 2 + distance == place:
                yield start + at, target
