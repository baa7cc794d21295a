"""The words on a stack: what functions that were not unwound keep there."""

from collections.abc import Iterator

from faultkit.signals.case import Case
from faultkit.target import FaultkitError

MOST = 1 << 16  # bytes of a stack that are looked at
CHUNK = 1 << 12


def stack_words(case: Case, most: int = MOST) -> Iterator[tuple[int, int]]:
    """(address, 64-bit word) of the stack from rsp on, upwards."""
    start = case.registers.get("rsp", 0) & -8
    at = start
    while at < start + most:
        size = CHUNK - at % CHUNK
        try:
            words = case.process.words(at, size // 8)
        except FaultkitError:
            return
        for index, word in enumerate(words):
            yield at + 8 * index, word
        at += size


def text_at(case: Case, address: int, most: int = 512) -> str:
    """The text at an address up to its null byte; "" if there is none that can be printed."""
    data = b""
    while len(data) < most:
        size = min(64 - (address + len(data)) % 64, most - len(data))  # never over a page's end
        try:
            piece = case.process.read(address + len(data), size)
        except FaultkitError:
            return ""
        data += piece
        if b"\0" in piece:
            break
    text = data.split(b"\0")[0].decode("utf-8", "replace")
    return text if text.strip() and all(c.isprintable() or c in "\n\t" for c in text) else ""
