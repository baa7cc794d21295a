"""Processes among each other: parents, children, groups, namespaces, ids."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Sequence
from functools import cached_property

from faultkit.kernel import states
from faultkit.kernel.ages import MARGIN, started
from faultkit.kernel.files import processes
from faultkit.kernel.objects import BrokenList, entries, need, pointer, unsigned
from faultkit.kernel.system import System
from faultkit.kernel.trees import xarray_load
from faultkit.model import Task
from faultkit.target import FaultkitError

PGID = 2  # enum pid_type: PID, TGID, PGID, SID
MOST_LEVEL = 32  # MAX_PID_NS_LEVEL
SIGNALS = 64
NAMESPACES = {"ipc": "ipc_ns", "net": "net_ns", "mnt": "mnt_ns", "uts": "uts_ns"}


class Kinship:
    """What a process is to others.  Nothing raises but UnknownLayout; what can't be read is None,
    or empty."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.kernel = system.kernel

    # ids in pid namespaces

    @cached_property
    def _upid(self) -> tuple[int, int]:
        """Where struct pid keeps the ids of its namespaces, and the size of each."""
        return need(self.kernel, "pid", "numbers"), self.kernel.size("upid") or 16

    def number(self, pid: int) -> int:
        """The id that a struct pid has in the outermost namespace, 0 for none."""
        try:
            at = self._upid[0] + need(self.kernel, "upid", "nr")
            return self.kernel.u32(pid + at) if pid else 0
        except FaultkitError:
            return 0

    def _innermost(self, task: Task) -> tuple[int, int, int]:
        """(level, pid_namespace, id there) of a task; raises FaultkitError."""
        kernel = self.kernel
        pid = pointer(kernel, task.address or 0, "task_struct", "thread_pid")
        level = unsigned(kernel, pid, "pid", "level")
        if level > MOST_LEVEL:
            return 0, 0, task.tid
        at = pid + self._upid[0] + level * self._upid[1]
        space = kernel.u64(at + need(kernel, "upid", "ns"))
        return level, space, kernel.u32(at + need(kernel, "upid", "nr"))

    @cached_property
    def _eldest_above(self) -> tuple[list[int], list[int]]:
        """All ids, ascending, and when the eldest of the tasks with that id or a higher one was
        made."""
        tids, births = [], []
        eldest = 1 << 64
        for task in sorted(self.system.tasks, key=lambda task: -task.tid):
            try:
                eldest = min(eldest, started(self.system, task))
            except FaultkitError:
                continue
            tids.append(task.tid)
            births.append(eldest)
        return tids[::-1], births[::-1]

    def out_of_turn(self, task: Task) -> bool:
        """Whether the task is younger than one with a higher id: then its id had been another's, or
        the last one was set back (/proc/sys/kernel/ns_last_pid, to restore a checkpoint)."""
        tids, births = self._eldest_above
        above = bisect_right(tids, task.tid)
        try:
            born = started(self.system, task)
        except FaultkitError:
            return False
        return above < len(tids) and births[above] + MARGIN < born

    def inner_tids(self, tasks: Sequence[Task]) -> dict[int, Task]:
        """The threads of one process by the id that each has in their pid namespace, which is
        what its memory records.  They share it (kernel/fork.c, copy_process(): CLONE_THREAD)."""
        if tasks and self.is_outermost(tasks[0].pid):
            return {task.tid: task for task in tasks}
        return {self._inner_tid(task): task for task in tasks}

    def _inner_tid(self, task: Task) -> int:
        try:
            return self._innermost(task)[2]
        except FaultkitError:
            return task.tid

    def task_of(self, tid: int, seen_by: Task) -> Task | None:
        """The living task that has the thread id in the pid namespace of `seen_by`."""
        try:
            level, space, _ = self._innermost(seen_by)
        except FaultkitError:
            level, space = 0, 0
        found = self._by_inner.get((space, tid)) if level else self.system.by_tid.get(tid)
        return found if found is not None and not self.has_exited(found) else None

    def is_unlisted(self, tid: int, seen_by: Task) -> bool | None:
        """Whether the pid namespace of `seen_by` has a task with that id though it is not among
        the kernel's tasks, as the host lists them (kernel/pid.c, find_pid_ns); None where that
        can't be read."""
        try:
            return self._is_unlisted(tid, self._innermost(seen_by)[1])
        except FaultkitError:
            return None

    def is_dead(self, pid: int) -> bool:
        """Whether there is surely no such process, as the outermost namespace numbers them."""
        if pid in processes(self.system):
            return False
        try:
            return not self._is_unlisted(pid, self.kernel.symbol("init_pid_ns") or 0)
        except FaultkitError:
            return False

    def _is_unlisted(self, tid: int, space: int) -> bool:
        """The same, in the pid_namespace at `space`.  Raises FaultkitError."""
        kernel = self.kernel
        table = space + need(kernel, "pid_namespace", "idr") + need(kernel, "idr", "idr_rt")
        pid = xarray_load(kernel, table, tid)
        first = kernel.u64(pid + need(kernel, "pid", "tasks")) if pid else 0
        task = first - need(kernel, "task_struct", "pid_links") if first else 0
        return bool(task) and task not in self.system.by_address

    @cached_property
    def _by_inner(self) -> dict[tuple[int, int], Task]:
        found = {}
        for task in self.system.tasks:
            try:
                _, space, tid = self._innermost(task)
                found[space, tid] = task
            except FaultkitError:
                continue
        return found

    @cached_property
    def pid_namespaces(self) -> dict[int, Hashable | None]:
        """The pid_namespace of each process, by its address; None where it can't be read."""
        found: dict[int, Hashable | None] = {}
        for pid, tasks in processes(self.system).items():
            try:
                found[pid] = self._innermost(tasks[0])[1]
            except FaultkitError:
                found[pid] = None
        return found

    def inner_pid(self, pid: int, level_of: int) -> int:
        """The id that `pid` has in the pid namespace of the process `level_of`."""
        one, other = self.system.by_tid.get(pid), self.system.by_tid.get(level_of)
        if one is None or other is None:
            return pid
        try:
            level = self._innermost(other)[0]
            struct_pid = pointer(self.kernel, one.address or 0, "task_struct", "thread_pid")
            if level > unsigned(self.kernel, struct_pid, "pid", "level"):
                return pid
            at = struct_pid + self._upid[0] + level * self._upid[1]
            return self.kernel.u32(at + need(self.kernel, "upid", "nr"))
        except FaultkitError:
            return pid

    def is_outermost(self, pid: int) -> bool:
        """Whether the process is in the outermost pid namespace."""
        task = self.system.by_tid.get(pid)
        try:
            return task is None or self._innermost(task)[0] == 0
        except FaultkitError:
            return True

    # relatives

    def children(self, pid: int, tid: int | None = None) -> Sequence[int]:
        """The children of a process, or of one of its threads, in the order of their birth,
        zombies too."""
        tasks = [
            task for task in processes(self.system).get(pid, ()) if tid is None or task.tid == tid
        ]
        found = []
        try:
            heads = need(self.kernel, "task_struct", "children")
            links = need(self.kernel, "task_struct", "sibling")
            for task in tasks:
                for child in entries(self.kernel, (task.address or 0) + heads, links):
                    known = self.system.by_address.get(child)
                    if known is not None and known.pid == known.tid:
                        found.append(known.pid)
        except (BrokenList, FaultkitError):
            pass
        return found

    def parent(self, pid: int) -> int | None:
        """The parent's process id."""
        task = self.system.by_tid.get(pid)
        try:
            address = pointer(
                self.kernel, task.address or 0 if task else 0, "task_struct", "real_parent"
            )
        except FaultkitError:
            return None
        parent = self.system.by_address.get(address)
        return parent.pid if parent is not None else None

    def tracer(self, tid: int) -> Task | None:
        """Who traces the task: whom ptrace() has made its parent (kernel/ptrace.c)."""
        task = self.system.by_tid.get(tid)
        try:
            if task is None or not unsigned(
                self.kernel, task.address or 0, "task_struct", "ptrace"
            ):
                return None
            parent = pointer(self.kernel, task.address or 0, "task_struct", "parent")
        except FaultkitError:
            return None
        return self.system.by_address.get(parent)

    def process_group(self, pid: int) -> int | None:
        """The process group's id."""
        task = self.system.by_tid.get(pid)
        try:
            signal = pointer(self.kernel, task.address or 0 if task else 0, "task_struct", "signal")
            at = signal + need(self.kernel, "signal_struct", "pids") + 8 * PGID
            return self.number(self.kernel.u64(at)) or None
        except FaultkitError:
            return None

    def same_memory(self, pid: int, other_pid: int) -> bool | None:
        """Whether two processes share their memory."""
        one, other = self.system.by_tid.get(pid), self.system.by_tid.get(other_pid)
        if one is None or other is None:
            return None
        try:
            addresses = (one.address or 0, other.address or 0)
            spaces = {pointer(self.kernel, task, "task_struct", "mm") for task in addresses}
        except FaultkitError:
            return None
        return len(spaces) == 1 and 0 not in spaces

    # what they are

    def has_exited(self, task: Task) -> bool:
        """Whether the task is dead; False where that can't be read."""
        try:
            return bool(unsigned(self.kernel, task.address or 0, "task_struct", "exit_state"))
        except FaultkitError:
            return False

    def state(self, pid: int, tid: int | None = None) -> str | None:
        """The letter of the task's state."""
        task = self.system.by_tid.get(pid if tid is None else tid)
        if task is None:
            return None
        try:
            exit_state = unsigned(self.kernel, task.address or 0, "task_struct", "exit_state")
            return states.letter(self.system.state(task), exit_state)
        except FaultkitError:
            return None

    def handled_signals(self, pid: int) -> frozenset[int] | None:
        """The signals that the process has handlers of its own for; None where that can't be
        read."""
        tasks = processes(self.system).get(pid, ())
        try:
            sighand = pointer(self.kernel, tasks[0].address or 0, "task_struct", "sighand")
            size = self.kernel.size("k_sigaction") or 32
            first = sighand + need(self.kernel, "sighand_struct", "action")
            data = self.kernel.read(first, SIGNALS * size)
        except (FaultkitError, IndexError):
            return None
        handlers = (int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), size))
        # neither SIG_DFL nor SIG_IGN
        return frozenset(number for number, handler in enumerate(handlers, 1) if handler > 1)

    def namespace(self, pid: int, kind: str) -> str | None:
        """The identity of a namespace of the process, by its address; None if it has none."""
        member = NAMESPACES.get(kind)
        address = self.namespace_address(pid, member) if member else 0
        return f"{kind}:[{address:#x}]" if address else None

    def namespace_address(self, pid: int, member: str) -> int:
        """The address of a member of the process's nsproxy, 0 if it can't be read."""
        for task in processes(self.system).get(pid, ())[:1]:
            try:
                proxy = pointer(self.kernel, task.address or 0, "task_struct", "nsproxy")
                return pointer(self.kernel, proxy, "nsproxy", member) if proxy else 0
            except FaultkitError:
                return 0
        return 0
