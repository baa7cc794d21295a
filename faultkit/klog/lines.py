"""Lines of a kernel log as dmesg, journalctl, syslog, a serial console or /dev/kmsg give them,
without what these put before the text."""

from __future__ import annotations

import calendar
import os
import re
import time as clock
from collections.abc import Iterable, Iterator

from faultkit.record import NamedTuple


class Line(NamedTuple):
    """`time` in seconds: since boot, or since 1970, whichever the log has; None without any.
    `caller` is who printed it, where the kernel says so: "T4711", a thread, or "C3", a CPU in an
    interrupt (CONFIG_PRINTK_CALLER)."""

    time: float | None
    text: str
    caller: str | None = None


_ISO = r"(?P<iso>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
_HOST = r"\S+ kernel(?:\[\d+\])?: ?"
_STAMP = r"\[ *\d+\.\d{6}(?:@\d+)?\]"
_PREFIXES = (
    re.compile(r"<\d{1,3}>"),
    re.compile(
        r"\d+,\d+,(?P<microseconds>\d+),(?:[^;]*,caller=(?P<record>[TC]\d+))?[^;]*;"  # /dev/kmsg
    ),
    re.compile(r"(?:kern|user|daemon|syslog|local\d) {0,3}:[a-z]+ {0,3}: ?"),  # dmesg -x
    re.compile(r"\[ *(?P<seconds>\d+\.\d+)(?:@\d+)?\] ?"),
    re.compile(r"\[ *(?P<caller>[TC]\d+)\] ?"),
    re.compile(
        r"\[\w{3} (?P<date>\w{3} +\d+ \d\d:\d\d:\d\d \d{4})\] ?"  # dmesg -T
    ),
    re.compile(rf"1 {_ISO} \S+ kernel \S+ \S+ (?:-|\[[^\]]*\]) ?"),  # RFC 5424
    re.compile(rf"(?:[A-Z][a-z]{{2}} )?{_ISO} (?:[A-Z]{{3,5}} )?(?:{_HOST})?"),
    re.compile(rf"\[{_ISO}\] ?"),  # what records a console
    re.compile(
        rf"(?:\d{{4}} )?(?P<short>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d)(?:\.\d+)? {_HOST}"
    ),
    re.compile(rf"\d{{10}}\.\d+ {_HOST}"),  # journalctl -o short-unix
    re.compile(rf"{_HOST}(?=\S|  )"),
    # The kernel's own stamp: what stands before it are the marks of grep, cat -n, a mail, a page.
    re.compile(rf"[^\[\]]{{1,80}}?(?={_STAMP} )"),
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")
_FORMATS = {"date": "%b %d %H:%M:%S %Y", "iso": "%Y-%m-%dT%H:%M:%S", "short": "%Y %b %d %H:%M:%S"}


def parse_line(line: str) -> Line:
    """The line's time, text and caller; blanks that indent the text stay."""
    time: float | None = None
    caller: str | None = None
    rest = line.rstrip("\r\n").lstrip("\ufeff")
    if "\x1b" in rest:
        rest = _COLOUR.sub("", rest)
    for _ in range(6):
        for pattern in _PREFIXES:
            match = pattern.match(rest)
            if match:
                found = _time(match)
                time = found if found is not None else time
                groups = match.groupdict()
                caller = groups.get("caller") or groups.get("record") or caller
                rest = rest[match.end() :]
                break
        else:
            break
    return Line(time, rest, caller)


def parse_lines(text: str) -> Iterator[Line]:
    """The lines of a log; \\n ends a line, nothing else does."""
    return map(parse_line, text.split("\n"))


def _time(match: re.Match[str]) -> float | None:
    for name, value in match.groupdict().items():
        if not value or name in ("caller", "record"):
            continue
        if name == "seconds":
            return float(value)
        if name == "microseconds":
            return int(value) / 1e6
        if name == "short":  # which has no year: differences are all that is asked for
            value = "2000 " + value
        value = value.replace("T", " ", 1) if name == "iso" else value
        form = _FORMATS[name].replace("T", " ", 1) if name == "iso" else _FORMATS[name]
        try:
            return float(calendar.timegm(clock.strptime(value, form)))
        except ValueError:
            return None
    return None


def kernel_messages() -> list[Line]:
    """This machine's kernel log by /dev/kmsg, the oldest first; [] if it may not be read."""
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return [parse_line(record) for record in _records(fd)]
    finally:
        os.close(fd)


def _records(fd: int) -> Iterable[str]:
    for _ in range(1 << 17):
        try:
            record = os.read(fd, 8192)
        except BrokenPipeError:  # overwritten while we read
            continue
        except OSError:
            return
        yield record.split(b"\n", 1)[0].decode("utf-8", "replace")
