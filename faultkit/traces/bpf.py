"""bpftrace's kstack and ustack (src/resolve in bpftrace: `symbol+decimal`), and bcc's stacks."""

from __future__ import annotations

import re

from faultkit.decode.model import Address
from faultkit.traces.events import End, Event, Head, Place, module_name

_BEGIN = re.compile(r"^@\w*\[")
_END = re.compile(r"^(?:, .*)?\]: ")
_FRAME = re.compile(
    r"^\s+(?:b')?(?:(?:0x)?(?P<address>[0-9a-f]{12,16}) )?(?P<symbol>[A-Za-z_.$][\w.$]*)"
    r"\+(?P<offset>0x[0-9a-f]+|\d+)'?(?: [(\[](?P<module>[\w./-]+)[)\]])?'?\s*$"
)
_BARE = re.compile(r"^\s+(?:b')?(?P<symbol>[A-Za-z_][\w.$]*)'?(?: \(kernel\)| \[kernel\])\s*$")


def events(text: str) -> list[Event] | None:
    """A map's begin or end, or a frame."""
    if _BEGIN.match(text):
        return [Head("bpf", text.strip(), joins=False)]
    if _END.match(text):
        return [End()]
    match = _FRAME.match(text)
    if match is None:
        match = _BARE.match(text)
        return None if match is None else [Place(Address(symbol=match["symbol"]), "bpf")]
    offset = match["offset"]
    number = int(offset, 16 if offset.startswith("0x") else 10)
    address = int(match["address"], 16) if match["address"] else None
    module = module_name(match["module"])
    return [Place(Address(address, False, match["symbol"], number, None, module), "bpf")]
