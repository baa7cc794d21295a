"""Little Endian Base 128 (DWARF 5, 7.6)."""

from collections.abc import Sequence


def uleb(data: Sequence[int], at: int) -> tuple[int, int]:
    """(the unsigned number at `at`, where it ends).  Raises IndexError at the data's end."""
    byte = data[at]
    at += 1
    if byte < 128:
        return byte, at
    value = byte & 127
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def sleb(data: Sequence[int], at: int) -> tuple[int, int]:
    """(the signed number at `at`, where it ends).  Raises IndexError at the data's end."""
    value, end = uleb(data, at)
    return (value - (1 << 7 * (end - at)) if data[end - 1] & 64 else value), end
