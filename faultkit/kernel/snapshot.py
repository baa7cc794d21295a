"""One look at every task of a kernel: which sleep, and what each of them waits for."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.kernel import states
from faultkit.kernel.cpus import spinners
from faultkit.kernel.sleep import asleep, ends_by_timer
from faultkit.kernel.sleeper import Sleeper, read_ahead
from faultkit.kernel.system import System
from faultkit.kernel.waits import recognise
from faultkit.model import OUTSIDE, Finding, Lock, Task, Wait
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.kernel.programs import Programs

MOST_LIMITS = 16
AT_ONCE = 256  # sleepers whose stacks are kept while they are looked at


class KernelSnapshot:
    """`waits` has what each sleeping task waits for, where that is known to be more than time or
    the outside world, and what those spin for that are on a CPU; `running` the tasks that neither
    sleep nor spin; `unseen` those whose state could not be read; `tasks` is all of them."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.tasks: list[Task] = list(system.tasks)
        self.waits: dict[Task, Wait] = {}
        self.running: set[Task] = set()
        self.unseen: set[Task] = set()
        self.sleepers: dict[Task, Sleeper] = {}
        system.look_ahead()
        for task in self.tasks:
            self._sort(task)
        sleepers = list(self.sleepers.values())
        for at in range(0, len(sleepers), AT_ONCE):
            some = sleepers[at : at + AT_ONCE]
            read_ahead(system, some)
            for sleeper in some:
                self._look(sleeper)
                sleeper.let_go()
        self.waits.update(spinners(system))
        self.running.difference_update(self.waits)

    def _sort(self, task: Task) -> None:
        """By its state: does it run, sleep, or rest for good?"""
        system = self.system
        if system.on_cpu(task):
            self.running.add(task)
            return
        try:
            state = system.state(task)
        except FaultkitError:
            self.unseen.add(task)
            return
        if not states.may_wait(state):
            if state == 0 or state & (states.WAKING | states.NEW):
                self.running.add(task)
            else:  # idle, stopped, dead: it holds what it holds, and waits for no lock
                self.waits[task] = Wait(task, Lock("sleep", None), needs=OUTSIDE)
            return
        self.sleepers[task] = Sleeper(system, task, state)

    def _look(self, sleeper: Sleeper) -> None:
        wait = recognise(sleeper)
        if wait is None:
            wait = asleep(sleeper)
        elif not self._is_program_wait(wait) and ends_by_timer(sleeper):
            wait = wait.but(timed=True)  # of a system call, its arguments tell
        self.waits[sleeper.task] = wait

    @property
    def programs(self) -> Programs | None:
        """The programs that have tasks in system calls that a provider knows."""
        return self.system.cache.get("programs")

    def _is_program_wait(self, wait: Wait) -> bool:
        return self.programs is not None and self.programs.concerns(wait)

    def waiting(self) -> list[Task]:
        """The tasks that wait for another one, or for a lock."""
        return [task for task, wait in self.waits.items() if wait.needs != OUTSIDE]

    def has_open_waits(self) -> bool:
        """Whether a task waits for somebody, and no lock records whom."""
        return any(
            wait.needs != OUTSIDE and not wait.holders and not wait.fault and not wait.changing
            for wait in self.waits.values()
        )

    def settle(self) -> None:
        """Put right what can only be told with all tasks in view: a lock that names no holder at
        this moment is being handed on, or let go of, by a task that runs; in a dump in which
        none does, its waiters sleep for ever."""
        system = self.system
        moving = system.kernel.live or any(task.tid for task in self.running)
        moving = moving or bool(system.host_limits)  # who would wake them may be lacking
        if self.programs is not None:
            self.programs.settle_in(self.waits, self.running, self.unseen)
        for task, wait in self.waits.items():
            if not wait.changing or self._is_program_wait(wait):
                continue
            if moving or self.unseen or wait.timed:
                self.waits[task] = wait.but(needs=OUTSIDE, timed=True, missing=None)
            else:
                self.waits[task] = wait.but(
                    fault="lost-wakeup",
                    fault_detail="nobody keeps its waiters from it, and no task runs that could be "
                    "about to wake them",
                )

    def limits(self, findings: Sequence[Finding]) -> list[str]:
        """What could not be seen, and so keeps us from saying that there is no deadlock."""
        system = self.system
        for limit in system.host_limits:
            system.limit(limit)
        if self.unseen:
            system.limit(
                f"the state of {len(self.unseen)} of {len(self.tasks)} tasks could not be read: "
                "the dump lacks their memory; take a fuller one (makedumpfile -d 31 keeps it)"
            )
        told = {wait.task for finding in findings for wait in finding.members}
        missing: dict[str, int] = {}
        for task, wait in self.waits.items():
            if wait.missing and not wait.holders and task not in told:
                missing[wait.missing] = missing.get(wait.missing, 0) + 1
        for text, count in list(missing.items())[:MOST_LIMITS]:
            system.limit(f"{text} ({count} wait)" if count > 1 else text)
        return system.limits
