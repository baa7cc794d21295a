"""What `sigsrc --kernel` says of a place that sends signals: plain data."""

from __future__ import annotations

from faultkit.model import SourceLine
from faultkit.record import NamedTuple


class Place(NamedTuple):
    """A place at `address` in `function` that sends one of `signals`: by calling `call`, or, where
    that is None, by marking it as pending itself.

    `codes` are the si_codes that it can give, where the code tells; `way` the functions from the
    called one to the one that queues the signal; `open` why a signal can't be told from the code:
    such a place sends what it is told.  `when` says in words when it is come to.  `lines` is the
    inline chain of the source, innermost first.  In a `module` the address is that in its section.
    """

    address: int
    function: str
    signals: tuple[int, ...]
    codes: tuple[int, ...] = ()
    call: str | None = None
    way: tuple[str, ...] = ()
    when: str = ""
    open: tuple[str, ...] = ()
    lines: tuple[SourceLine, ...] = ()
    module: str | None = None
    type: str = "sender"
