"""This machine as `dstate` sees it: its blocked tasks, and what can be asked about them without
opening, or asking for the attributes of, anything that a hung file system has to answer."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import cached_property

from faultkit.causes.view import Blocked, Device, Mount, OpenFile, View
from faultkit.klog import hung
from faultkit.klog.lines import Line, kernel_messages
from faultkit.model import Task
from faultkit.procfs import block, calls, cgroups, mounts, servers, status
from faultkit.procfs.fds import fdinfo, link
from faultkit.procfs.process import read_proc
from faultkit.procfs.tasks import (
    Reader,
    Stat,
    all_processes,
    read_stat,
    read_wchan,
    scan,
    thread_group_of,
)
from faultkit.target import FaultkitError

MOST_THREADS = 512  # of a process that somebody waits for


class LiveView(View):
    """The tasks of some processes, or of the whole machine; what was read is remembered."""

    kind = "live-kernel"
    live = True

    def __init__(self, pids: Sequence[int] = ()) -> None:
        super().__init__()
        self._pids = [self._process(pid) for pid in pids]
        self.kind = "process" if pids else "live-kernel"
        self.name = ", ".join(map(str, pids)) or "this machine"
        self.release = os.uname().release
        self.own_pid = os.getpid()
        self._reader = Reader()
        self._threads: dict[int, list[Blocked]] = {}
        self._mounts: dict[str, list[Mount]] = {}
        self._files: dict[tuple[int, int, int], OpenFile | None] = {}
        self._devices: dict[tuple[int, int], Device | None] = {}
        self._states: dict[str, int] = {}

    @staticmethod
    def _process(pid: int) -> int:
        """The process that an id, perhaps a thread's, belongs to.  Raises FaultkitError."""
        process = thread_group_of(pid)
        if process is None:
            raise FaultkitError(f"no process {pid}", "it has ended, or its pid is in a container")
        return process

    # tasks

    @cached_property
    def _stats(self) -> list[Stat]:
        """Of every thread that is looked at."""
        return list(scan(self._pids or all_processes()))

    @cached_property
    def _everybody(self) -> list[Stat]:
        return self._stats if not self._pids else list(scan(all_processes()))

    @cached_property
    def _blocked(self) -> list[Blocked]:
        for stat in self._stats:
            self._states[stat.state] = self._states.get(stat.state, 0) + 1
        return self._asleep(self._stats, also_idle=bool(self._pids))

    @cached_property
    def _others(self) -> list[Blocked]:
        return self._blocked if not self._pids else self._asleep(self._everybody)

    def _asleep(self, stats: Sequence[Stat], also_idle: bool = False) -> list[Blocked]:
        """The tasks in D, and those that sleep interruptibly in what is as bad."""
        from faultkit.causes import interruptible_functions

        as_bad = interruptible_functions()
        found = []
        for stat in stats:
            wanted = stat.state == "D"
            if stat.state == "S" and not stat.is_kernel_thread:
                wanted = read_wchan(stat.pid, stat.tid) in as_bad
            if stat.state in "tT" and also_idle:
                wanted = True
            if wanted:
                found.append(self._reader.blocked(stat))
        self._say_what_was_refused(found)
        return found

    def _say_what_was_refused(self, found: Sequence[Blocked]) -> None:
        unseen = [blocked for blocked in found if not blocked.has_stack]
        if not unseen:
            return
        if self._reader.stacks.absent:
            self.limit(
                "this kernel has no /proc/PID/stack (CONFIG_STACKTRACE): only the innermost "
                "function is known; echo w > /proc/sysrq-trigger, then dstate --from <(dmesg)"
            )
        elif self._reader.stacks.refused:
            self.limit(
                f"the kernel stacks of {len(unseen)} {'tasks' if len(unseen) > 1 else 'task'} may "
                "not be read: run it as root, or have root save "
                "`echo w > /proc/sysrq-trigger; dmesg` for dstate --from FILE"
            )

    def blocked(self) -> Sequence[Blocked]:
        return self._blocked

    def others(self) -> Sequence[Blocked]:
        return self._others

    def counts(self) -> dict[str, int]:
        return {
            "tasks": len(self._stats),
            "uninterruptible": self._states.get("D", 0),
            "idle": self._states.get("I", 0),
        }

    def look_again(self, blocked: Blocked) -> Blocked | None:
        """With a new age; None if the task has run in between, or is gone."""
        stat = read_stat(blocked.task.pid, blocked.task.tid)
        if stat is None or stat.state != blocked.task.state:
            return None
        seconds, switches = self._reader.age(stat)
        if switches != blocked.switches:
            return None
        if blocked.seconds is None or seconds is None:
            return blocked
        return blocked._replace(seconds=seconds)

    def find(self, pid: int, tid: int | None = None) -> Blocked | None:
        stat = read_stat(pid, tid if tid is not None else pid)
        return self._reader.blocked(stat) if stat is not None else None

    def threads(self, pid: int) -> Sequence[Blocked]:
        known = self._threads.get(pid)
        if known is None:
            stats = sorted(scan([pid]), key=lambda stat: stat.state != "D")
            known = [self._reader.blocked(stat) for stat in stats[:MOST_THREADS]]
            self._threads[pid] = known
        return known

    def named(self, name: str) -> Sequence[Task]:
        wanted = name.encode()
        return [
            stat.task
            for stat in self._everybody
            if stat.pid == stat.tid and stat.name.startswith(wanted)
        ]

    def children(self, task: Task) -> Sequence[int]:
        return status.children(task.pid, task.tid)

    def tracer(self, task: Task) -> Task | None:
        number = status.status(task.pid, task.tid).get("TracerPid", "0")
        found = read_stat(int(number), int(number)) if number.isdigit() and number != "0" else None
        return found.task if found is not None else None

    def cgroup(self, task: Task, controller: str) -> str | None:
        return cgroups.cgroup_of(task, controller)

    def cgroup_folder(self, path: str, controller: str) -> str:
        found = cgroups.folder(self.mounts(os.getpid()), path, controller)
        return found if found is not None else super().cgroup_folder(path, controller)

    def cgroup_file(self, path: str, controller: str, name: str) -> str | None:
        return cgroups.read(self.mounts(os.getpid()), path, controller, name)

    def lock_owner(self, task: Task) -> tuple[Task, str] | None:
        """By the hung-task detector, if it has said so since the task fell asleep."""
        stat = read_stat(task.pid, task.tid)
        seconds = self._reader.age(stat)[0] if stat is not None else None
        if seconds is None:
            return None
        return hung.owner_of(self._log, task, since=time.monotonic() - seconds)

    def holders(self, link: str) -> Sequence[Task]:
        return self._openers.tasks(link) if link in self._openers.by_link else ()

    @cached_property
    def _openers(self) -> servers.Openers:
        return servers.Openers()

    # files and devices

    def file(self, blocked: Blocked) -> OpenFile | None:
        """By the arguments of its system call; a path's memory is read only where no thread of
        the process can hold its mmap_lock."""
        if blocked.syscall is None and not calls.dumps_core(blocked):
            return None
        key = (blocked.task.pid, blocked.task.tid, -1)
        fd = calls.descriptor(blocked)
        if fd is not None:
            key = (blocked.task.pid, 0, fd)
        if key not in self._files:
            self._files[key] = self._find_file(blocked, fd)
        return self._files[key]

    def _find_file(self, blocked: Blocked, fd: int | None) -> OpenFile | None:
        pid = blocked.task.tid  # the thread's own: its leader may have ended
        if fd is not None:
            path = link(pid, fd)
            info = fdinfo(pid, fd)
            if path is None and info is None:
                return None
            return OpenFile(path, self._mount_number(pid, info.mount if info else None), fd)
        path = calls.path(blocked, lambda: calls.memory_is_free(self.threads(blocked.task.pid)))
        if path is None:
            return None
        return OpenFile(path, mounts.mount_of_path(self.mounts(pid), path))

    def _mount_number(self, pid: int, number: int | None) -> Mount | None:
        if number is None:
            return None
        return next((mount for mount in self.mounts(pid) if mount.number == number), None)

    def mounts(self, tid: int) -> Sequence[Mount]:
        namespace = status.namespace(tid, "mnt") or str(tid)
        known = self._mounts.get(namespace)
        if known is None:
            known = self._mounts[namespace] = mounts.read_mounts(tid)
        return known

    def mount_of(self, path: str) -> Mount | None:
        return mounts.mount_of_path(self.mounts(os.getpid()), path)

    def device(self, number: tuple[int, int]) -> Device | None:
        if number not in self._devices:
            self._devices[number] = block.block_device(number)
        return self._devices[number]

    def device_now(self, device: Device) -> Device | None:
        return block.block_device(device.number)

    def device_named(self, name: str) -> Device | None:
        return block.block_device_named(name)

    def swap_devices(self) -> Sequence[Device]:
        try:
            lines = read_proc("/proc/swaps").decode("utf-8", "replace").split("\n")[1:]
        except OSError:
            return ()
        found = [self.device_named(line.split()[0].rpartition("/")[2]) for line in lines if line]
        return [device for device in found if device is not None]

    def fuse_servers(self, connection: int) -> Sequence[int] | None:
        return self._openers.fuse_servers(connection)

    def fuse_waiting(self, connection: int) -> int | None:
        try:
            return int(read_proc(f"/sys/fs/fuse/connections/{connection}/waiting", 64))
        except (OSError, ValueError):
            return None

    def rpc_tasks(self, server: str) -> Sequence[str]:
        return servers.rpc_tasks(server)

    def connection_to(self, pid: int, server: str, port: int) -> str | None:
        return servers.tcp_state(server, port)

    @cached_property
    def _log(self) -> list[Line]:
        return kernel_messages()

    def log(self, *words: str) -> Sequence[str]:
        return [line.text for line in self._log if any(word in line.text for word in words)][-8:]
