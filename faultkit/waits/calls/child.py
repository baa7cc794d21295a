"""Waits for a child: wait4 and waitid until one exits, vfork until it execs or exits."""

from __future__ import annotations

from faultkit.machine import Machine
from faultkit.model import EVENT, INFERRED, PROVEN, Lock, Wait
from faultkit.waits._ipc import FD_IN_A_CORE, children, outside, signed, tasks_of_all
from faultkit.world import Blocked

CLONE, VFORK, WAIT4, WAITID, CLONE3 = 56, 58, 61, 247, 435
SYSCALLS = frozenset({CLONE, VFORK, WAIT4, WAITID, CLONE3})
PRIORITY = 50

CLONE_VFORK = 0x4000
P_ALL, P_PID, P_PGID, P_PIDFD = range(4)
STATES = {"T": "stopped by a signal", "t": "stopped by a debugger", "D": "in D state"}
MOST_SHOWN = 8


def recognise(blocked: Blocked) -> Wait | None:
    """The wait of a task for its children; None for a clone that isn't a vfork."""
    if blocked.call.nr in (CLONE, VFORK, CLONE3):
        return _vfork(blocked)
    which, number = _wanted(blocked)
    name = {
        P_ALL: "any child",
        P_PID: f"child {number}",
        P_PGID: f"a child of process group {number}",
        P_PIDFD: f"child of pidfd {number}",
    }.get(which)
    if name is None:
        return None
    machine = blocked.machine
    if machine is None:
        lock = Lock("child", name=name, key=("child", blocked.task.pid, which, number))
        missing = "other processes are not in a core; run `deadlock PID` while it hangs"
        return Wait(blocked.task, lock, needs=EVENT, any_of=True, missing=missing)
    matching = _matching(machine, blocked, which, number)
    if not matching:
        return outside(blocked, "child", name, evidence=("it has no such child",))
    if any(machine.is_dead(child) for child in matching):
        return outside(blocked, "child", name, evidence=("one has exited already",))
    if len(matching) == 1:
        name = f"child {matching[0]}"
    evidence = [_describe(blocked, child) for child in matching[:MOST_SHOWN]]
    if len(matching) > MOST_SHOWN:
        evidence.append(f"and {len(matching) - MOST_SHOWN} more children")
    return Wait(
        blocked.task,
        Lock("child", name=name, key=("child", blocked.task.pid, *sorted(matching))),
        needs=EVENT,
        holders=tasks_of_all(blocked.world, matching),
        any_of=True,
        evidence=tuple(evidence),
    )


def _wanted(blocked: Blocked) -> tuple[int, int]:
    """(P_ALL, P_PID..., id) of either call (kernel_wait4 in kernel/exit.c)."""
    first, second = signed(blocked.call.args[0]), signed(blocked.call.args[1])
    if blocked.call.nr == WAITID:
        return first, second
    if first > 0:
        return P_PID, first
    if first == -1:
        return P_ALL, 0
    return P_PGID, -first


def _matching(machine: Machine, blocked: Blocked, which: int, number: int) -> list[int]:
    """The children, by our own pids, that the task's call waits for."""
    pid = blocked.task.pid
    found = children(blocked.world, pid)
    if which == P_ALL:
        return list(found)
    if which == P_PIDFD:
        info = machine.fdinfo(pid, number)
        return [child for child in found if info is not None and info.pid == child]
    if which == P_PGID:
        if not machine.is_visible(pid, "pid") and number != 0:
            return list(found)  # group ids of its own namespace: any of the children, then
        group = number or machine.process_group(pid)
        return [child for child in found if machine.process_group(child) == group]
    if machine.is_visible(pid, "pid"):
        return [number] if number in found else []
    return [child for child in found if machine.inner_pid(child, pid) == number]


def _describe(blocked: Blocked, child: int) -> str:
    letter = blocked.world.machine.state(child)
    threads = len(tasks_of_all(blocked.world, [child]))
    parts = [f"child {child} has not exited"]
    if threads > 1:
        parts.append(f"{threads} threads")
    if letter in STATES:
        parts.append(STATES[letter])
    return ", ".join(parts)


def _vfork(blocked: Blocked) -> Wait | None:
    """The wait of the parent until its child execs or exits (wait_for_vfork_done in
    kernel/fork.c)."""
    nr, args = blocked.call.nr, blocked.call.args
    flags = {VFORK: CLONE_VFORK, CLONE: args[0]}.get(nr)
    if flags is None:
        flags = blocked.process.u64(args[0])  # struct clone_args begins with them
    if not flags & CLONE_VFORK:
        return None
    machine = blocked.machine
    if machine is None:
        return outside(blocked, "vfork", missing=FD_IN_A_CORE)
    pid = blocked.task.pid
    own = machine.children(pid, blocked.task.tid)
    born = [child for child in own if not machine.is_dead(child)]
    sharing = [child for child in born if machine.same_memory(pid, child)]
    likely = sharing or born[-1:]
    if not likely:
        return outside(blocked, "vfork", evidence=("it has no child",))
    child = likely[-1]
    return Wait(
        blocked.task,
        Lock("vfork", name=f"child {child}", key=("vfork", child)),
        needs=EVENT,
        holders=tasks_of_all(blocked.world, [child]),
        any_of=True,
        confidence=PROVEN if len(sharing) == 1 else INFERRED,
        evidence=(f"child {child} has neither called exec nor exited",),
    )
