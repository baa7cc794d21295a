"""The waits of programs in a kernel's dump: the same providers as for live processes."""

from __future__ import annotations

from faultkit.kernel.process import DumpProcess, call_of
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.states import INTERRUPTIBLE
from faultkit.kernel.system import System
from faultkit.kernel.world import KernelWorld
from faultkit.model import OUTSIDE, Lock, Task, Wait
from faultkit.snapshot import Snapshot
from faultkit.unrecorded import fill_holders

OF_32_BITS = "what 32-bit programs wait for can't be told: faultkit reads 64-bit ones"


class Programs(Snapshot):
    """A Snapshot of those of a kernel's programs that were asked for.

    `waits` and `running` are the whole kernel's, so that everybody's part is in view; `tasks`
    has all tasks of the programs in question.
    """

    world: KernelWorld

    def __init__(self, system: System) -> None:
        super().__init__(KernelWorld(system))
        self._known: set[int] = set()

    def look(self, sleeper: Sleeper) -> Wait | None:
        """What the task waits for by the system call that it sleeps in; None if it is in none, or
        not for long: all waits for other tasks can be interrupted."""
        if not sleeper.state & INTERRUPTIBLE:
            return None
        task = sleeper.task
        registers = sleeper.call
        if registers is not None and not registers.is_64:
            lock = Lock("system call", None, f"system call {registers.orig_rax}")
            return Wait(task, lock, needs=OUTSIDE, missing=OF_32_BITS)
        call = call_of(registers)
        process = self.world.process(task.pid) if call is not None else None
        if call is None or process is None:
            return None
        self._take_in(process)
        self.world.machine.asleep = sleeper
        return self._recognise(process, task, call)

    def _take_in(self, process: DumpProcess) -> None:
        if process.pid not in self._known:
            self._known.add(process.pid)
            self.tasks.update(dict.fromkeys(process.tasks(), process))

    def settle_in(self, waits: dict[Task, Wait], running: set[Task], unseen: set[Task]) -> None:
        """Put right what only the whole kernel's picture tells, and look for the holders that
        locks do not record."""
        self.waits, self.running, self.unseen = waits, running, unseen
        self.settle()
        fill_holders(self)

    def process_of(self, task: Task) -> DumpProcess | None:
        """The program of a task."""
        return self.world.process(task.pid)

    def _may_have_just_let_go(self, lost: Wait) -> bool:
        """No: a dump stops CPUs, not tasks, and who was on one counts as running."""
        return False

    def concerns(self, wait: Wait) -> bool:
        key = wait.lock.key
        return wait.task in self.tasks and (key is None or key[0] != "kernel")


def programs_of(system: System) -> Programs:
    """The programs of the kernel, one picture for all."""
    found: Programs | None = system.cache.get("programs")
    if found is None:
        found = system.cache["programs"] = Programs(system)
    return found
