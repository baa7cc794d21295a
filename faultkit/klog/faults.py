"""Lines about programs that died of a fault: show_signal_msg() in arch/x86/mm/fault.c, do_trap() in
arch/x86/kernel/traps.c, signal_fault() in arch/x86/kernel/signal.c, of 3.10 to 7.x.

The number behind a name is a thread's id.
"""

from __future__ import annotations

import re

from faultkit.record import NamedTuple

_FILE = (
    r"(?: in (?P<file>.*?)\[(?:(?P<offset>[0-9a-f]+),)?(?P<base>[0-9a-f]+)\+(?P<size>[0-9a-f]+)\])?"
)
_PAGE_FAULT = re.compile(
    r"(?:traps: )?(?P<name>.{1,32}?)\[(?P<tid>\d+)\]:? segfault at "
    r"(?P<address>[0-9a-f]+|\(null\)) ip (?P<ip>[0-9a-f]+|\(null\)) "
    r"sp (?P<sp>[0-9a-f]+|\(null\)) error (?P<error>[0-9a-f]+)" + _FILE
)
_TRAP = re.compile(
    r"(?:traps: )?(?P<name>.{1,32}?)\[(?P<tid>\d+)\]:? (?:trap )?(?P<trap>general protection(?: "
    r"fault)?|divide error|invalid opcode|int3|debug|overflow|bounds|stack segment|"
    r"segment not present|invalid TSS|coprocessor segment overrun|alignment check|"
    r"control protection|simd exception|fpu exception|stack-overflow|iret exception|"
    r"coprocessor error)(?: address 0x(?P<address>[0-9a-f]+))?"
    r" (?:ip:|rip:|ip )(?P<ip>[0-9a-f]+) (?:sp:|rsp:|sp )(?P<sp>[0-9a-f]+) "
    r"(?:error:|error |ssp:[0-9a-f]+ error:)(?P<error>[0-9a-f]+)(?:\([^)]*\))?" + _FILE
)
_FRAME = re.compile(
    r"(?P<name>.{1,32}?)\[(?P<tid>\d+)\] bad frame in (?P<trap>\S+) frame:\S+ ip:(?P<ip>[0-9a-f]+) "
    r"sp:(?P<sp>[0-9a-f]+) orax:[0-9a-f]+" + _FILE
)
_ALTSTACK = re.compile(r"(?P<name>.{1,32}?)\[(?P<tid>\d+)\] overflowed sigaltstack")


class Fault(NamedTuple):
    """A thread that died of an exception.  `trap` is the line's word for it, "page fault" for
    segfault lines; `error` the CPU's error code.  `file` is what was mapped at `ip`: `base` is
    where the mapping begins, `offset` that of `ip` in the file, where the line tells."""

    name: str
    tid: int
    trap: str
    ip: int | None
    sp: int | None
    address: int | None
    error: int
    file: str | None = None
    base: int | None = None
    offset: int | None = None


def parse_fault(text: str) -> Fault | None:
    """The line's fault, None if it is none."""
    if "[" not in text:
        return None
    if "segfault at" in text:
        match = _PAGE_FAULT.search(text)
        return _fault(match, "page fault") if match else None
    match = _ALTSTACK.search(text) if "sigaltstack" in text else None
    if match is not None:
        return Fault(match["name"].strip(), int(match["tid"]), "sigaltstack", None, None, None, 0)
    if " ip" not in text and "rip:" not in text:
        return None
    match = _TRAP.search(text)
    if match is not None:
        return _fault(match, match["trap"])
    match = _FRAME.search(text) if "bad frame in" in text else None
    return _fault(match, "bad frame") if match is not None else None


def _fault(match: re.Match[str], trap: str) -> Fault:
    groups = match.groupdict()
    return Fault(
        groups["name"].strip(),
        int(groups["tid"]),
        trap,
        _hex(groups.get("ip")),
        _hex(groups.get("sp")),
        _hex(groups.get("address")),
        _hex(groups.get("error")) or 0,
        groups.get("file"),
        _hex(groups.get("base")),
        _hex(groups.get("offset")),
    )


def _hex(text: str | None) -> int | None:
    if text is None:
        return None
    return 0 if text == "(null)" else int(text[:16], 16)
