"""What a host must offer to look at a kernel, dumped or live."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence

from faultkit.model import Frame, SourceLine, Task
from faultkit.record import NamedTuple
from faultkit.target import ReadError


class Symbol(NamedTuple):
    """The symbol that covers an address; `module` is None for the kernel proper."""

    name: str
    offset: int
    module: str | None = None


class Slab(NamedTuple):
    """An object of a slab allocator: the name of its cache, and where it starts."""

    cache: str
    start: int


class Kernel(ABC):
    """One kernel.  Nothing here changes it.

    Addresses are kernel virtual ones where nothing else is said.  Reading garbage raises
    ReadError; what debug information does not have is None, and asking again costs nothing.
    """

    kind: str = "vmcore"  # or "live-kernel"
    live: bool = False  # it moves while we look
    release: str | None = None  # as `uname -r` says

    @property
    @abstractmethod
    def name(self) -> str:
        """The dump by the name that a user would give it."""

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`, all of them, or ReadError."""

    @abstractmethod
    def read_user(self, task: Task, address: int, size: int) -> bytes:
        """`size` bytes at the user-space `address` of the task's process.  ReadError where the
        dump left user pages out, or the page was swapped out."""

    @abstractmethod
    def symbol(self, name: str) -> int | None:
        """The address of a symbol; per-CPU ones as the kernel has them (see `per_cpu`)."""

    @abstractmethod
    def symbol_at(self, address: int) -> Symbol | None:
        """The symbol that covers `address`, code or data, modules' too."""

    @abstractmethod
    def function_bounds(self, address: int) -> tuple[int, int] | None:
        """[start, end) of the function that covers a code address."""

    @abstractmethod
    def offset(self, type_name: str, member: str) -> int | None:
        """Offset in bytes of a member in a struct or union ("mutex", "wait_list.next"); members
        of anonymous structs count as the outer one's.  None: this kernel has none."""

    @abstractmethod
    def size(self, type_name: str, member: str | None = None) -> int | None:
        """Size in bytes of a struct, union or typedef, or of a member of it."""

    @abstractmethod
    def enumerator(self, name: str) -> int | None:
        """The value of an enumeration constant."""

    @abstractmethod
    def tasks(self) -> Sequence[Task]:
        """All tasks (threads), the CPUs' idle tasks (pid 0) included, each with its `address`,
        `cpu` and name, without `state`."""

    @abstractmethod
    def running(self) -> dict[int, Task]:
        """The task on each CPU, by the CPU's number."""

    @abstractmethod
    def per_cpu(self, address: int, cpu: int) -> int:
        """Where the CPU's copy of a per-CPU variable is."""

    @abstractmethod
    def frames(self, task: Task, limit: int = 64) -> tuple[Frame, ...]:
        """The task's kernel back trace, innermost first; () if it can't be told.

        `sp` is the stack pointer in the frame: where its pc is a return address, that lies in the
        word below (crash's `bt` prints the word's address in brackets).  A task on a CPU begins
        where the dump's registers have that CPU.  `registers` are all registers of a frame that
        an interrupt or exception stopped, where the host knows them.
        """

    @abstractmethod
    def registers(self, cpu: int) -> dict[str, int]:
        """The CPU's registers as the dump recorded them ("rip", "rsp", "rax"...); {} if not."""

    def line(self, address: int) -> SourceLine | None:
        """The source line of a code address, as debug information has it."""
        return None

    def slab(self, address: int) -> Slab | None:
        """The slab allocator's object that `address` lies in, in use or free."""
        return None

    def limits(self) -> Sequence[str]:
        """What can't be seen in this dump, each with its remedy, in one line."""
        return ()

    def u32(self, address: int) -> int:
        """The unsigned 32-bit word at `address`."""
        return int.from_bytes(self.read(address, 4), "little")

    def u64(self, address: int) -> int:
        """The unsigned 64-bit word at `address`."""
        return int.from_bytes(self.read(address, 8), "little")

    def read_each(self, pieces: Sequence[tuple[int, int]]) -> list[bytes | None]:
        """What `read` returns for each (address, size), None where it would raise ReadError: a
        host may have a quick way for thousands of them."""
        found: list[bytes | None] = []
        for address, size in pieces:
            try:
                found.append(self.read(address, size))
            except ReadError:
                found.append(None)
        return found

    def words_of_each(
        self, pieces: Sequence[bytes], most: int, *ranges: tuple[int, int]
    ) -> list[bytes]:
        """The 64-bit words in the first `most` bytes of each piece that lie in one of the ranges
        [start, end), of which there are at most four, in their order."""
        found = []
        for data in pieces:
            words = struct.unpack_from(f"<{min(most, len(data)) // 8}Q", data)
            kept = [word for word in words if any(start <= word < end for start, end in ranges)]
            found.append(struct.pack(f"<{len(kept)}Q", *kept))
        return found

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """`count` unsigned 64-bit words at `address`."""
        return struct.unpack(f"<{count}Q", self.read(address, 8 * count))
