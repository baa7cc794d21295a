"""What a CrashKernel needs of crash: plain values, by C (embedded.py) or by PyKdump's modules."""

from __future__ import annotations

from abc import ABC, abstractmethod

from faultkit.record import NamedTuple


class BridgeError(Exception):
    """crash refused; what it said."""


class Listed(NamedTuple):
    """A task as crash lists it: address of its task_struct, ids, name, CPU."""

    address: int
    tid: int
    pid: int
    name: str
    cpu: int


class Bridge(ABC):
    """crash, from inside.  Nothing is remembered here; every method may raise BridgeError."""

    version: str  # of crash
    dumpfile: str | None  # as it was named; None on a live system
    namelist: str | None  # the vmlinux
    live: bool

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """Kernel virtual memory, all of it."""

    def read_each(self, pieces: list[tuple[int, int]]) -> list[bytes | None] | None:
        """As Kernel.read_each; None if there is no quicker way than to read one by one."""
        return None

    def words_of_each(
        self, pieces: list[bytes], most: int, *ranges: tuple[int, int]
    ) -> list[bytes] | None:
        """As Kernel.words_of_each; None if there is no quicker way than Python's."""
        return None

    @abstractmethod
    def read_physical(self, address: int, size: int) -> bytes:
        """Physical memory, all of it."""

    @abstractmethod
    def translate(self, task: int, address: int) -> tuple[int | None, bool]:
        """The physical address behind a user-space one, in the process of the task_struct `task`,
        or None; and whether its page was swapped out."""

    @abstractmethod
    def symbol(self, name: str) -> int | None:
        """The address of a symbol."""

    @abstractmethod
    def lookup(self, address: int) -> tuple[str, int, str | None] | None:
        """(name, offset, module) of the symbol before `address`."""

    @abstractmethod
    def bounds(self, address: int) -> tuple[int, int] | None:
        """[start, end): from the symbol before `address` to the next one."""

    @abstractmethod
    def line(self, address: int) -> str:
        """ "FILE: LINE" of a code address, or ""."""

    @abstractmethod
    def offset(self, type_name: str, member: str) -> int | None:
        """Offset in bytes of a direct member of a struct, union or typedef."""

    @abstractmethod
    def size(self, type_name: str, member: str | None = None) -> int | None:
        """Size in bytes of a type, or of a direct member of it."""

    def member_type(self, type_name: str, member: str) -> str | None:
        """The name of a direct member's type, of a pointer's target; None if it has none."""
        return None

    @abstractmethod
    def enumerator(self, name: str) -> int | None:
        """The value of an enumeration constant."""

    @abstractmethod
    def tasks(self, tgid_offset: int) -> list[Listed]:
        """All tasks that crash knows; `tgid_offset` is that of task_struct.tgid."""

    def btf_index(self, types: bytes) -> tuple[bytes, bytes]:
        """faultkit.code.btf.index(), or a faster one."""
        from faultkit.code.btf import index

        return index(types)

    def debug_files(self) -> list[str]:
        """The files whose debug information is loaded; [] if that is not known."""
        return []

    def module_files(self) -> list[str]:
        """The files that `mod -s` has loaded; none in a session with --no_modules."""
        try:
            modules = self.run("mod").splitlines()[1:]
        except BridgeError:
            return []
        return [line.split(None, 4)[4].strip() for line in modules if "/" in line]

    @abstractmethod
    def run(self, command: str) -> str:
        """What a command of crash prints; BridgeError with its error message, if any."""

    @abstractmethod
    def gdb(self, command: str) -> str:
        """What a command of the gdb in crash prints."""
