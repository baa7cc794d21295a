"""`perf script`'s samples (tools/perf/util/evsel_fprintf.c, sample__fprintf_callchain()), and
bcc's and bpftrace's perf mode, which print the same."""

from __future__ import annotations

import re

from faultkit.decode.model import Address
from faultkit.traces.events import KERNEL_HALF, End, Event, Head, Place, module_name

_HEAD = re.compile(
    r"^(?P<comm>\S.{0,63}?) +(?P<pid>\d+)(?:/(?P<tid>\d+))? +(?:\[(?P<cpu>\d+)\] +)?"
    r"(?:[\w.]{4,8} +)?\d+\.\d+: +(?:\d+ +)?[\w:.\-/=,*]+:"
)
_FRAME = re.compile(
    r"^\s+(?P<address>[0-9a-f]{4,16}) (?P<symbol>\[unknown\]|\S.*?)(?:\+0x(?P<offset>[0-9a-f]+))? "
    r"\((?P<where>\[?[^()]*\]?)\)(?: srcline.*)?$"
)
_INLINED = re.compile(r"^\s+(?:[0-9a-f]+ )?\S+ \(inlined\)$")


def events(text: str) -> list[Event] | None:
    """A sample's head or one of its frames."""
    match = _FRAME.match(text)
    if match is not None:
        if match["where"] == "inlined":
            return []
        return _frame(match)
    if _INLINED.match(text):
        return []
    match = _HEAD.match(text)
    if match is not None:
        pid = int(match["tid"] or match["pid"])
        cpu = int(match["cpu"]) if match["cpu"] else None
        return [End(), Head("perf", text.strip(), match["comm"], pid, cpu, joins=False)]
    return None


def _frame(match: re.Match[str]) -> list[Event]:
    address = int(match["address"], 16)
    symbol = None if match["symbol"] == "[unknown]" else match["symbol"]
    offset = int(match["offset"], 16) if match["offset"] else None
    module = _module(match["where"], address)
    return [Place(Address(address, False, symbol, offset, None, module), "perf")]


def _module(where: str, address: int) -> str | None:
    """A module's name, None for the kernel; a path for user code."""
    if address < KERNEL_HALF:  # also without a file: [vdso], //anon, [unknown]
        return where if where.startswith("/") else f"/{where}"
    file = where.rpartition("/")[2]
    if where.startswith(("[kernel.", "[guest.kernel.")) or file.startswith("vmlinux"):
        return None
    return module_name(file.strip("[]").partition(".ko")[0])
