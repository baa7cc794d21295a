"""`bt` of crash (kernel.c, print_stack_entry()) and of gdb."""

from __future__ import annotations

import re

from faultkit.decode.model import Address
from faultkit.traces.events import Event, Head, Place, Registers, Skip, module_name

_CRASH_HEAD = re.compile(
    r'^PID: (?P<pid>\d+) +TASK: (?P<task>[0-9a-f]+) +CPU: (?P<cpu>\d+) +COMMAND: "(?P<name>.*)"'
)
_CRASH_FRAME = re.compile(
    r"^ *#\d+ (?:\[[0-9a-f]+\] )?(?P<symbol>[^\s+]+)(?:\+(?P<offset>\d+|0x[0-9a-f]+))? "
    r"(?:\(.*?\) )?at (?P<address>[0-9a-f]{8,16})(?: \[(?P<module>[^\]]+)\])?\s*$"
)
_EXCEPTION = re.compile(
    r"^ *\[exception RIP: (?:(?P<symbol>[^\s+\]]+)(?:\+(?P<offset>\d+|0x[0-9a-f]+))?"
    r"|(?P<other>.*))\]"
)
_CRASH_REGISTERS = re.compile(r"^ {3,}(?:RIP|RAX|RDX|RBP|R10|R13|ORIG_RAX): [0-9a-f]")
_REGISTER = re.compile(r"\b(ORIG_RAX|R[A-Z0-9]{1,2}|RFLAGS|CS|SS): ([0-9a-f]{4,16})\b")
_CRASH_LINE = re.compile(r"^ {4,}/\S+: \d+\s*$|^ *--- .* ---")
_GDB_HEAD = re.compile(r"^Thread (?P<number>[\d.]+) \((?P<name>.*)\):$")
_GDB_FRAME = re.compile(
    r"^#(?P<number>\d+) +(?:0x(?P<address>[0-9a-f]+) in )?(?P<symbol>\?\?|[^\s(]+)"
    r"(?: <.*?>)? \((?P<rest>.*)$"
)


def events(text: str) -> list[Event] | None:
    """A back trace's head, one of its frames, or registers."""
    match = _CRASH_HEAD.match(text)
    if match is not None:
        name, pid, cpu = match["name"], int(match["pid"]), int(match["cpu"])
        return [Head("bt", text.strip(), name, pid, cpu, joins=False)]
    match = _CRASH_FRAME.match(text)
    if match is not None:
        return [Place(_crash_address(match), "bt")]
    match = _EXCEPTION.match(text)
    if match is not None:
        if match["symbol"] is None or match["symbol"] == "unknown":
            return [Skip()]
        offset = _number(match["offset"]) or 0
        return [Place(Address(None, True, match["symbol"], offset), "bt")]
    if _CRASH_REGISTERS.match(text):
        values = {name.lower(): int(value, 16) for name, value in _REGISTER.findall(text)}
        return [Registers({_plain(name): value for name, value in values.items()})]
    if _CRASH_LINE.match(text):
        return [Skip()]
    match = _GDB_HEAD.match(text)
    if match is not None:
        return [Head("bt", text.strip(), joins=False)]
    match = _GDB_FRAME.match(text)
    if match is None:
        return None
    first = match["number"] == "0"
    symbol = None if match["symbol"] == "??" else match["symbol"]
    begin: list[Event] = [Head("bt", joins=True)] if first else []
    if match["address"] is None and not first:
        return [Skip()]  # an inlined function: the chain of the one that it is in shows it
    address = int(match["address"], 16) if match["address"] is not None else None
    return [*begin, Place(Address(address, first, symbol), "bt")]


def _crash_address(match: re.Match[str]) -> Address:
    address = int(match["address"], 16)
    module = module_name(match["module"])
    return Address(address, False, match["symbol"], _number(match["offset"]), None, module)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text, 16 if text.startswith("0x") else 10)


def _plain(name: str) -> str:
    return f"r{name[-1]}" if name in ("r08", "r09") else name
