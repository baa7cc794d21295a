"""Why a task that is being killed has not died yet."""

from __future__ import annotations

from faultkit.kernel import states
from faultkit.kernel.details import name_address
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System, base_name
from faultkit.kernel.waits import recognise
from faultkit.model import Lock, Task
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MOST_FRAMES = 16


class Delay(NamedTuple):
    """`words` continue "the thread ..."; `next` is what to look at; `counts` whether it stays so:
    a task that runs, or is about to, dies by itself."""

    words: str
    next: str
    stays: bool


def delay(system: System, task: Task) -> Delay:
    """What keeps a task from dying that a fatal signal is pending for, or that has begun to end."""
    try:
        state = system.state(task)
        exiting = bool(system.flags(task) & states.PF_EXITING)
    except FaultkitError:
        return Delay("could not be read", "", False)
    if system.on_cpu(task):
        return Delay("is on a CPU, and dies when it leaves the kernel", f"bt {task.tid}", False)
    shown = states.letter(state)
    if shown == "R":
        return Delay("has been woken, and waits for a CPU to die on", f"bt {task.tid}", False)
    ending = " (it has begun to end)" if exiting else ""
    if shown == "t":
        return Delay(
            f"is stopped for its tracer{ending}, which has to let it go", f"bt {task.tid}", True
        )
    words = f"sleeps in state {shown}{ending}"
    if shown in ("D", "I"):
        words += ", where no signal reaches it"
    where = _function(system, task)
    wait = recognise(Sleeper(system, task, state))
    if where:
        words += f", in {where}()"
    if wait is not None:
        words += f": it waits for {_lock_words(system, wait.lock)}"
        if wait.holders:
            names = [f'{holder.tid} "{holder.name}"' for holder in wait.holders[:4]]
            more = f" and {len(wait.holders) - 4} more" if len(wait.holders) > 4 else ""
            verb = "held by" if wait.needs == "held" else "which depends on"
            words += f", {verb} {', '.join(names)}{more}"
    return Delay(words, f"dstate {task.tid}", True)


def _function(system: System, task: Task) -> str:
    """The function that the task sleeps in, below the scheduler's own."""
    try:
        frames = system.kernel.frames(task, MOST_FRAMES)
    except FaultkitError:
        return ""
    names = (base_name(frame.symbol) for frame in frames if frame.symbol)
    return next((name for name in names if name not in _SCHEDULER), "")


_SCHEDULER = frozenset((
    "__schedule", "schedule", "schedule_timeout", "schedule_preempt_disabled", "io_schedule",
    "schedule_hrtimeout_range", "schedule_hrtimeout_range_clock", "preempt_schedule_common",
    "context_switch", "__switch_to_asm", "__cond_resched", "schedule_timeout_uninterruptible",
))  # fmt: skip


def _lock_words(system: System, lock: Lock) -> str:
    name = lock.name
    if name is None and lock.address is not None:
        name = name_address(system, lock.address) or f"{lock.address:#x}"
    return f"{lock.kind} {name}" if name else lock.kind
