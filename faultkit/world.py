"""Which processes an analysis can see, and whose thread a lock's owner field names."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Sequence

from faultkit.model import Task
from faultkit.procfs.maps import parse_maps
from faultkit.procfs.process import ProcProcess, read_proc
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, Mapping, Process, Syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from faultkit.machine import Machine

# What became of the thread that an owner field names.
HERE = "here"  # a thread of the same process
ELSEWHERE = "elsewhere"  # a thread of another process
GONE = "gone"  # no such thread on this machine
UNLISTED = "unlisted"  # the kernel knows it, though it is not among the dump's tasks
UNREAD = "unread"  # whether there is such a thread is in memory that the dump lacks
SEVERAL = "several"  # threads of several pid namespaces have that id, each in its own
UNSEEN = "unseen"  # not a thread of this process, and others of its kind can't be seen

UNREAD_SPACE = "that of process"  # begins what stands for a pid namespace that can't be read


class Owner(NamedTuple):
    """The answer to "whose tid is this?"; `task` is None for all but HERE and ELSEWHERE.

    Not `sure`: processes in several pid namespaces can have written it, and only this thread of
    theirs has the id now; `among` are those that do, where there are SEVERAL."""

    where: str
    task: Task | None
    sure: bool = True
    among: tuple[Task, ...] = ()


class Blocked(NamedTuple):
    """A task blocked in a system call, as the wait providers get it."""

    world: World
    process: Process
    task: Task
    call: Syscall

    @property
    def machine(self) -> Machine | None:
        """What else can be asked about the task's process; None for a core."""
        return self.world.machine if self.process.live or self.world.whole else None


