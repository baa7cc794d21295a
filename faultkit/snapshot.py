"""One look at every task: which system call it is blocked in, and what that waits for."""

from __future__ import annotations

from collections.abc import Iterable

from faultkit.model import EVENT, INFERRED, OUTSIDE, PROVEN, Lock, Task, Wait
from faultkit.procfs.status import state, switches
from faultkit.target import RUNNING, FaultkitError, Process, Syscall
from faultkit.waits import recognise
from faultkit.waits._futex import FUTEX
from faultkit.world import Blocked, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MOST_PROCESSES = 256  # that the waits of the first may lead to

# kinds whose waiters differ in nothing but who they are
ALIKE = frozenset(("pthread_mutex", "rwlock", "semaphore", "condvar", "barrier", "join", "futex"))

# kinds that one task at a time can hold, and that record it
EXCLUSIVE = frozenset(("pthread_mutex", "stdio", "gil", "python_rlock"))


# system calls that the kernel takes up again when a stopped task goes on: futex, flock, fcntl
LASTING = frozenset((FUTEX, 73, 72))
HALTED = Lock("signal", None, "SIGCONT, as a signal has stopped it (kill -CONT)", key=("halted",))


class Snapshot:
    """The tasks of the processes asked for, and of those that their waits lead to.

    `waits` has what each blocked task waits for, `running` the tasks that were not blocked,
    `unseen` those whose state could not be read; `tasks` is all of them.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.tasks: dict[Task, Process] = {}
        self.waits: dict[Task, Wait] = {}
        self.running: set[Task] = set()
        self.unseen: set[Task] = set()
        self._alike: dict[tuple[Any, ...], Wait] = {}
        self._follow(world.primary)

    def _follow(self, processes: Iterable[Process]) -> None:
        """Look at these processes, then at those where their waits' holders live."""
        pending = list(processes)
        seen = {process.pid for process in pending}
        while pending:
            process = pending.pop()
            try:
                leads_to = self._look(process)
            except FaultkitError as error:
                if process in self.world.primary:
                    raise
                self.world.limit(str(error))  # it ended, or is not ours to read
                continue
            for pid in leads_to:
                if pid in seen:
                    continue
                if len(seen) >= MOST_PROCESSES:
                    self.world.limit(
                        f"the waits lead to more than {MOST_PROCESSES} processes; the rest was "
                        "left out"
                    )
                    return
                seen.add(pid)
                other = self.world.process(pid)
                if other is not None:
                    pending.append(other)

    def _look(self, process: Process) -> set[int]:
        """Take in all tasks of one process; the ids of the other processes they wait for."""
        leads_to: set[int] = set()
        known: set[int] = set()  # thousands of waits share a tuple of holders or candidates
        for task in self.world.tasks(process):
            self.tasks[task] = process
            wait = self.look_at(process, task)
            if wait is not None:
                self.waits[task] = wait
                for others in (wait.holders, wait.candidates or ()):
                    if id(others) not in known:
                        known.add(id(others))
                        leads_to.update(other.pid for other in others)
        leads_to.discard(process.pid)
        return leads_to

    def look_at(self, process: Process, task: Task) -> Wait | None:
        """What the task waits for at this moment; None if it does not wait or can't be told."""
        call = process.syscall(task)
        halted = not process.stopped and self._is_halted(process)
        if halted and (call is None or call.nr not in LASTING):
            return Wait(task, HALTED, needs=OUTSIDE)
        if call is None:
            now = state(task.pid, task.tid) if process.live else ""
            if now == "Z":  # a main thread that has ended before the others: it acts no more
                ended = Lock("exit", name="ended", key=("private", task.pid, "ended", task.tid))
                return Wait(task, ended, needs=EVENT)
            if now not in ("X", None):
                self.unseen.add(task)
            return None
        if call is RUNNING or call.nr < 0:
            self.running.add(task)
            return None
        return self._recognise(process, task, call)

    def _is_halted(self, process: Process) -> bool:
        """Whether a signal has stopped the process, which we did not: all its threads then stand
        still."""
        if not process.live:
            return False
        known: dict[int, bool] = self.world.cache.setdefault("halted", {})
        if process.pid not in known:
            known[process.pid] = state(process.pid) == "T"
        return known[process.pid]

    def _recognise(self, process: Process, task: Task, call: Syscall) -> Wait:
        """Hundreds of waiters of one futex are looked up once."""
        key = None
        if call.nr == FUTEX:
            key = (process.pid, *call.args[:3], bool(call.args[3]))
            like = self._alike.get(key)
            if like is not None and task not in like.holders:
                return Wait(task, *like[1:])
        wait = recognise(Blocked(self.world, process, task, call))
        if wait is None:
            return Wait(task, Lock("system call", None, syscall_name(call.nr)), needs=OUTSIDE)
        if key is not None and wait.lock.kind in ALIKE and task not in wait.holders:
            self._alike[key] = wait
        return wait

    def concerns(self, wait: Wait) -> bool:
        """Whether the wait is one of a program, as all are here, and not of a kernel."""
        return True

    def _gets_on(self, pid: int) -> bool:
        """Whether a task of the process runs, may run, or will by a timer."""
        if any(task.pid == pid for task in self.running | self.unseen):
            return True
        return any(
            wait.timed or not self.tasks[task].surely_blocked(task)
            for task, wait in self.waits.items()
            if task.pid == pid
        )

    def _may_have_just_let_go(self, lost: Wait) -> bool:
        """Whether a stop may have made a lock look free though nothing was lost: tasks are
        stopped one after the other, which takes them off their futex, and one that still ran
        may have let go of the lock and have gone to sleep elsewhere."""
        if not self.tasks[lost.task].stopped:
            return False
        return any(
            wait.lock.identity != lost.lock.identity and wait.lock.kind not in ("signal", "join")
            for task, wait in self.waits.items()
            if task.pid == lost.task.pid
        )

    def marks(self, waits: Iterable[Wait]) -> dict[Task, int | None]:
        """How often the waits' tasks have been switched, for those where a change means that
        they have got on.  Tasks that are seen one after the other may each be blocked when
        their turn comes and yet take turns: two that answer each other all the time, say.
        Those that did not run between two marks were blocked at one and the same moment.

        A stopped task does not run; a futex call with a timeout may be one turn of a loop that
        only looks at a flag (CPython's, for its GIL, every 5 ms)."""
        found = {}
        for wait in waits:
            process = self.tasks.get(wait.task)
            if process is None or not process.live or process.stopped:
                continue
            try:
                call = process.syscall(wait.task)
            except FaultkitError:
                call = None
            if call is not None and call.nr == FUTEX and call.args[3]:
                continue
            found[wait.task] = switches(wait.task.pid, wait.task.tid)
        return found

    def progressed(self, before: Wait) -> bool:
        """Whether the task has got on since: it no longer waits, or waits for something else,
        or what it waits for has changed hands.  Call `forget` before the first."""
        process = self.tasks.get(before.task)
        if process is None:
            return False
        if process.stopped and not process.surely_blocked(before.task):
            if process.cut_short(before.task):
                what = before.lock.name or before.lock.kind
                self.world.limit(
                    f"thread {before.task.tid} was in the middle of a write to {what}, which "
                    f"attaching ended: detach, and ask again with `deadlock {before.task.pid}`"
                )
            return True
        try:
            now = self.look_at(process, before.task)
        except FaultkitError:
            return True
        if now is None or now.lock.identity != before.lock.identity:
            return True
        if now.holder_count != before.holder_count:
            return True
        return bool(now.holders) and bool(before.holders) and now.holders != before.holders

    def forget(self) -> None:
        """Drop what was remembered about locks and owners, before a second look."""
        self._alike.clear()
        self.world.forget()

    def settle(self) -> None:
        """Put right what can only be told with all tasks in view: locks at work just now, and
        waits behind others of the same lock."""
        moving: dict[int, bool] = {}
        for task, wait in self.waits.items():
            if not self.concerns(wait):
                continue
            if wait.changing or wait.fault == "lost-wakeup":
                if task.pid not in moving:
                    moving[task.pid] = self._gets_on(task.pid)
                self.waits[task] = self._free_lock(wait, moving[task.pid])
            elif wait.queued and not wait.holders:
                self.waits[task] = self._behind_queue(wait)
            elif wait.refused and wait.lock.address is None:
                self.waits[task] = self._closing_cycle(wait)
        self._drop_astray()
        self._drop_changing()

    def _free_lock(self, wait: Wait, moving: bool) -> Wait:
        """A lock without a holder, though tasks sleep on it: a lost wake-up only if nobody is
        left who could be about to wake them."""
        key = wait.lock.key
        if moving or (wait.fault and (key is None or key[0] != "private")):
            return wait.but(fault=None, needs=OUTSIDE, timed=moving, missing=None)
        if wait.fault and self._may_have_just_let_go(wait):
            self.world.note(
                "tasks sleep on a lock that is free: it was let go of while they were being "
                "stopped, or a wake-up was lost; they take it as soon as they go on"
            )
            return wait.but(fault=None, needs=OUTSIDE, timed=True)
        return wait

    def _closing_cycle(self, wait: Wait) -> Wait:
        """A wait that the kernel refused with EDEADLK: the owner of what it wanted waits, in
        the end, for this task; where only one task does, directly or not, that is the one.  The
        kernel follows priority-inheriting locks alone (kernel/locking/rtmutex.c,
        rt_mutex_adjust_prio_chain)."""
        behind = self._waits_behind(wait.task)
        if len(behind) != 1:
            return wait
        owner = next(iter(behind))
        return wait.but(
            holders=(owner,),
            confidence=INFERRED,
            missing=None,
            evidence=(*wait.evidence, f"only thread {owner.tid} waits for this one"),
        )

    def _waits_behind(self, task: Task) -> set[Task]:
        """Those whose waits for priority-inheriting locks lead to the task."""
        behind: set[Task] = set()
        pending = [task]
        while pending:
            ahead = pending.pop()
            for wait in self.waits.values():
                if wait.inherits and ahead in wait.holders and wait.task not in behind:
                    behind.add(wait.task)
                    pending.append(wait.task)
        return behind

    def _drop_astray(self) -> None:
        """A wait that the kernel refused with EDEADLK closes a cycle of priority-inheriting
        locks: where none leads from the owner back to the task, it was refused another lock, or
        for another reason."""
        refused = [wait for wait in self.waits.values() if wait.refused and wait.holders]
        for wait in [wait for wait in refused if not self._leads_back(wait)]:
            self.waits[wait.task] = wait.but(
                holders=(),
                missing="the kernel refused a thread a priority-inheriting mutex, and its owner "
                "waits for no such mutex of that thread: it was another mutex, or is no more; "
                f"see what thread {wait.task.tid} locks, by its back trace",
            )

    def _leads_back(self, wait: Wait) -> bool:
        """Whether the holders' waits for priority-inheriting locks lead to the wait's task."""
        seen: set[Task] = set()
        pending = list(wait.holders)
        while pending:
            task = pending.pop()
            if task == wait.task:
                return True
            behind = self.waits.get(task)
            if task not in seen and behind is not None and behind.inherits:
                pending += behind.holders
            seen.add(task)
        return False

    def _drop_changing(self) -> None:
        """Waiters of one exclusive lock that name different owners were not read at one moment:
        it changes hands, so that they get on."""
        owners: dict[tuple[Any, ...], set[Task]] = {}
        for wait in self.waits.values():
            if wait.confidence == PROVEN and wait.lock.kind in EXCLUSIVE and wait.holders:
                owners.setdefault(wait.lock.identity, set()).update(wait.holders)
        for task, wait in self.waits.items():
            if len(owners.get(wait.lock.identity, ())) > 1:
                self.waits[task] = wait.but(needs=OUTSIDE, holders=(), timed=True)

    def _behind_queue(self, wait: Wait) -> Wait:
        """A wait behind those who queue: they are the tasks that write-wait for the same lock,
        ahead of all others the one that waits for the holders themselves."""
        identity = wait.lock.identity
        ahead = [
            other.task
            for other in self.waits.values()
            if other.lock.identity == identity and other.mode == "write" and not other.queued
        ]
        if ahead:
            return wait.but(holders=tuple(ahead))
        return wait.but(missing="the writer that is first in line was not found; look again")


def syscall_name(nr: int) -> str:
    """A name for a system call that no provider knows."""
    return f"system call {nr}"
