"""The rows of `faultkit doctor`'s table."""

from __future__ import annotations

from faultkit.record import NamedTuple

OK = "ok"
WARNING = "warning"  # faultkit works, with less
MISSING = "missing"  # faultkit, or an important part of it, does not work


class Row(NamedTuple):
    """One thing checked: its status, what was found, and the command that mends it."""

    name: str
    status: str
    detail: str
    remedy: str | None = None
