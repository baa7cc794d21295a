"""Control groups of tasks, v1 and v2, and their files."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.causes.view import Mount
from faultkit.model import Task
from faultkit.procfs.process import read_proc


def cgroup_of(task: Task, controller: str) -> str | None:
    """The task's path in the hierarchy of a v1 controller, or of v2 (""); None if there is none."""
    try:
        text = read_proc(f"/proc/{task.pid}/task/{task.tid}/cgroup").decode("utf-8", "replace")
    except OSError:
        return None
    for line in text.split("\n"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path
    return None


def folder(mounts: Sequence[Mount], path: str, controller: str) -> str | None:
    """Where a control group's files are; None if its hierarchy is not mounted."""
    for mount in mounts:
        fits = mount.type == "cgroup" and controller in mount.options
        if fits if controller else mount.type == "cgroup2":
            below = path[len(mount.root) :] if mount.root != "/" else path
            return f"{mount.point}/{below.lstrip('/')}"
    return None


def read(mounts: Sequence[Mount], path: str, controller: str, name: str) -> str | None:
    """A file of a control group; None if it, or where it is mounted, is not to be found."""
    where = folder(mounts, path, controller)
    if where is None:
        return None
    try:
        return read_proc(f"{where}/{name}", 4096).decode("utf-8", "replace")
    except OSError:
        return None
