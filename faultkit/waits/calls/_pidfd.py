"""pidfds: readable as soon as their process has exited (fs/pidfs.c, pidfd_poll)."""

from __future__ import annotations

from faultkit.model import Lock
from faultkit.waits._ipc import Channel, tasks_of
from faultkit.world import Blocked


def channel(blocked: Blocked, fd: int) -> Channel | None:
    """The end of the process behind the task's descriptor; None if that is no pidfd."""
    machine = blocked.machine
    info = machine.fdinfo(blocked.task.pid, fd) if machine is not None else None
    if machine is None or info is None or info.pid is None:
        return None
    lock = Lock("pidfd", name=f"process {info.pid}", key=("pidfd", info.pid))
    if info.pid <= 0 or machine.is_dead(info.pid):
        return Channel(lock, outside=True, evidence=("the process has exited",))
    evidence = (f"process {info.pid} has not exited",)
    return Channel(lock, tasks_of(blocked.world, info.pid), evidence=evidence)
