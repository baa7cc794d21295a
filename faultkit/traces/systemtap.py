"""SystemTap's print_backtrace() (runtime/stack.c and sym.c of SystemTap)."""

from __future__ import annotations

import re

from faultkit.decode.model import Address
from faultkit.traces.events import Event, Place, Skip, module_name

_FRAME = re.compile(
    r"^\s*(?:Returning (?P<return>from|to) *: *)?0x(?P<address>[0-9a-f]{8,16}) : "
    r"(?P<symbol>[A-Za-z_.$][\w.$@]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+) "
    r"\[(?P<module>[^\]]+)\](?P<inexact> \(inexact\))?\s*$"
)
_BARE = re.compile(
    r"^\s*(?:Returning (?:from|to) *: *)?0x(?P<address>[0-9a-f]{8,16})(?: : 0x[0-9a-f]+)?"
    r"(?P<inexact> \(inexact\))?\s*$"
)


def events(text: str) -> list[Event] | None:
    """A frame."""
    match = _FRAME.match(text)
    if match is not None:
        return [
            Place(
                Address(
                    int(match["address"], 16),
                    match["return"] == "from",
                    match["symbol"],
                    int(match["offset"], 16),
                    int(match["size"], 16),
                    module_name(match["module"]),
                    bool(match["inexact"]),
                ),
                "systemtap",
            )
        ]
    match = _BARE.match(text)
    if match is not None and match["inexact"]:
        return [Place(Address(int(match["address"], 16), unreliable=True), "systemtap")]
    return [Skip()] if text.strip() == "(inexact)" else None
