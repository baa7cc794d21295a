"""A kernel's own record of signals: what is pending, with who sent it, what is blocked, and what
ends or has ended a task (include/linux/sched/signal.h, kernel/signal.c)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from faultkit.kernel import states
from faultkit.kernel.objects import (
    BrokenList,
    Layout,
    entries,
    first_offset,
    is_kernel_pointer,
    need,
)
from faultkit.kernel.system import System
from faultkit.model import Task
from faultkit.record import NamedTuple
from faultkit.signals.names import SIGRTMAX
from faultkit.target import FaultkitError, SignalMasks

INFO_SIZE = 48  # bytes of a kernel_siginfo, laid out as the first ones of a siginfo_t
MOST_QUEUED = 10_000  # of one queue
SIG_DFL, SIG_IGN = 0, 1

# signal_struct.flags; GROUP_COREDUMP until 5.16 (2f824d4d197e)
STOP_STOPPED, STOP_CONTINUED, GROUP_EXIT, GROUP_COREDUMP = 1, 2, 4, 8
JOBCTL_STOP_SIGNAL = 0xFFFF


class Pending(NamedTuple):
    """Pending signals: the mask (bit n-1 for signal n), and the siginfos that are queued, in the
    order of sending.  `damaged` says what is wrong with the queue, if anything is."""

    mask: int = 0
    queue: tuple[bytes, ...] = ()
    damaged: str | None = None


class TaskSignals(NamedTuple):
    """What a task_struct says of signals.  `exit_code` is as for wait(): the low 7 bits are the
    signal that ended it.  `stop_signal` stopped it, or its process; `last` is the siginfo for which
    a traced task has stopped, by its address."""

    task: Task
    own: Pending
    blocked: int
    signal: int  # signal_struct's address
    sighand: int  # 0 once the task is reaped
    exit_code: int
    exit_state: int
    stop_signal: int
    parent_death: int
    last: int


class GroupSignals(NamedTuple):
    """What a signal_struct says.  `exit_code` is that which all threads are to end with, if `flags`
    have GROUP_EXIT or `executes` is set: the thread that executes another program, and so ends the
    others.  `by_oom_killer`: the process is one of the OOM killer's victims."""

    shared: Pending
    exit_code: int
    flags: int
    executes: Task | None
    by_oom_killer: bool


