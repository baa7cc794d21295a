"""The journal's own forms: `journalctl -o export` and `-o json`, one entry's message a line.

systemd's docs/JOURNAL_EXPORT_FORMATS.md: entries are apart by an empty line; a field is NAME=value,
or, if the value is no plain text, NAME, its length in 64 bits, and its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.klog.lines import Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MOST_FIELDS = 10_000_000
MOST_BYTES = 1 << 20  # of one field
_KERNEL = "kernel"
Entry = dict[str, str]


def is_journal(data: bytes) -> bool:
    """Whether these are entries of a journal, and not lines of text."""
    start = data[:512].lstrip(b"\n")
    return start.startswith(b"__CURSOR=") or (start.startswith(b"{") and b'"__' in data[:65536])


def journal_lines(data: bytes) -> list[Line]:
    """The entries' messages, with the time of the kernel's own clock where they have it; who else
    than the kernel said it is put before, as in `systemd[1]: `."""
    entries = _json_entries(data) if data.lstrip()[:1] == b"{" else _export_entries(data)
    return [line for entry in entries for line in _lines(entry)]


def _lines(entry: Entry) -> Iterator[Line]:
    message = entry.get("MESSAGE", "")
    if entry.get("_TRANSPORT", _KERNEL) != _KERNEL:
        name = entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM") or "?"
        message = f"{name}[{entry.get('_PID', '?')}]: {message}"
    time = _seconds(entry.get("__REALTIME_TIMESTAMP"))
    for text in message.split("\n"):
        yield Line(time, text)


def _seconds(microseconds: str | None) -> float | None:
    if microseconds is None or not microseconds.isdecimal() or len(microseconds) > 18:
        return None
    return int(microseconds) / 1e6


def _export_entries(data: bytes) -> Iterator[Entry]:
    entry: Entry = {}
    position = 0
    for _ in range(MOST_FIELDS):
        if position >= len(data):
            break
        end = data.find(b"\n", position)
        end = len(data) if end < 0 else end
        line = data[position:end]
        position = end + 1
        if not line:
            if entry:
                yield entry
            entry = {}
            continue
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(data[position : position + 8], "little")
            if size > MOST_BYTES or position + 8 + size > len(data):
                break
            value = data[position + 8 : position + 8 + size]
            position += 8 + size + 1
        entry[name.decode("ascii", "replace")] = value.decode("utf-8", "replace")
    if entry:
        yield entry


def _json_entries(data: bytes) -> Iterator[Entry]:
    import json

    for line in data.split(b"\n"):
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(fields, dict):
            yield {str(name): _text(value) for name, value in fields.items()}


def _text(value: Any) -> str:
    """A field's value: bytes that are no text are a list of numbers, several values a list."""
    if isinstance(value, list):
        if value and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
            return bytes(value).decode("utf-8", "replace")
        return _text(value[0]) if value and not isinstance(value[0], list) else ""
    return "" if value is None else str(value)
