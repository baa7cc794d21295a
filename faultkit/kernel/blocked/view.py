"""DumpView: a kernel, dumped or live, as the causes of D states see it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from faultkit.causes.view import Blocked, Device, Mount, OpenFile, View
from faultkit.kernel import states
from faultkit.kernel.blocked import nfs, words
from faultkit.kernel.blocked.calls import Calls
from faultkit.kernel.blocked.cgroups import Cgroups
from faultkit.kernel.blocked.devices import Devices
from faultkit.kernel.blocked.fuse import Connections
from faultkit.kernel.blocked.graph import Graph
from faultkit.kernel.blocked.mounts import Mounts
from faultkit.kernel.blocked.stacks import call_chain
from faultkit.kernel.details import back_trace
from faultkit.kernel.files import processes
from faultkit.kernel.objects import unsigned
from faultkit.kernel.process import call_of
from faultkit.kernel.programs import programs_of
from faultkit.kernel.sleeper import Sleeper, read_ahead
from faultkit.kernel.system import System
from faultkit.kernel.target import Kernel
from faultkit.kernel.workers import description
from faultkit.model import Frame, Lock, Task, Wait
from faultkit.procfs.mounts import mount_of_path
from faultkit.target import FaultkitError

MOST_THREADS = 512  # of a process that somebody waits for


class DumpView(View):
    """The tasks of some processes, or of the whole kernel; all is as it was when first read.

    Nothing here unwinds a stack but `frames`, and `functions` of a Blocked where no other stack
    has shown the way.  Raises FaultkitError for a process that is not there.
    """

    has_graph = True

    def __init__(self, kernel: Kernel, pids: Sequence[int] = ()) -> None:
        super().__init__()
        self.kernel = kernel
        self.kind, self.name, self.release = kernel.kind, kernel.name, kernel.release
        self.system = System(kernel)
        self.limits = self.system.limits
        self._pids = {self._process(pid) for pid in pids}
        self._sleepers: dict[Task, Sleeper] = {}
        self._known: dict[Task, Blocked] = {}
        self._files: dict[Task, OpenFile | None] = {}
        self._states: dict[str, int] = {}
        self._world = programs_of(self.system).world
        self._mounts = Mounts(self._world.files, self._world.kinship)
        self._devices = Devices(self._world.files)
        self._calls = Calls(self._world, self._mounts, self._devices)
        self._cgroups = Cgroups(self.system)
        self._fuse = Connections(self._world)
        self._graph = Graph(self.system)

    def _process(self, pid: int) -> int:
        task = self.system.by_tid.get(pid)
        if task is None:
            raise FaultkitError(f"no process {pid}", "see crash's ps for those in the dump")
        return task.pid

    # tasks

    @cached_property
    def _letters(self) -> dict[Task, str]:
        """The states of all tasks, as `ps` shows them; "?" where they can't be read."""
        self.system.look_ahead()
        found = {}
        for task in self.system.tasks:
            if task.tid:
                found[task] = self._letter(task)
        return found

    def _letter(self, task: Task) -> str:
        system = self.system
        if system.on_cpu(task):
            return "R"
        try:
            state = system.state(task)
            # most tasks sleep, and have not exited
            ended = system.flags(task) & states.PF_EXITING or state & states.DEAD
            exit_state = (
                unsigned(self.kernel, task.address or 0, "task_struct", "exit_state")
                if ended
                else 0
            )
            return states.letter(state, exit_state)
        except FaultkitError:
            return "?"

    @cached_property
    def _all_blocked(self) -> list[Blocked]:
        """All tasks in D, and those that sleep interruptibly in what is as bad."""
        for letter in self._letters.values():
            self._states[letter] = self._states.get(letter, 0) + 1
        unread = self._states.get("?", 0)
        if unread:
            self.limit(
                f"the state of {unread} of {len(self._letters)} tasks could not be read: the dump "
                "lacks their memory; take a fuller one (makedumpfile -d 31 keeps it)"
            )
        asleep = [
            self._sleeper(task)
            for task, letter in self._letters.items()
            if letter == "D" or (letter == "S" and self._is_program(task))
        ]
        read_ahead(self.system, asleep)
        found = [
            self._blocked(sleeper.task)
            for sleeper in asleep
            if self._letters[sleeper.task] == "D" or self._may_be_as_bad(sleeper)
        ]
        found = [task for task in found if task.task.state == "D" or _is_as_bad(task)]
        return self._still(found)

    def _is_program(self, task: Task) -> bool:
        try:
            return not self.system.flags(task) & states.PF_KTHREAD
        except FaultkitError:
            return False

    def _may_be_as_bad(self, sleeper: Sleeper) -> bool:
        """By what lies on its stack."""
        from faultkit.causes import interruptible_functions

        try:
            return not interruptible_functions().isdisjoint(sleeper.functions)
        except FaultkitError:
            return False

    def _still(self, found: list[Blocked]) -> list[Blocked]:
        """Of a live kernel only those that have not run since they were read."""
        if not self.kernel.live:
            return found
        from faultkit.kernel.recheck import switches

        again = System(self.kernel)
        return [
            task
            for task in found
            if task.switches is not None and switches(again, task.task) == task.switches
        ]

    def blocked(self) -> Sequence[Blocked]:
        if not self._pids:
            return self._all_blocked
        mine = [task for task in self._all_blocked if task.task.pid in self._pids]
        stopped = [
            self._blocked(task)
            for task, letter in self._letters.items()
            if task.pid in self._pids and letter in "tT"
        ]
        return mine + stopped

    def others(self) -> Sequence[Blocked]:
        return self._all_blocked

    def counts(self) -> dict[str, int]:
        letters = [
            letter
            for task, letter in self._letters.items()
            if not self._pids or task.pid in self._pids
        ]
        return {
            "tasks": len(letters),
            "uninterruptible": letters.count("D"),
            "idle": letters.count("I"),
        }

    def _sleeper(self, task: Task) -> Sleeper:
        if task not in self._sleepers:
            try:
                state = self.system.state(task)
            except FaultkitError:
                state = 0
            self._sleepers[task] = Sleeper(self.system, task, state)
        return self._sleepers[task]

    def _blocked(self, task: Task) -> Blocked:
        known = self._known.get(task)
        if known is None:
            known = self._known[task] = self._describe(task)
        return known

    def _describe(self, task: Task) -> Blocked:
        letter = self._letters.get(task, "?")
        named = task._replace(
            state=letter if letter != "?" else None,
            name=(task.name or "") + description(self.system, task),
        )
        is_kernel_thread = not self._is_program(task)
        if letter not in ("D", "S", "I", "T", "t"):
            return Blocked(named, is_kernel_thread=is_kernel_thread)
        sleeper = self._sleeper(task)
        functions = call_chain(sleeper)
        if not functions:
            self.limit(
                "the stacks of some blocked tasks can't be read: the dump lacks their memory, or "
                "it was overwritten"
            )
        return Blocked(
            named,
            functions,
            self._age(sleeper, functions),
            syscall=None if is_kernel_thread else call_of(sleeper.call),
            is_kernel_thread=is_kernel_thread,
            has_stack=bool(functions),
            switches=self._switches(task) if self.kernel.live else None,
        )

    def _age(self, sleeper: Sleeper, functions: tuple[str, ...]) -> float | None:
        if not nfs.SLEEPS.isdisjoint(functions):
            seconds = nfs.seconds_pending(sleeper)
            if seconds is not None:
                return round(seconds, 3)
        return self.system.seconds_off_cpu(sleeper.task)

    def _switches(self, task: Task) -> int | None:
        from faultkit.kernel.recheck import switches

        return switches(self.system, task)

    def frames(self, blocked: Blocked) -> tuple[Frame, ...]:
        task = self.system.by_tid.get(blocked.task.tid)
        return back_trace(self.system, task) if task else ()

    def wait(self, blocked: Blocked) -> Wait | None:
        task = self.system.by_tid.get(blocked.task.tid)
        if task is None or blocked.task.state not in ("D", "S"):
            return None
        return self._graph.wait(self._sleeper(task))

    def name_of(self, lock: Lock) -> str | None:
        return self._graph.name(lock)

    def inspect(self, task: Task) -> str:
        return f"bt {task.tid}"

    def advice(self, text: str) -> str:
        return words.advice(text)

    def find(self, pid: int, tid: int | None = None) -> Blocked | None:
        task = self.system.by_tid.get(tid if tid is not None else pid)
        return self._blocked(task) if task is not None else None

    def threads(self, pid: int) -> Sequence[Blocked]:
        tasks = sorted(
            processes(self.system).get(pid, ()), key=lambda task: self._letters.get(task) != "D"
        )
        return [self._blocked(task) for task in tasks[:MOST_THREADS]]

    def named(self, name: str) -> Sequence[Task]:
        return [
            task
            for task in self._letters
            if task.pid == task.tid and (task.name or "").startswith(name)
        ]

    def children(self, task: Task) -> Sequence[int]:
        return self._world.kinship.children(task.pid, task.tid)

    def tracer(self, task: Task) -> Task | None:
        return self._world.kinship.tracer(task.tid)

    def cgroup(self, task: Task, controller: str) -> str | None:
        known = self.system.by_tid.get(task.tid)
        return self._cgroups.path(known, controller) if known is not None else None

    def cgroup_file(self, path: str, controller: str, name: str) -> str | None:
        return self._cgroups.file(path, controller, name)

    def holders(self, link: str) -> Sequence[Task]:
        """By the names of the descriptors' inodes."""
        files = self._world.files
        found: dict[int, None] = {}
        for pid, tasks in processes(self.system).items():
            try:
                for address in files.descriptors(tasks[0]).values():
                    file = files.file(address) if link.startswith("anon_inode:") else None
                    if file is not None and files.link(file) == link:
                        found[pid] = None
            except FaultkitError:
                continue
        return [self.system.by_tid[pid] for pid in found if pid in self.system.by_tid]

    # files and devices

    def file(self, blocked: Blocked) -> OpenFile | None:
        task = self.system.by_tid.get(blocked.task.tid)
        if task is None:
            return None
        if task not in self._files:
            sleeper = self._sleeper(task) if blocked.task.state in ("D", "S") else None
            self._all_mounts()
            self._files[task] = self._calls.file(blocked, sleeper)
        return self._files[task]

    def _all_mounts(self) -> Sequence[Mount]:
        """Those of process 1, by which super blocks are found again."""
        return self._of_init

    @cached_property
    def _of_init(self) -> Sequence[Mount]:
        init = self.system.by_tid.get(1)
        return self._mounts.seen_by(init) if init is not None else ()

    def mounts(self, tid: int) -> Sequence[Mount]:
        task = self.system.by_tid.get(tid)
        found = self._mounts.seen_by(task) if task is not None else ()
        return found or self._of_init  # kernel threads may have none

    def mount_of(self, path: str) -> Mount | None:
        return mount_of_path(self._of_init, path)

    def device(self, number: tuple[int, int]) -> Device | None:
        return self._devices.device(number)

    def device_named(self, name: str) -> Device | None:
        node = self._calls.nodes.get(f"/dev/{name}")
        return self._devices.device(node) if node is not None else self._devices.named(name)

    def swap_devices(self) -> Sequence[Device]:
        return self._devices.swapped_to()

    def fuse_servers(self, connection: int) -> Sequence[int] | None:
        return self._fuse.servers(connection)

    def fuse_waiting(self, connection: int) -> int | None:
        return self._fuse.waiting(connection)

    def _nfs_blocks(self, server: str) -> list[int]:
        """The super blocks of NFS mounts of a server."""
        return [
            self._mounts.super_blocks[mount.device]
            for mount in self._mounts.known()
            if mount.type.startswith("nfs") and mount.option("addr") == server
        ]

    def rpc_tasks(self, server: str) -> Sequence[str]:
        found: dict[str, None] = {}
        for block in self._nfs_blocks(server):
            found.update(dict.fromkeys(nfs.calls(self.system, block)))
        return list(found)

    def connection_to(self, pid: int, server: str, port: int) -> str | None:
        blocks = self._nfs_blocks(server)
        return nfs.connection(self.system, blocks[0]) if blocks else None

    def log(self, *wanted: str) -> Sequence[str]:
        return [line for line in self._log if any(word in line for word in wanted)][-8:]

    @cached_property
    def _log(self) -> Sequence[str]:
        from faultkit.kernel.printk import lines

        return [line.text for line in lines(self.kernel)]


def _is_as_bad(blocked: Blocked) -> bool:
    from faultkit.causes import interruptible_functions, waits_in

    function = waits_in(blocked.functions)
    return function is not None and function in interruptible_functions()
