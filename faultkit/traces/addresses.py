"""Plain hexadecimal addresses, one or several a line, and symbol+offset as one would type it."""

from __future__ import annotations

import re

from faultkit.decode.model import Address
from faultkit.traces.events import Event, Place

_ADDRESS = re.compile(r"(?:0x)?[0-9a-fA-F]{1,16}$")
_PLAIN = re.compile(r"^\s*(?:#?\d+[:.)]? +)?(?:0x[0-9a-fA-F]{1,16}|[0-9a-fA-F]{8,16})"
                    r"(?:[\s,]+(?:0x[0-9a-fA-F]{1,16}|[0-9a-fA-F]{8,16}))*[\s,]*$")  # fmt: skip
_WORD = re.compile(r"0x[0-9a-fA-F]{1,16}|\b[0-9a-fA-F]{8,16}\b")
_SYMBOL = re.compile(
    r"(?P<symbol>[A-Za-z_.$][\w.$]*)(?:\+(?P<offset>0x[0-9a-fA-F]+|\d+))?"
    r"(?:/(?P<size>0x[0-9a-fA-F]+|\d+))?(?: ?\[(?P<module>[\w-]+)\])?$"
)


def events(text: str) -> list[Event] | None:
    """The addresses of a line that holds nothing else."""
    if not _PLAIN.match(text):
        return None
    return [Place(Address(int(word, 16)), "addresses") for word in _WORD.findall(text)]


def parse_word(word: str, exact: bool = False) -> Address | None:
    """What a word on a command line names: "ffffffff81000000", "schedule+0x31/0xc0",
    "ext4_sync_file+12 [ext4]"; None if it names nothing.  A function alone is its start."""
    if _ADDRESS.match(word) and (word.startswith("0x") or len(word) >= 8):
        return Address(int(word, 16), exact)
    match = _SYMBOL.match(word)
    if match is None:
        return None
    offset = int(match["offset"], 0) if match["offset"] else 0
    size = int(match["size"], 0) if match["size"] else None
    return Address(None, exact or not offset, match["symbol"], offset, size, match["module"])
