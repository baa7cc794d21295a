"""A core dump (fs/coredump.c): the thread that dumps waits for all others of its process to come
to rest, and these wait for it."""

from __future__ import annotations

from faultkit.kernel.objects import first_offset, need, pointer
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.kernel.waits import _completion
from faultkit.model import EVENT, Lock, Task, Wait
from faultkit.target import FaultkitError

FUNCTIONS = frozenset(
    ("coredump_task_exit", "exit_mm", "do_exit", "do_coredump", "vfs_coredump", "coredump_wait")
)
PRIORITY = 33

MOST_THREADS = 100_000


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait on either side of a core dump in progress."""
    state = _core_state(sleeper)
    if not state:
        return None
    system, kernel = sleeper.system, sleeper.kernel
    dumper = system.by_address.get(
        kernel.u64(state + need(kernel, "core_state", "dumper") + _task_at(system))
    )
    at_rest = _at_rest(system, state)
    wait = Wait(
        sleeper.task,
        Lock("coredump", state, f"of process {sleeper.task.pid}", ("kernel", state)),
        needs=EVENT,
    )
    queue = _completion.waited_for(sleeper)
    if queue is not None and queue.lock == state + need(kernel, "core_state", "startup"):
        missing = tuple(
            task
            for task in system.tasks
            if task.pid == sleeper.task.pid
            and task not in (dumper, sleeper.task)
            and task not in at_rest
            and not _has_exited(system, task)
        )
        return wait.but(
            holders=missing,
            evidence=(f"{len(missing)} threads of the process have not come to rest yet",),
        )
    if sleeper.task in at_rest and dumper is not None and dumper != sleeper.task:
        return wait.but(
            holders=(dumper,), evidence=(f"thread {dumper.tid} dumps the process's core",)
        )
    return None


def _core_state(sleeper: Sleeper) -> int:
    """struct core_state of a dump in progress; 0 if there is none."""
    kernel, task = sleeper.kernel, sleeper.task.address or 0
    # in signal_struct since 0258b5fd7c71 ("coredump: Limit coredumps to a single thread group",
    # 5.16)
    if kernel.offset("signal_struct", "core_state") is not None:
        signals = pointer(kernel, task, "task_struct", "signal")
        return pointer(kernel, signals, "signal_struct", "core_state") if signals else 0
    space = pointer(kernel, task, "task_struct", "mm")
    return pointer(kernel, space, "mm_struct", "core_state") if space else 0


def _task_at(system: System) -> int:
    return need(system.kernel, "core_thread", "task")


def _at_rest(system: System, state: int) -> set[Task]:
    """The threads that have arrived: core_state.dumper.next and so on, each on its stack."""
    kernel = system.kernel
    after = need(kernel, "core_thread", "next")
    node = state + need(kernel, "core_state", "dumper")
    found: set[Task] = set()
    try:
        for _ in range(MOST_THREADS):
            node = kernel.u64(node + after)
            if not node:
                break
            task = system.by_address.get(kernel.u64(node + _task_at(system)))
            if task is None or task in found:
                break
            found.add(task)
    except FaultkitError:
        pass
    return found


def _has_exited(system: System, task: Task) -> bool:
    kernel = system.kernel
    offset = first_offset(kernel, ("task_struct", "exit_state"))
    return offset is not None and kernel.u32((task.address or 0) + offset) != 0
