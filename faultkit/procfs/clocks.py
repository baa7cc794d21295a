"""For how long tasks have not run: by the scheduler's own clocks, without waiting for any CPU.

/proc/PID/task/TID/sched has se.exec_start, the clock of its CPU's run queue when the task last ran
(kernel/sched/debug.c, proc_sched_show_task()).  These clocks leave out stolen time and interrupts
(kernel/sched/core.c, update_rq_clock_task()), so that those of two CPUs may be far apart: "now"
must be read on the CPU that the task sleeps on, by running there for a moment."""

from __future__ import annotations

import os
import time

from faultkit.procfs.process import read_once, read_proc
from faultkit.record import NamedTuple

ALIVE = 0.03  # seconds in which a CPU must have idled, or run a program, for us to go there


class Sched(NamedTuple):
    """`exec_start` in milliseconds of its CPU's clock; `switches` counts how often it was taken
    off a CPU."""

    exec_start: float | None
    switches: int | None


def read_sched(pid: int, tid: int) -> Sched:
    """The task's scheduling data; where the kernel has none, the switches alone, by its status.
    Raises OSError if it is gone."""
    try:
        text = read_once(f"/proc/{pid}/task/{tid}/sched")
    except FileNotFoundError:
        text = b""
    at = text.find(b"se.exec_start")
    switches = text.find(b"nr_switches")
    if at < 0 or switches < 0:
        return Sched(None, _switches(pid, tid))
    try:
        return Sched(_value(text, at), int(_value(text, switches)))
    except ValueError:
        return Sched(None, _switches(pid, tid))


def _value(text: bytes, at: int) -> float:
    end = text.find(b"\n", at)
    return float(text[at:end].rpartition(b":")[2])


def _switches(pid: int, tid: int) -> int | None:
    total = None
    for line in read_proc(f"/proc/{pid}/task/{tid}/status").split(b"\n"):
        name, _, value = line.partition(b":")
        if name.endswith(b"_ctxt_switches"):
            total = (total or 0) + int(value)
    return total


class Clocks:
    """The run queues' clocks, each read at most once: they run on at the pace of time."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = _free_ticks()
        self._later: dict[int, int] | None = None
        self._offsets: dict[int, float | None] = {}

    def seconds_since(self, exec_start: float, cpu: int) -> float | None:
        """Seconds since a CPU's clock showed `exec_start`; None where it can't be read."""
        if cpu not in self._offsets:
            self._offsets[cpu] = self._offset(cpu)
        offset = self._offsets[cpu]
        if offset is None:
            return None
        return max(0.0, time.monotonic() + offset - exec_start / 1000.0)

    def _offset(self, cpu: int) -> float | None:
        """The CPU's clock, less the time of day.  A CPU that neither idles nor runs programs may
        be stuck, and whoever goes there is stuck as well: not asked."""
        try:
            allowed = os.sched_getaffinity(0)
        except OSError:
            return None
        if allowed == {cpu}:
            return _own_offset(cpu)
        if not self._is_alive(cpu):
            return None
        try:
            os.sched_setaffinity(0, {cpu})
            try:
                return _own_offset(cpu)
            finally:
                os.sched_setaffinity(0, allowed)
        except OSError:
            return None

    def _is_alive(self, cpu: int) -> bool:
        if self._later is None:
            rest = self._began + ALIVE - time.monotonic()
            if rest > 0:
                time.sleep(rest)
            self._later = _free_ticks()
        return self._later.get(cpu, 0) > self._before.get(cpu, 0)


def _own_offset(cpu: int) -> float | None:
    """From our own exec_start; it is the clock at our last tick or switch, a little ago."""
    sched = read_once("/proc/thread-self/sched")
    at = sched.find(b"se.exec_start")
    if at < 0:
        return None
    return _value(sched, at) / 1000.0 - time.monotonic()


def _free_ticks() -> dict[int, int]:
    """Ticks that each CPU spent outside of the kernel: user, nice, idle and iowait."""
    found = {}
    try:
        text = read_proc("/proc/stat", 1 << 22)
    except OSError:
        return {}
    for line in text.split(b"\n"):
        if line[:3] != b"cpu":
            break
        words = line.split()
        if words[0] != b"cpu":
            try:
                found[int(words[0][3:])] = sum(int(words[at]) for at in (1, 2, 4, 5))
            except (ValueError, IndexError):
                continue
    return found
