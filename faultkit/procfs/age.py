"""How long a task has slept, and whether another was born since."""

import os
import time
from typing import Optional

from faultkit.model import Task
from faultkit.procfs.process import parse_stat, read_proc
from faultkit.target import Process

MARGIN = 1.0  # seconds: clocks of different CPUs, ticks, and steal time differ


def seconds_asleep(task: Task) -> Optional[float]:
    """Seconds since the task last ran, None where the kernel does not say.

    se.exec_start (kernel/sched/debug.c, proc_sched_show_task) is the run queue's clock when it
    last ran; our own is "now" on the same clock, give or take what CPUs differ by.
    """
    then = _exec_start(f"/proc/{task.pid}/task/{task.tid}/sched")
    now = _exec_start("/proc/thread-self/sched")
    if then is None or now is None:
        return None
    return max(0.0, (now - then) / 1000.0)


def seconds_since_birth(task: Task) -> Optional[float]:
    """Seconds since the task was created, None if it is gone."""
    try:
        _, _, start = parse_stat(read_proc(f"/proc/{task.pid}/task/{task.tid}/stat"))
    except (OSError, ValueError, IndexError):
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf("SC_CLK_TCK")


def started_after_wait(process: Process, owner: Task, waiter: Task) -> bool:
    """Whether `owner` was certainly born after `waiter` went to sleep, so that it cannot hold
    what the other waits for.  A stopped waiter was woken by the stop: no answer, so False."""
    if not process.live or process.stopped:
        return False
    born = seconds_since_birth(owner)
    if born is None:
        return False
    asleep = seconds_asleep(waiter)
    return asleep is not None and born + MARGIN < asleep


def _exec_start(path: str) -> Optional[float]:
    try:
        text = read_proc(path)
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(b"se.exec_start"):
            try:
                return float(line.rpartition(b":")[2])
            except ValueError:
                return None
    return None
