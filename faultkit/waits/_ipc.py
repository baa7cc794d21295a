"""What the providers for waits on other processes share: the cache of what the machine told, whose
tasks must act, and the sentences about what could not be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from faultkit.machine import Descriptors
from faultkit.model import EVENT, HELD, OUTSIDE, PROVEN, Lock, Task, Wait
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError
from faultkit.world import Blocked, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")


IN_A_CORE = "kernel locks are not in a core; run `deadlock PID` while it hangs"
FD_IN_A_CORE = "what a descriptor is, is not in a core; run `deadlock PID` while it hangs"

CROWDED = "thousands of tasks wait for any of thousands; not all could be followed"

CHILD_WAITS = frozenset((61, 247))  # wait4, waitid
COMMON_SIGNALS = (2, 17)  # INT, CHLD

MOST_EDGES = 1 << 17  # some seconds of the graph


def once(world: World, key: Any, compute: Callable[[], T]) -> T:
    """compute(), remembered until the world forgets: one picture for all its waits."""
    cache: dict[Any, Any] = world.cache.setdefault("ipc", {})
    if key not in cache:
        cache[key] = compute()
    value: T = cache[key]
    return value


def descriptors(world: World) -> Descriptors:
    """Everybody's descriptors, scanned when the first wait needs them."""
    return once(world, "descriptors", world.machine.descriptors)


def unreadable(world: World) -> str | None:
    """The sentence about the processes whose descriptors we may not list, None if we may."""
    count = len(descriptors(world).unreadable)
    if not count:
        return None
    return f"the descriptors of {count} processes can't be read; {world.machine.remedy}"


def tasks_of(world: World, pid: int) -> tuple[Task, ...]:
    """The process's tasks; () if it is gone."""

    def read() -> tuple[Task, ...]:
        try:
            process = world.process(pid)
            return tuple(world.tasks(process) if process else world.machine.tasks(pid))
        except FaultkitError:
            return ()

    return once(world, ("tasks", pid), read)


def tasks_of_all(world: World, pids: Iterable[int]) -> tuple[Task, ...]:
    """The tasks of several processes."""
    wanted = tuple(sorted(set(pids)))
    return once(
        world,
        ("tasks of all", wanted),
        lambda: tuple(task for pid in wanted for task in tasks_of(world, pid)),
    )


def catches_signals(world: World, pid: int) -> bool:
    """Whether the process has signal handlers of its own."""
    return once(world, ("catches signals", pid), lambda: world.machine.handles_signals(pid))


def children(world: World, pid: int) -> Sequence[int]:
    """The children of a process."""
    return once(world, ("children", pid), lambda: world.machine.children(pid))


def is_single_threaded(world: World, pid: int) -> bool:
    """Whether the process has one thread."""
    return len(tasks_of(world, pid)) <= 1


def afford(world: World, count: int) -> bool:
    """Whether `count` more edges can be drawn.  Thousands of threads that each wait for any of
    thousands are followed up to a point: beyond, memory and time would be squared."""
    drawn = once(world, "edges", lambda: [0])
    drawn[0] += count
    return drawn[0] <= MOST_EDGES


class Owners(NamedTuple):
    """Who may hold something that the kernel records for a process, not for a thread."""

    holders: tuple[Task, ...]
    candidates: tuple[Task, ...] | None
    evidence: tuple[str, ...]


def process_owners(world: World, pids: Iterable[int]) -> Owners:
    """The tasks that may let go of what the processes hold; meant for any_of=True.

    They are `holders` where each process has one task only, else `candidates`: the waiter itself
    is one of them, if its own process holds it."""
    wanted = sorted(set(pids))
    several = [pid for pid in wanted if not is_single_threaded(world, pid)]
    evidence = tuple(f"held by process {pid} (thread unknown)" for pid in several)
    tasks = tasks_of_all(world, wanted)
    return Owners((), tasks, evidence) if several else Owners(tasks, None, evidence)


