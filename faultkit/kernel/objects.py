"""Reading the kernel's C objects: members, lists and strings, all bounded, none trusted."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from faultkit.kernel.target import Kernel
from faultkit.target import FaultkitError, ReadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MOST_NODES = 10_000  # of one list; longer ones are taken as damaged


class UnknownLayout(FaultkitError):
    """This kernel's debug information lacks a type or member that is needed."""

    def __init__(self, type_name: str, member: str = "") -> None:
        place = f"{type_name}.{member}" if member else type_name
        super().__init__(
            f"this kernel has no {place}",
            "check that the debug kernel (vmlinux) is the dump's own",
        )


class BrokenList(FaultkitError):
    """A list that does not lead back to where it began, or whose links contradict each other."""


def need(kernel: Kernel, type_name: str, member: str) -> int:
    """The member's offset.  Raises UnknownLayout."""
    offset = kernel.offset(type_name, member)
    if offset is None:
        raise UnknownLayout(type_name, member)
    return offset


def first_offset(kernel: Kernel, *places: tuple[str, str]) -> int | None:
    """The offset of the first (type, member) that this kernel has: a member that moved or was
    renamed is asked for by its newest name first."""
    for type_name, member in places:
        offset = kernel.offset(type_name, member)
        if offset is not None:
            return offset
    return None


def pointer(kernel: Kernel, address: int, type_name: str, member: str) -> int:
    """The 64-bit member of the object at `address`.  Raises UnknownLayout, ReadError."""
    return kernel.u64(address + need(kernel, type_name, member))


def unsigned(kernel: Kernel, address: int, type_name: str, member: str) -> int:
    """An integer member of whatever size.  Raises UnknownLayout, ReadError."""
    offset = need(kernel, type_name, member)
    size = kernel.size(type_name, member) or 4
    return int.from_bytes(kernel.read(address + offset, min(size, 8)), "little")


def signed(value: int, bits: int = 64) -> int:
    """The two's complement reading of an unsigned value."""
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def is_kernel_pointer(value: int) -> bool:
    """Whether the value is a canonical address of x86_64's upper half (4 or 5 levels)."""
    return value >= 0xFF00_0000_0000_0000 and value < 0xFFFF_FFFF_FFFF_F000


def ring(kernel: Kernel, node: int, limit: int = MOST_NODES) -> Iterator[int]:
    """The list_heads after `node` until it comes round to it again, whichever of them is the
    list's head.  Raises BrokenList where a node's `prev` is not where we came from, or after
    `limit` nodes; ReadError for a garbage link."""
    before = node
    current = kernel.u64(node)
    for _ in range(limit):
        if not is_kernel_pointer(current) or current & 7:
            raise BrokenList(f"list at {node:#x}: {current:#x} is no list_head")
        following, previous = struct.unpack("<2Q", kernel.read(current, 16))
        if previous != before:
            raise BrokenList(f"list at {node:#x}: {current:#x} does not link back to {before:#x}")
        if current == node:
            return
        yield current
        before, current = current, following
    raise BrokenList(f"list at {node:#x} has no end within {limit} nodes")


def entries(kernel: Kernel, head: int, offset: int, limit: int = MOST_NODES) -> Iterator[int]:
    """The objects of a list by its head; `offset` is where the list_head lies in each.
    Raises as `ring` does."""
    for node in ring(kernel, head, limit):
        yield node - offset


def text(kernel: Kernel, address: int, limit: int = 256) -> str:
    """The string at `address`, at most `limit` bytes.  Raises ReadError."""
    for size in (limit, 64, 16, 1):
        try:
            raw = kernel.read(address, min(size, limit))
            return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
        except ReadError:
            continue
    raise ReadError(address, 1)


Members: TypeAlias = "str | tuple[str | None, ...]"  # one member, or its alternatives


class Layout:
    """Some members of one struct, read in one go.

    Each member is named by its path, or by alternatives, the newest first, of which the first
    that this kernel has counts; one that ends in None may be missing, and is then read as 0.
    Raises UnknownLayout where a member is missing.
    """

    def __init__(self, kernel: Kernel, type_name: str, *members: Members) -> None:
        self._kernel = kernel
        places = [self._place(type_name, member) for member in members]
        self._start = min((start for start, size in places if size), default=0)
        self._size = max((start + size for start, size in places), default=0) - self._start
        self._places = [
            (start - self._start, start - self._start + size) if size else (0, 0)
            for start, size in places
        ]
        self._struct = _as_struct(self._places)

    def _place(self, type_name: str, member: Members) -> tuple[int, int]:
        """(offset, size) of a member, (0, 0) if it may be missing and is."""
        names = (member,) if isinstance(member, str) else member
        for name in names:
            offset = self._kernel.offset(type_name, name) if name is not None else None
            if name is not None and offset is not None:
                return offset, min(self._kernel.size(type_name, name) or 8, 8)
        if names[-1] is None:
            return 0, 0
        raise UnknownLayout(type_name, str(names[0]))

    def read(
        self, address: int, read: Callable[[int, int], bytes] | None = None
    ) -> tuple[int, ...]:
        """The members of the object at `address`, as unsigned integers; `read` instead of the
        kernel's own, if given.  Raises ReadError."""
        return self._values((read or self._kernel.read)(address + self._start, self._size))

    def read_each(self, addresses: Iterable[int]) -> list[tuple[int, ...] | None]:
        """The same of many objects; None for those that can't be read."""
        start, size = self._start, self._size
        found = self._kernel.read_each([(address + start, size) for address in addresses])
        return [self._values(data) if data is not None else None for data in found]

    def _values(self, data: bytes) -> tuple[int, ...]:
        if self._struct is not None:
            return self._struct.unpack(data)
        convert = int.from_bytes
        return tuple([convert(data[start:end], "little") for start, end in self._places])

    def offset(self, index: int) -> int:
        """Where the member with that index lies."""
        return self._places[index][0] + self._start


def _as_struct(places: list[tuple[int, int]]) -> struct.Struct | None:
    """What unpacks the places [start, end) in one go, if they are in order and of usual sizes."""
    letters = {1: "B", 2: "H", 4: "I", 8: "Q"}
    form, at = "<", 0
    for start, end in places:
        if start < at or end - start not in letters:
            return None
        form += f"{start - at}x{letters[end - start]}"
        at = end
    return struct.Struct(form)
