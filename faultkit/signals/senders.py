"""Who a signal's pid and uid are: by /proc, if this machine is the one they speak of."""

from __future__ import annotations

import os
import time

from faultkit.procfs.process import parse_stat, read_proc
from faultkit.procfs.status import innermost_pid, is_our_namespace, pids_like
from faultkit.signals.model import Sender
from faultkit.signals.siginfo import Siginfo
from faultkit.target import Process

MARGIN = 1.0  # seconds that clocks may differ by


class Senders:
    """Looks senders up, each once.

    `when` is the latest moment at which the signals were sent, in seconds since the epoch: the
    core's last change, None for now.  A process that was born later is another one, which got
    the pid of the sender.
    """

    def __init__(self, process: Process, when: float | None = None) -> None:
        self._process = process
        self._when = when
        self._known: dict[tuple[int, int | None], Sender] = {}
        self._inner: dict[int, int] | None = None  # of a container: its pids -> ours
        self._elsewhere = ""  # who has the pid of a dead process all along
        if when is not None and process.here and not process.pictured:
            self._elsewhere = _owner(process.pid, when)
        #: the receiver's process id, as signals name it
        self.own_pid = process.pid
        if process.live and not is_our_namespace(process.pid, "pid"):
            self._inner = pids_like(process.pid)
            self.own_pid = innermost_pid(process.pid)

    def of(self, info: Siginfo) -> Sender | None:
        """The sender of a signal that a program sent, else None."""
        if not info.by_program or info.pid is None:
            return None
        key = info.pid, info.uid
        if key not in self._known:
            self._known[key] = self._look_up(info.pid, info.uid)
        return self._known[key]

    def _look_up(self, pid: int, uid: int | None) -> Sender:
        user = user_name(uid) if uid is not None and self._process.here else None
        sender = Sender(pid, uid, user=user)
        if pid == self.own_pid:
            return sender._replace(itself=True, fate="the process itself")
        if pid == 0:
            return sender._replace(
                fate="not visible from the receiver's pid namespace: a process outside of its "
                "container, or the kernel"
            )
        if not self._process.here:
            return sender._replace(fate="not looked up: the process belongs to another machine")
        if self._elsewhere:
            return sender._replace(
                fate="not looked up: the core is of a container, or of another machine, as pid "
                f'{self._process.pid} is "{self._elsewhere}" here, and was so before'
            )
        if self._when is not None and self._when < boot_time():
            return sender._replace(
                alive=False, fate="the machine has been booted again since, or it was another one"
            )
        here = pid if self._inner is None else self._inner.get(pid)
        if here is None:
            return sender._replace(alive=False, fate="is gone")
        try:
            name, state, start = parse_stat(read_proc(f"/proc/{here}/stat"))
        except (OSError, ValueError, IndexError):
            return sender._replace(alive=False, fate="is gone")
        if self._when is not None:
            born = boot_time() + start / os.sysconf("SC_CLK_TCK")
            if born > self._when + MARGIN:
                return sender._replace(
                    alive=False,
                    reused=True,
                    fate=f'is gone: its pid belongs to "{name}" now, which was started '
                    f"{duration(born - self._when)} after the core was written",
                )
        if state in "ZX":
            return sender._replace(name=name, alive=False, reused=False, fate="is a zombie")
        fate = "still runs" if here == pid else f"still runs, as {here} outside of its container"
        if self._when is not None:
            fate = "still runs on this machine, since before the core was written"
        outside = here if here != pid else None
        return sender._replace(name=name, alive=True, reused=False, fate=fate, here=outside)


def _owner(pid: int, when: float) -> str:
    """The name of the process that has the pid since before `when`; "" if none lives that has."""
    try:
        name, state, start = parse_stat(read_proc(f"/proc/{pid}/stat"))
    except (OSError, ValueError, IndexError):
        return ""
    born = boot_time() + start / os.sysconf("SC_CLK_TCK")
    return name if state not in "ZX" and born < when - MARGIN else ""


def boot_time() -> float:
    """When this machine was booted, in seconds since the epoch."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def user_name(uid: int) -> str | None:
    """The name of a user of this machine by /etc/passwd; no name service is asked."""
    try:
        with open("/etc/passwd", encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.split(":")
                if len(fields) > 2 and fields[2] == str(uid):
                    return fields[0]
    except OSError:
        pass
    return None


def duration(seconds: float) -> str:
    """ "3.2 s", "12 min", "5.0 h", "3.1 days"."""
    for limit, unit, form in ((120, 1, "{:.1f} s"), (7200, 60, "{:.0f} min")):
        if seconds < limit:
            return form.format(seconds / unit)
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
