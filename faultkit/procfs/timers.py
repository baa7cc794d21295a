"""The POSIX timers of a process (/proc/PID/timers, fs/proc/base.c, show_timer())."""

from __future__ import annotations

from faultkit.procfs.process import read_proc
from faultkit.record import NamedTuple


class PosixTimer(NamedTuple):
    """What timer_create() made: its id, the signal that it sends, and its clock's number."""

    number: int
    signal: int
    clock: int


def posix_timers(pid: int) -> list[PosixTimer] | None:
    """The timers, set or not; None if they can't be read, or the kernel does not tell
    (CONFIG_CHECKPOINT_RESTORE)."""
    try:
        text = read_proc(f"/proc/{pid}/timers").decode("ascii", "replace")
    except OSError:
        return None
    found = []
    number = signal = 0
    for line in text.splitlines():
        word, _, value = line.partition(":")
        try:
            if word == "ID":
                number = int(value)
            elif word == "signal":
                signal = int(value.partition("/")[0])
            elif word == "ClockID":
                found.append(PosixTimer(number, signal, int(value)))
        except ValueError:
            continue
    return found
