"""What analyzers return: plain data, the same for every host, rendered elsewhere.

Addresses are integers in the target's address space; unknown values are None.  Everything that
comes by the thousand is a NamedTuple: importing and making dataclasses would cost a tenth of the
time that a command may take inside gdb.
"""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from faultkit.decode.model import DecodedTrace
    from faultkit.senders.model import Place as SenderPlace
    from faultkit.signals.model import SignalFinding
    from faultkit.target import SignalMasks

PROVEN = "proven"  # recorded by the lock itself or by the kernel
INFERRED = "inferred"  # concluded from the candidate's code and stack; evidence says how

FOUND = "found"
NOT_FOUND = "not-found"
INCONCLUSIVE = "inconclusive"


class Task(NamedTuple):
    """A thread (or single-threaded process), identified by the kernel's own thread id.

    `pid` is the thread group's id; `number` is the debugger's own name for it ("3" in gdb);
    `state` is the letter of /proc/PID/stat, None where the target does not hold it.  On a
    kernel, `address` is its task_struct's, `cpu` where it runs or ran last, `seconds` for how
    long it has been off the CPU.  Tasks with the same ids are equal, whatever else is known of
    them; the CPUs' idle tasks, which share one id, differ in address.
    """

    pid: int
    tid: int
    name: str | None = None
    state: str | None = None
    number: str | None = None
    address: int | None = None
    cpu: int | None = None
    seconds: float | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self[:2] == other[:2] and self.address == other.address

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return self.tid


class SourceLine(NamedTuple):
    """One level of an inline chain: where an address comes from in the source."""

    function: str | None
    file: str | None
    line: int | None
    column: int | None = None


class Frame(NamedTuple):
    """One frame of a back trace; `address` is the pc (a return address when index > 0).

    `sp` is the stack pointer in that frame and `registers` what unwinding recovered of the
    callee-saved ones; both serve inference and are not part of a report.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants here
    address: int
    symbol: str | None = None
    offset: int | None = None
    module: str | None = None
    inlines: tuple[SourceLine, ...] = ()
    sp: int | None = None
    function_start: int | None = None
    registers: dict[str, int] | None = None


class Lock(NamedTuple):
    """Something that is waited for.  `key` is its identity: equal keys are the same lock, also
    when two processes map it at different addresses."""

    kind: str
    address: int | None = None
    name: str | None = None
    key: tuple[Any, ...] | None = None

    @property
    def identity(self) -> tuple[Any, ...]:
        return self.key if self.key is not None else (self.kind, self.address, self.name)


# What has to happen for a wait to end.
HELD = "held"  # somebody holds it and has to let go, even where we can't see who
EVENT = "event"  # somebody has to act: signal, post, arrive, exit, answer
OUTSIDE = "outside"  # a timer, a device, a peer elsewhere: not another task that we could see


class Wait(NamedTuple):
    """One task's wait, and who would end it.

    `holders` are the tasks that must act; all of them, or with `any_of` just one; then `others`
    could act as well, though nothing says that they would. `fault` is the finding type when the
    lock itself tells that the wait cannot end ("corrupt-lock", "orphaned-lock", "lost-wakeup");
    `fault_detail` says it in words. `candidates` are tasks that may hold it though nothing
    records it; inference narrows them, to `suspects` where its signs do not suffice;
    `holder_count` is how many hold it by the lock's own count. `queued` tells a wait behind
    those who queue for the same lock, not behind its holder; `changing` one for a lock that
    names no holder at this moment, as happens while it changes hands. `inherits` tells a wait for
    a priority-inheriting lock, `refused` one that the kernel answered with EDEADLK: such waits
    then lead back to the task. `missing` says what could not be seen about this wait, with the
    remedy.
    """

    task: Task
    lock: Lock
    needs: str = HELD
    mode: str | None = None
    holders: tuple[Task, ...] = ()
    any_of: bool = False
    others: tuple[Task, ...] = ()
    confidence: str = PROVEN
    evidence: tuple[str, ...] = ()
    timed: bool = False
    fault: str | None = None
    fault_detail: str | None = None
    candidates: tuple[Task, ...] | None = None
    suspects: tuple[Task, ...] = ()
    holder_count: int | None = None
    queued: bool = False
    changing: bool = False
    inherits: bool = False
    refused: bool = False
    missing: str | None = None
    frames: tuple[Frame, ...] = ()

    def but(self, **changes: Any) -> Wait:
        """The same wait with some fields changed."""
        return self._replace(**changes)


class Finding(NamedTuple):
    """One thing found.  `members` in cycle order, each held by the next one."""

    type: str
    members: tuple[Wait, ...] = ()
    victims: tuple[Task, ...] = ()
    lock: Lock | None = None
    root: Task | None = None
    root_waits_for: Wait | None = None
    confidence: str = PROVEN
    explanation: str | None = None
    evidence: tuple[str, ...] = ()


class Behind(NamedTuple):
    """One link of what a blocked task waits for: "task", "device", "server", "file-system",
    "cgroup"... `detail` tells its state in words; `about` is what leads to the next link, and
    no part of a report."""

    kind: str
    name: str
    detail: str = ""
    task: Task | None = None
    about: Any = None


class Resource(NamedTuple):
    """What a blocked task works on."""

    path: str | None = None
    file_system: str | None = None
    mount_point: str | None = None
    device: str | None = None
    server: str | None = None
    lock: str | None = None


class BlockedGroup(NamedTuple):
    """Tasks that are blocked for one and the same reason, the longest first.

    `function` is the kernel function that they wait in; `longest_seconds`, `at_least` that, is
    None where nothing tells since when; `show_frames` whether the text shows the first one's
    stack too; `behind` is the chain of those who have to act, nearest first, and `next`
    what to look at.
    """

    cause: str
    function: str | None
    tasks: tuple[Task, ...]
    explanation: str
    longest_seconds: float | None = None
    system_calls: tuple[str, ...] = ()
    resource: Resource = Resource()
    behind: tuple[Behind, ...] = ()
    next: str = ""
    confidence: str = PROVEN
    evidence: tuple[str, ...] = ()
    frames: tuple[Frame, ...] = ()
    at_least: bool = False
    show_frames: bool = False
    type: str = "blocked-group"


class Report:
    """An analyzer's whole answer; see docs/architecture.md for its JSON form.

    `findings` are deadlock's, `groups` are dstate's, `signals` are sigsrc's: the one that comes
    first is the cause of those that came in its handler.  `masks` are the signal sets of tasks,
    `senders` the places of a kernel that send signals, chosen ones first.  `traces` are kdecode's.

    `counts` says how many tasks there are and how many waits are resolved; `paused_seconds` is
    how long the target has been stopped, None where nothing was.
    """

    def __init__(
        self,
        command: str,
        host: dict[str, str | None],
        target: dict[str, str | None],
        verdict: str,
        summary: str = "",
        findings: Sequence[Finding] = (),
        limits: Sequence[str] = (),
        counts: dict[str, int] | None = None,
    ) -> None:
        self.command = command
        self.host = host
        self.target = target
        self.verdict = verdict
        self.summary = summary
        self.findings = list(findings)
        self.limits = list(limits)
        self.groups: list[BlockedGroup] = []
        self.signals: list[SignalFinding] = []
        self.masks: list[tuple[Task, SignalMasks]] = []
        self.senders: list[SenderPlace] = []
        self.traces: list[DecodedTrace] = []
        self.notes: list[str] = []
        self.stacks: list[tuple[Task, tuple[Frame, ...]]] = []
        self.counts = counts or {}
        self.elapsed_seconds = 0.0
        self.paused_seconds: float | None = None
