"""How long a task has slept, and whether another was born since."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from faultkit.model import Task
from faultkit.procfs.process import parse_stat, read_proc
from faultkit.target import Process

OWN = "/proc/thread-self"
MOST_ASKED = 16  # tasks of a process are enough for `seconds_stopped`
MARGIN = 1.0  # seconds: clocks of different CPUs, ticks, and steal time differ
DRIFT = 1.25  # that much slower than the others a clock may have been


def seconds_asleep(task: Task) -> float | None:
    """Seconds since the task last ran, None where the kernel does not say.

    se.exec_start (kernel/sched/debug.c, proc_sched_show_task) is the clock of its CPU's run
    queue when it last ran.  These clocks leave out stolen time and interrupts
    (kernel/sched/core.c, update_rq_clock_task), so that those of two CPUs differ by seconds:
    "now" must be read on the CPU where the task slept in.  Where a virtual machine is held up,
    they and the boot clock part by a second at times.
    """
    return _seconds_asleep(task, _last_cpu(_home(task)))


def _seconds_asleep(task: Task, cpu: int | None) -> float | None:
    then = _exec_start(f"{_home(task)}/sched")
    now = _clock_of(cpu)
    if then is None or now is None:
        return None
    return max(0.0, (now - then) / 1000.0)


def seconds_stopped(tasks: Sequence[Task]) -> float | None:
    """As `seconds_asleep`, of tasks that were stopped together: of the first one that stopped on
    the CPU where we are, if any, as to get a turn on another one takes a while on a busy machine.
    """
    here = _last_cpu(OWN)
    for task in tasks:
        if _last_cpu(_home(task)) == here:
            return _seconds_asleep(task, here)
    return seconds_asleep(tasks[0]) if tasks else None


def _home(task: Task) -> str:
    return f"/proc/{task.pid}/task/{task.tid}"


def _last_cpu(home: str) -> int | None:
    """The CPU that a thread runs on, or last ran on."""
    try:
        stat = read_proc(f"{home}/stat")
        return int(stat[stat.rindex(b")") + 2 :].split()[36])
    except (OSError, ValueError, IndexError):
        return None


def _clock_of(cpu: int | None) -> float | None:
    """The run queue's clock of a CPU in milliseconds, by moving this very thread there for the
    moment; None where we may not run."""
    if cpu is None:
        return None
    if _last_cpu(OWN) == cpu:
        clock = _exec_start(f"{OWN}/sched")
        if _last_cpu(OWN) == cpu:  # not moved meanwhile
            return clock
    try:
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {cpu})
        try:
            return _exec_start(f"{OWN}/sched")
        finally:
            os.sched_setaffinity(0, allowed)
    except OSError:
        return None


def seconds_since_birth(task: Task) -> float | None:
    """Seconds since the task was created, None if it is gone."""
    try:
        _, _, start = parse_stat(read_proc(f"{_home(task)}/stat"))
    except (OSError, ValueError, IndexError):
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf("SC_CLK_TCK")


def started_after_wait(process: Process, owner: Task, waiter: Task) -> bool:
    """Whether `owner` was certainly born after `waiter` went to sleep, so that it cannot hold
    what the other waits for.  A stopped waiter was woken by the stop: no answer, so False.

    Two clocks have to agree: an owner that went to sleep before the waiter, or with it, was
    there already, whatever the boot clock says of its birth."""
    if not process.live or process.stopped:
        return False
    born = seconds_since_birth(owner)
    if born is None:
        return False
    asleep = seconds_asleep(waiter)
    if asleep is None or born * DRIFT + MARGIN >= asleep:
        return False
    resting = seconds_asleep(owner)
    return resting is not None and resting + MARGIN < asleep


def _exec_start(path: str) -> float | None:
    try:
        text = read_proc(path)
    except OSError:
        return None
    for line in text.split(b"\n"):
        if line.startswith(b"se.exec_start"):
            try:
                return float(line.rpartition(b":")[2])
            except ValueError:
                return None
    return None