class Channel(NamedTuple):
    """One direction of a descriptor: the tasks of which one must act for data to move.

    `outside`: it may move by itself, or someone that we can't name may move it.  `itself`: the
    other end is in the waiter's own process only."""

    lock: Lock
    holders: tuple[Task, ...] = ()
    outside: bool = False
    confidence: str = PROVEN
    evidence: tuple[str, ...] = ()
    missing: str | None = None
    itself: bool = False
    timed: bool = False

    def checked(self, blocked: Blocked, fd: int, writing: bool) -> Channel:
        """The channel as the kernel sees it now.  A task that is stopped stays where it was
        when its data came, and whoever sent them may wait for it in turn: no deadlock."""
        if self.outside:
            return self
        machine, task = blocked.world.machine, blocked.task
        ready, timed = machine.readiness(task.pid, fd, writing)
        if ready:
            return self._replace(outside=True, evidence=("it is ready: the wait is over",))
        if ready is None and (
            blocked.process.stopped or machine.state(task.pid, task.tid) in ("T", "t")
        ):
            missing = f"whether {self.lock.name} is ready can't be told; {machine.remedy}"
            return self._replace(outside=True, missing=missing)
        supervisor = None if writing else _supervisor(blocked, self.holders)
        if supervisor is not None:
            missing = (
                f"process {supervisor} waits for its children, and they for a word from it, which "
                "a signal handler may give, as supervisors do to end them: see what it does on "
                "SIGTERM, say"
            )
            return self._replace(outside=True, missing=missing)
        return self._replace(timed=timed)

    def wait(self, task: Task, mode: str) -> Wait:
        """The wait of a task that is blocked on it.

        A pipe or socket between threads of one process is to them what a condition variable
        is: any of them may use it, and to be idle on it is normal."""
        holders, lock = () if self.outside else self.holders, self.lock
        if self.itself and holders != (task,):
            holders, lock = (), lock._replace(key=("private", task.pid, *lock.identity))
        return Wait(
            task,
            lock,
            needs=OUTSIDE if self.outside else EVENT,
            mode=mode,
            holders=holders,
            any_of=True,
            confidence=self.confidence,
            evidence=self.evidence,
            missing=self.missing,
            timed=self.timed,
        )


def _supervisor(blocked: Blocked, holders: Sequence[Task]) -> int | None:
    """The waiter's parent, where that alone could answer, waits for its children, and handles
    signals other than those that every shell and Python does."""
    world, waiting = blocked.world, blocked.task.pid
    pid = once(world, ("parent", waiting), lambda: world.parent_of(waiting))
    if not pid or not holders or any(task.pid != pid for task in holders):
        return None
    return pid if once(world, ("supervises", pid), lambda: _supervises(world, pid)) else None


def _supervises(world: World, pid: int) -> bool:
    process = world.process(pid)
    if process is None or not world.machine.handles_signals(pid, COMMON_SIGNALS):
        return False
    calls = (process.syscall(task) for task in tasks_of(world, pid))
    return any(call is not None and call.nr in CHILD_WAITS for call in calls)


def outside(blocked: Blocked, kind: str, name: str | None = None, **more: Any) -> Wait:
    """A wait that may end by itself.  A name alone doesn't make two of them the same lock."""
    task = blocked.task
    lock = Lock(kind, name=name, key=("outside", kind, task.pid, task.tid))
    return Wait(task, lock, needs=OUTSIDE, **more)


def unknown_holder(blocked: Blocked, lock: Lock, missing: str, **more: Any) -> Wait:
    """A wait for a lock whose holder could not be seen."""
    return Wait(blocked.task, lock, needs=HELD, missing=missing, **more)


def fd_argument(blocked: Blocked, index: int = 0) -> int:
    """A descriptor among the system call's arguments: an int, so the low half counts."""
    return signed(blocked.call.args[index])


def signed(argument: int) -> int:
    """An argument that the kernel takes as an int."""
    argument &= 0xFFFFFFFF
    return argument - (1 << 32) if argument >> 31 else argument
