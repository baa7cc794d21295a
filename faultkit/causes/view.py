"""What can be asked about the system that the blocked tasks live in.  A view that can't tell
answers None, or nothing: the text of a kernel log knows stacks only, this machine nearly all."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.model import Frame, Lock, Task, Wait
from faultkit.record import NamedTuple
from faultkit.target import Syscall


class Blocked(NamedTuple):
    """A task that sleeps in the kernel.

    `functions` are those on its kernel stack, innermost first, without clone suffixes; where the
    stack can't be seen, just the one that it sleeps in, or nothing.  `seconds` it has not run
    for, None if unknown; `at_least` if it may be more.  `switches` changes whenever it runs.
    """

    task: Task
    functions: tuple[str, ...] = ()
    seconds: float | None = None
    at_least: bool = False
    syscall: Syscall | None = None
    frames: tuple[Frame, ...] = ()
    switches: int | None = None
    is_kernel_thread: bool = False
    has_stack: bool = True


class Mount(NamedTuple):
    """A mount as a process sees it; `source` is what was mounted: a device, server:/export..."""

    number: int
    device: tuple[int, int]
    root: str
    point: str
    type: str
    source: str
    options: tuple[str, ...] = ()

    def option(self, name: str) -> str | None:
        """The value of the option NAME=VALUE, None without it."""
        for option in self.options:
            key, equals, value = option.partition("=")
            if equals and key == name:
                return value
        return None


class OpenFile(NamedTuple):
    """The file that a task's system call works on."""

    path: str | None
    mount: Mount | None
    fd: int | None = None


class Device(NamedTuple):
    """A block device.  `in_flight` counts requests (reads, writes) that it has not completed,
    `completed` those that it ever has.  `trouble` says in words what its driver's own state
    tells; `backing_file` is a loop device's, `below` what it is made of; `label` the name that its
    users know it by; `oldest` for how many seconds its oldest request has been in flight."""

    name: str
    number: tuple[int, int]
    in_flight: tuple[int, int] | None = None
    completed: int | None = None
    trouble: tuple[str, ...] = ()
    backing_file: str | None = None
    below: tuple[str, ...] = ()
    served_by: int | None = None  # the process that serves it (nbd, ublk)
    label: str | None = None
    oldest: float | None = None


class View:
    """What a host can be asked.  This one knows nothing."""

    kind = "text"  # a Report's target kind
    live = False  # whether a second look may see something else
    has_graph = False  # whether `deadlock` can look at it, too
    own_pid: int | None = None  # of the process that looks
    name = ""
    release: str | None = None

    def __init__(self) -> None:
        self.limits: list[str] = []

    def limit(self, text: str) -> None:
        """Note, once, something that could not be seen, with the remedy."""
        if text not in self.limits:
            self.limits.append(text)

    def blocked(self) -> Sequence[Blocked]:
        """The tasks to explain."""
        return ()

    def others(self) -> Sequence[Blocked]:
        """All tasks that are known to be blocked, whether they are to be explained or not."""
        return self.blocked()

    def counts(self) -> dict[str, int]:
        """How many tasks there are, and how many of them in which state."""
        return {}

    def look_again(self, blocked: Blocked) -> Blocked | None:
        """The task with its age now; None if it has run since."""
        return blocked

    def frames(self, blocked: Blocked) -> tuple[Frame, ...]:
        """The task's kernel stack, innermost first."""
        return blocked.frames

    def wait(self, blocked: Blocked) -> Wait | None:
        """What the kernel's own structures tell of the lock or event that the task waits for, and
        of who has to act."""
        return None

    def name_of(self, lock: Lock) -> str | None:
        """What a person would call a lock of a wait: its symbol, the object that it is in."""
        return lock.name

    def inspect(self, task: Task) -> str:
        """What to type to see what a task does."""
        return f"gdb -p {task.pid}"

    def advice(self, text: str) -> str:
        """An advice in words that fit here: what can be typed on a live machine, or for a dump."""
        return text

    # tasks

    def find(self, pid: int, tid: int | None = None) -> Blocked | None:
        """A task as it is now, whatever its state (see `task.state`); None if it is gone."""
        return None

    def threads(self, pid: int) -> Sequence[Blocked]:
        """The process's threads."""
        return ()

    def named(self, name: str) -> Sequence[Task]:
        """The processes and kernel threads of that name."""
        return ()

    def children(self, task: Task) -> Sequence[int]:
        """The ids of the children that this very thread has made, oldest first."""
        return ()

    def tracer(self, task: Task) -> Task | None:
        """Who traces the task."""
        return None

    def cgroup(self, task: Task, controller: str) -> str | None:
        """The task's control group: its path in the hierarchy of a v1 controller, or of v2 ("");
        None where there is none."""
        return None

    def cgroup_folder(self, path: str, controller: str) -> str:
        """Where a control group's files are, as a user names them."""
        return f"/sys/fs/cgroup/{controller}{path}" if controller else f"/sys/fs/cgroup{path}"

    def cgroup_file(self, path: str, controller: str, name: str) -> str | None:
        """The content of a file of a control group."""
        return None

    def lock_owner(self, task: Task) -> tuple[Task, str] | None:
        """(who holds the lock that the task waits for, who says so), where something does."""
        return None

    def holders(self, link: str) -> Sequence[Task]:
        """The processes that have something open whose /proc/PID/fd link is this."""
        return ()

    # files and devices

    def file(self, blocked: Blocked) -> OpenFile | None:
        """The file that the task's system call works on."""
        return None

    def mounts(self, tid: int) -> Sequence[Mount]:
        """The mounts that a thread sees."""
        return ()

    def mount_of(self, path: str) -> Mount | None:
        """The mount that holds a path, told by its name alone."""
        return None

    def device(self, number: tuple[int, int]) -> Device | None:
        """The block device with that number, as it is now."""
        return None

    def device_now(self, device: Device) -> Device | None:
        """The device as it is at this moment, where that may differ."""
        return None

    def device_named(self, name: str) -> Device | None:
        """The block device of that name."""
        return None

    def swap_devices(self) -> Sequence[Device]:
        """The block devices that are swapped to."""
        return ()

    def fuse_servers(self, connection: int) -> Sequence[int] | None:
        """The processes that serve a FUSE connection; None if that can't be told."""
        return None

    def fuse_waiting(self, connection: int) -> int | None:
        """How many requests of a FUSE connection are waiting for an answer."""
        return None

    def rpc_tasks(self, server: str) -> Sequence[str]:
        """The pending RPC calls to a server, in words."""
        return ()

    def connection_to(self, pid: int, server: str, port: int) -> str | None:
        """The state of the TCP connection to a server, in words."""
        return None

    def log(self, *words: str) -> Sequence[str]:
        """The last lines of the kernel's log that hold any of the words."""
        return ()
