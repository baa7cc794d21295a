"""Stacks of ftrace's stacktrace option and events (kernel/trace/trace_output.c,
trace_stack_print()), of trace-cmd, and of the stack tracer (kernel/trace/trace_stack.c)."""

from __future__ import annotations

import re

from faultkit.decode.model import Address
from faultkit.traces.events import End, Event, Head, Place, Skip, module_name

_HEAD = re.compile(
    r"^\s*(?P<comm>\S.{0,63}?)-(?P<pid>\d+) +(?:\([ \d-]+\) +)?\[(?P<cpu>\d+)\].*"
    r"(?:kernel_stack:|<stack trace ?>)"
)
_EVENT = re.compile(r"^\s*(?P<comm>\S.{0,63}?)-(?P<pid>\d+) +(?:\([ \d-]+\) +)?\[(?P<cpu>\d+)\]\s")
_FRAME = re.compile(
    r"^\s*=> (?P<symbol>[A-Za-z_.$][\w.$]*)?(?:\+0x(?P<offset>[0-9a-f]+))?"
    r"(?:/0x(?P<size>[0-9a-f]+))?(?: ?\[(?P<module>[\w-]+)\])?"
    r"(?: *[<(]?(?:0x)?(?P<address>[0-9a-f]{8,16})[>)]?)?\s*$"
)
_DEPTH = re.compile(r"^\s*Depth +Size +Location")
_DEPTH_FRAME = re.compile(
    r"^\s*\d+\)\s+\d+\s+\d+\s+(?P<symbol>[\w.$]+)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)"
    r"(?: \[(?P<module>[\w-]+)\])?(?P<address>)\s*$"
)


def events(text: str) -> list[Event] | None:
    """A stack's head or one of its frames."""
    match = _FRAME.match(text) or _DEPTH_FRAME.match(text)
    if match is not None and (match["symbol"] or match["address"]):
        offset, size, address = match["offset"], match["size"], match["address"]
        return [
            Place(
                Address(
                    int(address, 16) if address else None,
                    False,
                    match["symbol"],
                    int(offset, 16) if offset else None,
                    int(size, 16) if size else None,
                    module_name(match["module"]),
                ),
                "ftrace",
            )
        ]
    match = _HEAD.match(text)
    if match is not None:
        title = text.strip()
        comm = match["comm"].strip()
        return [Head("ftrace", title, comm, int(match["pid"]), int(match["cpu"]), joins=False)]
    if _DEPTH.match(text):
        return [Head("ftrace", "stack tracer", joins=False)]
    if text.strip() in ("<stack trace>", "<stack trace >"):
        return [Skip()]
    return [End()] if _EVENT.match(text) else None