class World:
    """The processes that were asked for, and (live) those that their waits lead to.

    `limits` collects what could not be seen on the way, each with its remedy; `notes` what is
    worth knowing though it leaves nothing open.
    """

    whole = False  # whether all that there is is in view, as in a kernel's dump

    def __init__(self, primary: Sequence[Process]) -> None:
        self.primary = list(primary)
        self.limits: list[str] = []
        self.notes: list[str] = []
        self._processes: dict[int, Process | None] = {p.pid: p for p in primary}
        self._threads: dict[int, dict[int, Task]] = {}
        self._owners: dict[tuple[Any, ...], Owner] = {}
        self._described: dict[Task, Task] = {}
        self._machine: Machine | None = None
        self.cache: dict[str, Any] = {}  # what providers found out about the whole system
        self.images: dict[str, Any] = {}  # what they found in images, which stay as they are
        self.parsed: tuple[Blocked | None, Any] = (None, None)  # the call asked about last

    def close(self) -> None:
        """Give back what the processes keep open; whoever is asked again opens it again."""
        for process in self._processes.values():
            if process is not None:
                process.close()

    @property
    def live(self) -> bool:
        """Whether this machine's /proc speaks of the processes."""
        return all(process.live for process in self.primary)

    @property
    def machine(self) -> Machine:
        """The system that the live processes run on, as it is until `forget`."""
        if self._machine is None:
            from faultkit.procfs.machine import ProcMachine

            self._machine = ProcMachine()
        return self._machine

    def process(self, pid: int) -> Process | None:
        """The process `pid`, opened through /proc when it was not asked for; None if it is
        gone or not ours to read (then `limits` says so)."""
        if pid not in self._processes:
            self._processes[pid] = None
            if self.live:
                try:
                    process = ProcProcess(pid)
                    for task in process.tasks()[:1]:
                        process.syscall(task)  # may we read it at all?
                    self._processes[pid] = process
                except FaultkitError as error:
                    self.limit(str(error))
        return self._processes[pid]

    def members(self, process: Process) -> tuple[Task, ...]:
        """All tasks of the process, the same tuple each time."""
        known: tuple[Task, ...] | None = self.cache.get(f"members {process.pid}")
        if known is None:
            known = self.cache[f"members {process.pid}"] = tuple(self.threads(process).values())
        return known

    def forget(self) -> None:
        """Drop what may have changed since: owners, threads, tables of the whole system."""
        self._threads.clear()
        self._owners.clear()
        self._described.clear()
        self.cache.clear()
        self._machine = None

    def note(self, text: str) -> None:
        """Note, once, something worth knowing."""
        if text not in self.notes:
            self.notes.append(text)

    def limit(self, text: str) -> None:
        """Note, once, something that could not be seen."""
        if text not in self.limits:
            self.limits.append(text)

    def tasks(self, process: Process) -> Sequence[Task]:
        """The process's tasks as they were when first asked for: thousands take a while."""
        known: Sequence[Task] | None = self.cache.get(f"tasks {process.pid}")
        if known is None:
            known = self.cache[f"tasks {process.pid}"] = process.tasks()
        return known

    def threads(self, process: Process) -> dict[int, Task]:
        """The process's tasks by the thread id that they have in their own pid namespace,
        which is the one that locks in their memory record."""
        known = self._threads.get(process.pid)
        if known is None:
            tasks = self.tasks(process)
            if process.live and _other_pid_namespace(process.pid):
                known = {_inner_tid(task): task for task in tasks}
            else:
                known = {task.tid: task for task in tasks}
            self._threads[process.pid] = known
        return known

    def owner(self, process: Process, tid: int, shared: Mapping | None = None) -> Owner:
        """Whose thread id is `tid`, as written in the memory of `process`: in its own, or in
        what it has at the mapping `shared`, where others can have written it too."""
        place = (shared.device, shared.inode) if shared is not None else None
        known = self._owners.get((process.pid, tid, place))
        if known is None:
            if shared is None:
                known = self._find_owner(process, tid)
            else:
                from faultkit.sharing import owner_among_sharers

                known = owner_among_sharers(self, process, tid, shared)
            self._owners[process.pid, tid, place] = known
        return known

    def _find_owner(self, process: Process, tid: int) -> Owner:
        task = self.threads(process).get(tid)
        if task is not None:
            if process.live and not self.is_alive(task):
                return Owner(GONE, None)
            return Owner(HERE, task)
        if not process.live:
            return Owner(UNSEEN, None)
        if _other_pid_namespace(process.pid):
            from faultkit.sharing import owner_in_namespace

            return owner_in_namespace(self, process, tid)
        tgid = thread_group(tid)
        if tgid is None:
            return Owner(GONE, None)
        if tgid == process.pid:  # it was born, or left the list, while we looked
            return Owner(HERE, Task(process.pid, tid))
        return Owner(ELSEWHERE, Task(tgid, tid))

    def is_alive(self, task: Task) -> bool:
        """Whether the task is there, and not only its zombie."""
        return thread_group(task.tid) is not None

    def inner_tids(self, pid: int) -> set[int]:
        """The thread ids that the process's threads have in their own pid namespace, also of one
        that is not ours to read."""
        try:
            return {_inner_tid(Task(pid, int(tid))) for tid in os.listdir(f"/proc/{pid}/task")}
        except OSError:
            return set()  # it has ended

    def in_namespace_of(self, process: Process) -> tuple[int, ...]:
        """The processes in the pid namespace of `process`, in their order."""
        spaces = self._pid_namespaces()
        own = spaces.get(process.pid)
        return tuple(pid for pid, space in spaces.items() if space == own)

    def knows_namespaces(self) -> bool:
        """Whether it is known of every process that there is in which pid namespace it is."""
        spaces = self._pid_namespaces()
        unread = any(str(space).startswith(UNREAD_SPACE) for space in spaces.values())
        return not unread and spaces.keys() >= set(process_ids())

    def other_namespaces(self, process: Process) -> set[int]:
        """The processes in other pid namespaces than `process`; few machines have any."""
        spaces = self._pid_namespaces()
        own = spaces.get(process.pid)
        known: set[int] | None = self.cache.get(f"other namespaces {own}")
        if known is None:
            known = {pid for pid, space in spaces.items() if space != own or space is None}
            self.cache[f"other namespaces {own}"] = known
        return known

    def _pid_namespaces(self) -> dict[int, Hashable | None]:
        """What tells the pid namespace of each process from others; None where it can't be
        read."""
        if not self.live:
            return {}
        if "pid namespaces" not in self.cache:
            spaces = {pid: _namespace(pid) for pid in process_ids()}
            self.cache["pid namespaces"] = {pid: s for pid, s in spaces.items() if s is not None}
        found: dict[int, Hashable | None] = self.cache["pid namespaces"]
        return found

    def started_after_wait(self, process: Process, owner: Task, waiter: Task) -> bool:
        """Whether `owner` was certainly born after `waiter`, a task of `process`, went to sleep,
        so that it cannot hold what the other waits for."""
        from faultkit.procfs.age import started_after_wait

        return started_after_wait(process, owner, waiter)

    def parent_of(self, pid: int) -> int | None:
        """The parent's process id, None if the process is gone."""
        return parent_of(pid)

    def describe(self, task: Task) -> Task:
        """The task with its name and state, where they can be had, as when it was first asked
        for: who waits in a cycle is a holder, too."""
        known = self._described.get(task)
        if known is None:
            known = self._described[task] = self._describe(task)
        return known

    def _describe(self, task: Task) -> Task:
        process = self._processes.get(task.pid)
        describe = getattr(process, "describe", None)
        if describe is not None:
            described: Task = describe(task)
            return described
        if self.live and task.name is None:
            try:
                return ProcProcess(task.pid).describe(task)
            except FaultkitError:
                pass
        return task

    def sharers(self, mapping: Mapping) -> Iterator[tuple[Process, Mapping]]:
        """Every process (of this machine, live) that maps the same object shared, with its
        mapping of it.  Costs one read of /proc/PID/maps for each process, once."""
        return iter(self._sharers(mapping)[0])

    def unread_sharers(self, mapping: Mapping) -> set[int]:
        """The processes of which it can't be told whether they are among the sharers."""
        return self._sharers(mapping)[1]

    def _sharers(self, mapping: Mapping) -> tuple[list[tuple[Process, Mapping]], set[int]]:
        key = f"sharers {mapping.device} {mapping.inode}"
        if key not in self.cache:
            unread: set[int] = set()
            self.cache[key] = list(self._find_sharers(mapping, unread)), unread
        found: tuple[list[tuple[Process, Mapping]], set[int]] = self.cache[key]
        return found

    def present_name(self, process: Process, mapping: Mapping) -> str | None:
        """The path by which anybody could open the mapped file, too; None if it has none."""
        from faultkit.procfs.shm import present_name

        return present_name(process.pid, mapping) if process.live else None

    def _find_sharers(
        self, mapping: Mapping, unread: set[int]
    ) -> Iterator[tuple[Process, Mapping]]:
        """The sharers; processes that can't be looked at are put into `unread`."""
        if not self.live or not mapping.inode:
            return
        for pid in process_ids():
            try:
                text = _maps(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            except OSError:
                unread.add(pid)
                continue
            if str(mapping.inode) not in text:
                continue
            for other in parse_maps(text.split("\n")):
                if (other.inode, other.device, other.shared) == (
                    mapping.inode,
                    mapping.device,
                    True,
                ):
                    process = self.process(pid)
                    if process is not None:
                        yield process, other
                    else:
                        unread.add(pid)


def process_ids() -> list[int]:
    """The ids of all processes that /proc shows."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def named(ids: Iterable[int]) -> list[Process]:
    """The processes that the ids name: a thread's (of top -H, or a kernel's log) names the one
    that it is of.  Raises FaultkitError for those that can't be looked at."""
    return [ProcProcess(pid) for pid in dict.fromkeys(thread_group(pid) or pid for pid in ids)]