class Signals:
    """Reads them; layouts are looked up once.  Raises UnknownLayout where the kernel has none."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.kernel = system.kernel
        self._tasks: Layout = system.layout(
            "task_struct",
            "pending.signal",
            "pending.list.next",
            "blocked",
            "signal",
            "sighand",
            "exit_code",
            "exit_state",
            "jobctl",
            "pdeath_signal",
            "last_siginfo",
        )
        self._groups: Layout = system.layout(
            "signal_struct",
            "shared_pending.signal",
            "shared_pending.list.next",
            "group_exit_code",
            "flags",
            # 60700e38fb68 ("signal: Rename group_exit_task group_exec_task", 5.17)
            ("group_exec_task", "group_exit_task"),
            ("oom_mm", None),
        )
        self._list = need(self.kernel, "sigqueue", "list")
        self._info = need(self.kernel, "sigqueue", "info")
        self._own = need(self.kernel, "task_struct", "pending.list")
        self._shared = need(self.kernel, "signal_struct", "shared_pending.list")
        self._known: dict[int, GroupSignals | None] = {}

    def of_programs(self) -> Iterator[TaskSignals]:
        """Those of all tasks but kernel threads; whoever can't be read is left out."""
        tasks = [task for task in self.system.tasks if task.tid and not self._is_kthread(task)]
        found = self._tasks.read_each([task.address or 0 for task in tasks])
        for task, values in zip(tasks, found):
            if values is not None:
                yield self._told(task, values)

    def of(self, task: Task) -> TaskSignals | None:
        """Those of one task; None where it can't be read."""
        try:
            return self._told(task, self._tasks.read(task.address or 0))
        except FaultkitError:
            return None

    def _is_kthread(self, task: Task) -> bool:
        try:
            return bool(self.system.flags(task) & states.PF_KTHREAD)
        except FaultkitError:
            return True

    def _told(self, task: Task, values: Sequence[int]) -> TaskSignals:
        mask, first, blocked, signal, sighand, code, exit_state, jobctl, death, last = values
        head = (task.address or 0) + self._own
        return TaskSignals(
            task,
            self._pending(mask, first, head),
            blocked,
            signal,
            sighand,
            code & 0xFFFFFFFF,
            exit_state,
            jobctl & JOBCTL_STOP_SIGNAL,
            death if 0 < death <= SIGRTMAX else 0,
            last if is_kernel_pointer(last) else 0,
        )

    def group(self, address: int) -> GroupSignals | None:
        """Those of the signal_struct at `address`; None where it can't be read."""
        if address not in self._known:
            self._known[address] = self._group(address)
        return self._known[address]

    def _group(self, address: int) -> GroupSignals | None:
        if not is_kernel_pointer(address):
            return None
        try:
            mask, first, code, flags, executes, oom_mm = self._groups.read(address)
        except FaultkitError:
            return None
        if flags & GROUP_COREDUMP:
            executes = 0  # up to 5.16 group_exit_task was also that of a core dump
        return GroupSignals(
            self._pending(mask, first, address + self._shared),
            code & 0xFFFFFFFF,
            flags & 0xFFFFFFFF,
            self.system.by_address.get(executes),
            oom_mm != 0,
        )

    def _pending(self, mask: int, first: int, head: int) -> Pending:
        if first == head:
            return Pending(mask)
        queue: list[bytes] = []
        damaged = None
        try:
            for node in entries(self.kernel, head, self._list, MOST_QUEUED):
                queue.append(self.kernel.read(node + self._info, INFO_SIZE))
        except BrokenList as error:
            damaged = str(error)
        except FaultkitError:
            damaged = f"the queue at {head:#x} can't be read to its end"
        return Pending(mask, tuple(queue), damaged)

    def last_siginfo(self, signals: TaskSignals) -> bytes | None:
        """The siginfo for which a traced task has stopped."""
        try:
            return self.kernel.read(signals.last, INFO_SIZE) if signals.last else None
        except FaultkitError:
            return None

    def masks(self, signals: TaskSignals) -> SignalMasks:
        """The task's sets of signals."""
        group = self.group(signals.signal)
        ignored, caught = self._handlers(signals.sighand)
        return SignalMasks(
            signals.own.mask,
            group.shared.mask if group is not None else None,
            signals.blocked,
            ignored,
            caught,
        )

    def _handlers(self, sighand: int) -> tuple[int | None, int | None]:
        """(ignored, handled) signals by struct sighand_struct."""
        size = self.kernel.size("k_sigaction")
        at = self.kernel.offset("sighand_struct", "action")
        handler = self.kernel.offset("k_sigaction", "sa.sa_handler")
        if not is_kernel_pointer(sighand) or not size or size > 256 or at is None:
            return None, None
        try:
            data = self.kernel.read(sighand + at, size * SIGRTMAX)
        except FaultkitError:
            return None, None
        ignored = caught = 0
        for number in range(SIGRTMAX):
            place = number * size + (handler or 0)
            address = int.from_bytes(data[place : place + 8], "little")
            if address == SIG_IGN:
                ignored |= 1 << number
            elif address != SIG_DFL:
                caught |= 1 << number
        return ignored, caught


class Trap(NamedTuple):
    """The exception that a signal was sent for last, as thread_struct keeps it (kernel/signal.c's
    callers: set_signal_archinfo(), arch/x86/mm/fault.c; do_trap(), arch/x86/kernel/traps.c)."""

    number: int
    error: int
    address: int


def last_trap(system: System, task: Task) -> Trap | None:
    """The task's last exception that made a signal; None if there was none."""
    kernel = system.kernel
    places = [
        first_offset(kernel, ("thread_struct", name)) for name in ("trap_nr", "error_code", "cr2")
    ]
    base = kernel.offset("task_struct", "thread")
    if base is None or None in places:
        return None
    try:
        number, error, address = (
            kernel.u64((task.address or 0) + base + (place or 0)) for place in places
        )
    except FaultkitError:
        return None
    return Trap(number, error, address) if number or error or address else None
