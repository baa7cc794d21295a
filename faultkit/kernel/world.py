"""The programs of a kernel's dump: all of them are in view, and nothing else is."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import cached_property

from faultkit.kernel.ages import born_after_sleep
from faultkit.kernel.files import Files, device_of, processes
from faultkit.kernel.kinship import Kinship
from faultkit.kernel.machine import DumpMachine
from faultkit.kernel.mm import mapped_by
from faultkit.kernel.objects import UnknownLayout
from faultkit.kernel.process import DumpProcess
from faultkit.kernel.system import System
from faultkit.model import Task
from faultkit.target import FaultkitError, Mapping, Process
from faultkit.world import ELSEWHERE, GONE, HERE, UNLISTED, UNREAD, Owner, World


class KernelWorld(World):
    """What the providers for programs' waits ask; answered by the dump alone."""

    whole = True

    def __init__(self, system: System) -> None:
        super().__init__(())
        self.system = system
        self.limits, self.notes = system.limits, system.notes
        self.files = Files(system)
        self.kinship = Kinship(system)
        self._by_mm: dict[int, int] | None = None

    @property
    def live(self) -> bool:
        return False

    @cached_property
    def machine(self) -> DumpMachine:
        return DumpMachine(self.files, self.kinship)

    def process(self, pid: int) -> DumpProcess | None:
        """The program `pid`; None for kernel threads and what has exited."""
        if pid not in self._processes:
            tasks = processes(self.system).get(pid, ())
            process = DumpProcess(self.files, pid, tasks) if tasks else None
            self._processes[pid] = process if process is not None and process.mm else None
        found = self._processes[pid]
        return found if isinstance(found, DumpProcess) else None

    def threads(self, process: Process) -> dict[int, Task]:
        known = self._threads.get(process.pid)
        if known is None:
            known = self.kinship.inner_tids(list(self.tasks(process)))
            self._threads[process.pid] = known
        return known

    def _find_owner(self, process: Process, tid: int) -> Owner:
        task = self.threads(process).get(tid)
        if task is not None:
            return Owner(HERE, task)
        tasks = process.tasks()
        other = self.kinship.task_of(tid, tasks[0]) if tasks else None
        if other is None:
            is_unlisted = self.kinship.is_unlisted(tid, tasks[0]) if tasks else None
            return Owner({True: UNLISTED, False: GONE, None: UNREAD}[is_unlisted], None)
        return Owner(HERE if other.pid == process.pid else ELSEWHERE, other)

    def is_alive(self, task: Task) -> bool:
        return not self.kinship.has_exited(task)

    def inner_tids(self, pid: int) -> set[int]:
        return set(self.kinship.inner_tids(processes(self.system).get(pid, ())))

    def _pid_namespaces(self) -> dict[int, Hashable | None]:
        return self.kinship.pid_namespaces

    def started_after_wait(self, process: Process, owner: Task, waiter: Task) -> bool:
        return born_after_sleep(self.system, owner, waiter)

    def parent_of(self, pid: int) -> int | None:
        return self.kinship.parent(pid)

    def describe(self, task: Task) -> Task:
        return self.system.described(task)

    def present_name(self, process: Process, mapping: Mapping) -> str | None:
        named = mapping.inode and mapping.path.startswith("/") and mapping.path != "/dev/zero"
        return mapping.path if named and not mapping.path.endswith(" (deleted)") else None

    def _find_sharers(
        self, mapping: Mapping, unread: set[int]
    ) -> Iterator[tuple[Process, Mapping]]:
        if not mapping.inode or not mapping.device:
            return
        inode = self.files.by_key.get((device_of(mapping.device), mapping.inode))
        spaces, whole = self._mapping_spaces(inode.mapping) if inode is not None else (set(), False)
        pids = {self._pid_of(mm) for mm in spaces}
        if not whole or 0 in pids:  # whoever is missing can be any of them
            unread.update(processes(self.system))
        for pid in sorted(pids - {0}):
            process = self.process(pid)
            if process is None:
                continue
            if not process.knows_mappings():
                unread.add(pid)
            for other in process.mappings():
                same = (other.inode, other.device) == (mapping.inode, mapping.device)
                if same and other.shared:
                    yield process, other

    def _mapping_spaces(self, mapping: int) -> tuple[set[int], bool]:
        """The mm_structs that map the file of a struct address_space, and whether these are all."""
        try:
            return mapped_by(self.files, mapping, strict=True), True
        except UnknownLayout:
            return set(), False
        except FaultkitError:
            return mapped_by(self.files, mapping), False

    def _pid_of(self, mm: int) -> int:
        """The process that has the mm_struct, 0 if none has."""
        if self._by_mm is None:
            self._by_mm = {}
            for pid in processes(self.system):
                process = self.process(pid)
                if process is not None:
                    self._by_mm.setdefault(process.mm, pid)
        return self._by_mm.get(mm, 0)