def thread_group(tid: int) -> int | None:
    """The process id of the live thread `tid`, None if there is no such thread."""
    try:
        status = read_proc(f"/proc/{tid}/status")
    except OSError:
        return None
    for line in status.split(b"\n"):
        if line.startswith(b"State:") and line.split()[1:2] in ([b"Z"], [b"X"]):
            return None  # dead, not yet reaped: it holds nothing and will do nothing
        if line.startswith(b"Tgid:"):
            return int(line.split()[1])
    return None


def _maps(pid: int) -> str:
    """The text of /proc/PID/maps; of a thread's, where the leader has ended and shows none.
    Raises OSError."""
    text = read_proc(f"/proc/{pid}/maps", 1 << 26)
    if not text:
        for tid in sorted(map(int, os.listdir(f"/proc/{pid}/task")))[1:]:
            text = text or read_proc(f"/proc/{pid}/task/{tid}/maps", 1 << 26)
    return text.decode("utf-8", "replace")


def _namespace(pid: int) -> str | None:
    """What tells the pid namespace of the process from that of others that we see; where that is
    not ours to read, whether it is the one that /proc shows.  None if the process is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        pass
    from faultkit.procfs.status import status

    ids = status(pid).get("NSpid", "").split()
    if not ids:
        return None
    return os.readlink("/proc/self/ns/pid") if len(ids) == 1 else f"{UNREAD_SPACE} {pid}"


def _other_pid_namespace(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    except OSError:
        return False


def _inner_tid(task: Task) -> int:
    try:
        status = read_proc(f"/proc/{task.pid}/task/{task.tid}/status")
    except OSError:
        return task.tid
    for line in status.split(b"\n"):
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return task.tid


def parent_of(pid: int) -> int | None:
    """The parent's process id, None if the process is gone."""
    try:
        text = read_proc(f"/proc/{pid}/stat")
        return int(text[text.rindex(b")") + 2 :].split()[1])
    except (OSError, ValueError, IndexError):
        return None
