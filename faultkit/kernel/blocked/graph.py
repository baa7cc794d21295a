"""What the kernel's wait graph tells of blocked tasks: as `deadlock` sees them, one by one."""

from __future__ import annotations

from faultkit.kernel.details import name_address
from faultkit.kernel.filesystems import writers_lock
from faultkit.kernel.objects import is_kernel_pointer
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.kernel.waits import recognise
from faultkit.model import EVENT, HELD, OUTSIDE, Lock, Task, Wait
from faultkit.target import FaultkitError


class Graph:
    """The waits of single tasks.  Holders that no lock records are looked for among all tasks, the
    first time that somebody waits for such a lock."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._waits: dict[Task, Wait | None] = {}
        self._all: dict[Task, Wait] | None = None

    def wait(self, sleeper: Sleeper) -> Wait | None:
        """The wait, with its holders as far as they are recorded or can be inferred."""
        task = sleeper.task
        if task not in self._waits:
            wait = recognise(sleeper)
            if wait is not None and _is_open(wait):
                wait = self._inferred().get(task, wait)
            self._waits[task] = wait
        return self._waits[task]

    def _inferred(self) -> dict[Task, Wait]:
        if self._all is None:
            from faultkit.kernel.snapshot import KernelSnapshot
            from faultkit.kernel.unrecorded import fill_holders

            snapshot = KernelSnapshot(self.system)
            snapshot.settle()
            fill_holders(snapshot)
            self._all = snapshot.waits
        return self._all

    def name(self, lock: Lock) -> str | None:
        """ "lab_accounts [faultlab]", "kmalloc-64 object": see name_address()."""
        if lock.name is not None or lock.address is None or not is_kernel_pointer(lock.address):
            return lock.name
        try:
            found = writers_lock(self.system, lock.address)
        except FaultkitError:
            found = None
        if found is not None:
            block, _ = found
            return f"the freeze lock of {block.id}"
        return name_address(self.system, lock.address)


def _is_open(wait: Wait) -> bool:
    """Whether holders may be found by inference."""
    from faultkit.kernel.functions import FAMILIES

    return (
        wait.needs in (HELD, EVENT)
        and wait.needs != OUTSIDE
        and not (wait.holders or wait.fault or wait.changing)
        and wait.lock.kind in FAMILIES
        and wait.lock.address is not None
    )
