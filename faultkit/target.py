"""What a host must offer to the analyzers, and the errors it may raise."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress

from faultkit.model import Frame, SourceLine, Task
from faultkit.record import NamedTuple

PAGE = 1 << 12  # bytes


class FaultkitError(Exception):
    """An error for the user: one line that says what is wrong, and the remedy."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message if not remedy else f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy


class ReadError(FaultkitError):
    """Target memory that cannot be read."""

    def __init__(self, address: int, size: int) -> None:
        super().__init__(f"cannot read {size} bytes at {address:#x}")
        self.address = address
        self.size = size


class Mapping(NamedTuple):
    """One mapping of a process: [start, end), backed by `path` at `offset` bytes.

    `shared` is True, False, or None where the target does not tell (core files).
    `device` and `inode` are None where it does not tell.
    """

    start: int
    end: int
    offset: int
    path: str
    perms: str = ""
    device: str | None = None
    inode: int | None = None

    @property
    def shared(self) -> bool | None:
        return self.perms[3:4] == "s" if len(self.perms) > 3 else None


class Syscall(NamedTuple):
    """The system call that a task is blocked in; `sp` and `pc` are the user-space ones."""

    nr: int
    args: tuple[int, ...]
    sp: int
    pc: int


RUNNING = Syscall(-1, (), 0, 0)  # the task is not blocked: it runs, or is about to


class Local(NamedTuple):
    """A local variable that debug information tells of, in scope at its frame's pc.

    `pointers` maps member paths ("_M_device", "lock", "0.lock") to the integer values of its
    pointer and integer members; `line` is its declaration's line, `frame_line` the line the
    frame is at.
    """

    frame_index: int
    name: str
    type: str
    address: int | None
    pointers: dict[str, int]
    line: int | None
    frame_line: int | None
    function: str | None


class SignalMasks(NamedTuple):
    """A task's sets of signals, bit n-1 for signal n: pending for itself, pending for its whole
    process, blocked, ignored, handled.  None: not known."""

    pending: int | None = None
    shared: int | None = None
    blocked: int | None = None
    ignored: int | None = None
    caught: int | None = None


class Member(NamedTuple):
    """A pointer variable that debug information tells of ("conn->next"), and the member
    ("value", of the type "struct node") that an address calculated with it means."""

    pointer: str
    member: str
    type: str
    file: str | None = None
    line: int | None = None


