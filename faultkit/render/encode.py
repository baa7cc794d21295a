"""JSON for Pythons without the json module, as the one inside PyKdump."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_NAMES = {None: "null", True: "true", False: "false"}
_ESCAPES = dict(zip('"\\\n\r\t\b\f', ('\\"', "\\\\", "\\n", "\\r", "\\t", "\\b", "\\f")))


def encode(value: Any, indent: str = "\n") -> str:
    """`value`, of what json.dumps() takes, as json.dumps(value, indent=2) writes it."""
    if value is None or isinstance(value, bool):
        return _NAMES[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return '"' + "".join(map(_character, value)) + '"'
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [f"{encode(str(key))}: {encode(item, deeper)}" for key, item in value.items()]
        return "{" + deeper + ("," + deeper).join(items) + indent + "}" if items else "{}"
    items = [encode(item, deeper) for item in value]
    return "[" + deeper + ("," + deeper).join(items) + indent + "]" if items else "[]"


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if 32 <= code < 127:
        return character
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"
