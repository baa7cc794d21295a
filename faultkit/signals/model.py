"""What `sigsrc` says of a signal: plain data, the same for every host."""

from __future__ import annotations

from faultkit.model import PROVEN, Frame, Task
from faultkit.record import NamedTuple
from faultkit.signals.names import code_name, signal_name

# Who or what sent it: the words of a report's "origin".
FAULT = "fault"  # an instruction of the program's own
KILL, TGKILL, SIGQUEUE = "kill", "tgkill", "sigqueue"
TIMER, RLIMIT, PIPE, SECCOMP, ABORT = "timer", "rlimit", "pipe", "seccomp", "abort"
TERMINAL, PARENT_DEATH, OOM_KILLER = "terminal", "parent-death", "oom-killer"
CHILD = "child"  # SIGCHLD: a child ended, stopped or went on
IO_READY = "io"  # SIGIO and SIGURG: a descriptor is ready
DEBUGGER = "debugger"
KERNEL, UNKNOWN = "kernel", "unknown"

# What became of it: the words of "state".
FATAL = "fatal"  # it ended the process, or will when it is delivered
DELIVERED = "delivered"  # the program's handler has it, or had it
PENDING = "pending"  # sent, not taken yet
BLOCKED = "blocked"  # pending, and kept off by the signal mask
STOPPED = "stopped"  # it stopped the process


class Sender(NamedTuple):
    """Who sent a signal.  `uid` is the real user id at the time; `name` and `user` are what the
    pid means now, None where that can't be told or is not the same process any more.  `fate`
    says in words what has become of it; `itself` whether it is the receiver's own process;
    `alive` and `reused` (its pid is another's now) are None where that can't be told.  `here` is
    its pid outside of the receiver's container, where that is another one."""

    pid: int
    uid: int | None = None
    name: str | None = None
    user: str | None = None
    itself: bool = False
    alive: bool | None = None
    reused: bool | None = None
    fate: str = ""
    here: int | None = None

    @property
    def own_pid(self) -> int:
        """The pid by which commands given here find it."""
        return self.pid if self.here is None else self.here


class Table(NamedTuple):
    """Something that is shown as it was found: `rows` of values under their `columns`; without
    columns each row is a line.  `chosen` is the row that the finding is about."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...] = ()
    chosen: int | None = None


class SignalFinding(NamedTuple):
    """One signal: where it came from and why.

    `code` is si_code as a number, None where no siginfo is there.  `cause` is the finer kind of
    the origin ("null-pointer", "stack-overflow", "assertion"...).  `address` is what a fault
    was about: si_addr, or what the instruction's operand says where the processor gives none.
    `value` is sigqueue's.  `times` signals are alike.  `shared` tells a pending signal of the
    whole process.  `place` is where the program's own code was;
    `within` is the number of the signal whose handler ran when this one came.
    """

    task: Task
    number: int
    origin: str
    explanation: str
    code: int | None = None
    cause: str | None = None
    sender: Sender | None = None
    address: int | None = None
    value: int | None = None
    state: str = FATAL
    confidence: str = PROVEN
    evidence: tuple[str, ...] = ()
    next: str = ""
    frames: tuple[Frame, ...] = ()
    place: str | None = None
    within: int | None = None
    shared: bool = False
    times: int = 1
    when: float | None = None  # seconds since 1970 or since boot, as a log has it
    tables: tuple[Table, ...] = ()
    type: str = "signal"

    @property
    def signal(self) -> str:
        """The signal's name."""
        return signal_name(self.number)

    @property
    def code_name(self) -> str | None:
        """si_code's name."""
        return None if self.code is None else code_name(self.number, self.code)
