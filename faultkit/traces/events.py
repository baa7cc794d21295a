"""What a line of text can mean to a trace."""

from __future__ import annotations

from faultkit.decode.model import Address, CodeBytes
from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


class Head(NamedTuple):
    """A trace begins, or is told more of.  `title` is the line that says what happened; with
    `joins` it goes on with a trace that has no frames yet."""

    kind: str
    title: str = ""
    task: str | None = None
    pid: int | None = None
    cpu: int | None = None
    release: str | None = None
    build_id: str | None = None
    joins: bool = True


class Aside(NamedTuple):
    """Something happened that is no part of the open trace, and has no back trace."""

    kind: str
    title: str


class Place(NamedTuple):
    """A frame.  `kind` is that of a trace that begins with it, where none is open."""

    address: Address
    kind: str = "stack"


class Registers(NamedTuple):
    """Registers by lower-case names; `user` those of user space, which are no trace's."""

    values: dict[str, int]
    user: bool = False


class Code(NamedTuple):
    """The bytes around the instruction."""

    code: CodeBytes


class Offset(NamedTuple):
    """What KASLR added to the kernel's addresses."""

    offset: int


class Foreign(NamedTuple):
    """The text is of a kernel of an architecture that is not decoded."""

    architecture: str


class Skip(NamedTuple):
    """A line that belongs to a trace, and says nothing about places."""


class End(NamedTuple):
    """The open trace is over."""


Event: TypeAlias = "Head | Aside | Place | Registers | Code | Offset | Foreign | Skip | End"

KERNEL_HALF = 1 << 63


def module_name(text: str | None) -> str | None:
    """A module's name, None for what stands for the kernel itself."""
    if not text or text.startswith(("kernel.", "guest.kernel.")) or text in ("kernel", "vmlinux"):
        return None
    return text