class Process(ABC):
    """One process, live or from a core file.  Nothing here changes it.

    Every method may raise FaultkitError; reading garbage addresses raises ReadError.
    """

    pid: int
    kind: str = "process"  # or "core"
    live: bool = True  # /proc of this machine speaks of this process
    stopped: bool = False  # nothing moves while we look
    here: bool = True  # its mappings' paths name files of this machine
    _held: tuple[int, bytes] = (0, b"")  # a piece of memory, and its address

    def close(self) -> None:  # noqa: B027 - most keep nothing
        """Give back what is kept open between reads; it is opened again when needed."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The process or core by the name a user would give it: "4711", "core.4711"."""

    @abstractmethod
    def tasks(self) -> Sequence[Task]:
        """Its threads, as the target lists them."""

    @abstractmethod
    def syscall(self, task: Task) -> Syscall | None:
        """Where the task is blocked: a Syscall, RUNNING, or None when it can't be told."""

    def surely_blocked(self, task: Task) -> bool:
        """Whether a task that `syscall` shows as blocked is not just on its way out of the
        call.  Dearer than `syscall` where the two differ: for what is about to be claimed."""
        return True

    def cut_short(self, task: Task) -> bool:
        """Whether the stop, and nothing else, ended the task's call: a write of which only a part
        was done.  If the rest is not written, the task gets on."""
        return False

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`, all of them, or ReadError."""

    def hold(self, address: int, around: int) -> None:
        """Read the memory from `around` bytes before `address` to as many behind it, within its
        page: what lies in there is read from this one picture until `let_go`."""
        start = max(address - around, address & -PAGE)
        end = min(address + around, (address & -PAGE) + PAGE)
        self._held = (0, b"")
        with suppress(ReadError):
            self._held = (start, self.read(start, end - start))

    def prepare(self) -> None:  # noqa: B027 - most have it all
        """Load what symbols, lines and back traces are told with, ahead of the first one."""

    def let_go(self) -> None:
        """Read memory as it is, from here on."""
        self._held = (0, b"")

    def held(self, address: int, size: int) -> bytes | None:
        """The bytes, if they are held."""
        start, data = self._held
        at = address - start
        return data[at : at + size] if at >= 0 and at + size <= len(data) else None

    @abstractmethod
    def mappings(self) -> Sequence[Mapping]:
        """Its mappings in address order; empty where unknown."""

    def knows_mappings(self) -> bool:
        """Whether `mappings` has all that the process maps, and of which files, as far as can be
        told."""
        return bool(self.mappings())

    def code_mappings(self) -> Sequence[Mapping]:
        """The mappings of files, and whatever else can be executed, in address order: few, where
        thousands are threads' stacks."""
        return self.mappings()

    def files(self) -> Sequence[Mapping]:
        """The mappings of files, in address order."""
        return [mapping for mapping in self.code_mappings() if mapping.path.startswith("/")]

    def symbol(self, address: int) -> tuple[str, int, int | None] | None:
        """(name, offset, size or None) of the symbol that covers `address`, or None."""
        return None

    def line(self, address: int) -> SourceLine | None:
        """The source line of a code address by debug information, or None."""
        return None

    def frames(self, task: Task, limit: int = 64) -> tuple[Frame, ...]:
        """The task's back trace, innermost first, at most `limit` frames; () if unknown."""
        return ()

    def bare_frames(self, task: Task) -> tuple[Frame, ...]:
        """The same for inference: with the registers that unwinding recovers, perhaps without
        source lines, which take long to find and are asked for of few frames."""
        return self.frames(task)

    def registers(self, task: Task) -> dict[str, int]:
        """What is known of the task's registers now: "rip", "rsp", "rbx"...; may be partial."""
        return {}

    @property
    def pictured(self) -> bool:
        """Whether it is a core that was made of a process which lived on."""
        return False

    def struck(self) -> Task | None:
        """The task that the signal at hand has hit: that the core is of, or that has stopped."""
        return None

    def siginfo(self, task: Task) -> bytes | None:
        """The siginfo_t of the signal that the task has died of, or has stopped with."""
        return None

    def masks(self, task: Task) -> SignalMasks | None:
        """The task's pending, blocked, ignored and handled signals."""
        return None

    def queued(self, task: Task, shared: bool) -> Sequence[bytes] | None:
        """The siginfo_t of each signal that is pending for the task, or with `shared` for its
        process, in the order of sending; nothing is consumed.  None where they can't be seen."""
        return None

    def all_registers(self, task: Task) -> dict[str, int]:
        """The registers as they were when the signal came: the general ones, "rip", "eflags",
        "orig_rax", "fs_base", "gs_base"; {} if unknown."""
        return {}

    def seccomp_filters(self, task: Task) -> Sequence[bytes]:
        """The task's seccomp filters (struct sock_filter, ...), the newest first; () where they
        can't be had."""
        return ()

    def parent(self) -> int | None:
        """The process's parent, None if unknown."""
        return None

    def processor_seconds(self, task: Task) -> float | None:
        """The processor time that the task has used."""
        return None

    def auxv(self) -> dict[int, int]:
        """The auxiliary vector, {} if unknown."""
        return {}

    def members(
        self, task: Task, pointer: int, offset: int, pc: int | None = None
    ) -> Sequence[Member]:
        """The pointers in scope in the task's frame at `pc`, or in its innermost one, that are
        `pointer`, with the member at `offset` in what they point to, by debug information."""
        return ()

    def locals(self, task: Task, limit: int = 64) -> Sequence[Local]:
        """Local variables of composite type in the task's frames, by debug information."""
        return ()

    def limits(self) -> Sequence[str]:
        """What this target can't show, each with its remedy, in one line."""
        return ()

    def mapping(self, address: int) -> Mapping | None:
        """The mapping that holds `address`."""
        mappings = self.mappings()
        index = bisect_left(mappings, (address + 1,)) - 1  # the last that starts there or before
        if index >= 0 and address < mappings[index].end:
            return mappings[index]
        return None

    def u32(self, address: int) -> int:
        """The unsigned 32-bit word at `address`."""
        return int.from_bytes(self.read(address, 4), "little")

    def u64(self, address: int) -> int:
        """The unsigned 64-bit word at `address`."""
        return int.from_bytes(self.read(address, 8), "little")

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """`count` unsigned 64-bit words at `address`."""
        return struct.unpack(f"<{count}Q", self.read(address, 8 * count))
