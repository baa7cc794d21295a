"""The code of a mapped file, to compare what is in memory with it."""

from __future__ import annotations

from faultkit.code.elf import PT_LOAD
from faultkit.signals.case import Case


def file_bytes(case: Case, address: int, size: int) -> bytes | None:
    """What the mapped file has for the address, None if that file can't be found."""
    image = case.code.images.at(address)
    file = image.file if image is not None else None
    if image is None or file is None:
        return None
    place = address - image.bias
    for segment in file.segments:
        at = place - segment.address
        if segment.type == PT_LOAD and at >= 0 and at + size <= segment.file_size:
            return bytes(file.data[segment.offset + at : segment.offset + at + size])
    return None
