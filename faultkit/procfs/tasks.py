"""Tasks by /proc: their states, and for those that sleep in the kernel their stacks and calls.

Only stat, status, stack, wchan, syscall, sched and children are read of them: whatever needs the
memory of a process (cmdline, environ, maps, auxv) waits for its mmap_lock, perhaps for ever."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from faultkit.causes.view import Blocked
from faultkit.model import Frame, Task
from faultkit.procfs.clocks import Clocks, read_sched
from faultkit.procfs.process import PF_KTHREAD, parse_syscall, read_once, read_proc
from faultkit.record import NamedTuple
from faultkit.world import process_ids

_CLONES = (".constprop.", ".isra.", ".part.", ".cold", ".llvm.", ".lto_priv.")


class Stat(NamedTuple):
    """What /proc/PID/task/TID/stat tells."""

    pid: int
    tid: int
    name: bytes
    state: str
    parent: int
    flags: int
    cpu: int

    @property
    def task(self) -> Task:
        """The task, with its name and state."""
        return Task(self.pid, self.tid, self.name.decode("utf-8", "replace"), self.state)

    @property
    def is_kernel_thread(self) -> bool:
        """Whether it has no memory of its own."""
        return bool(self.flags & PF_KTHREAD)


def read_stat(pid: int, tid: int) -> Stat | None:
    """The task's stat, None if it is gone."""
    try:
        return _parse_stat(pid, tid, read_once(f"/proc/{pid}/task/{tid}/stat", 1024))
    except OSError:
        return None


def _parse_stat(pid: int, tid: int, text: bytes) -> Stat | None:
    """The name may hold blanks and parentheses: it ends at the last one."""
    end = text.rfind(b")")
    words = text[end + 2 :].split()
    try:
        return Stat(
            pid,
            tid,
            text[text.index(b"(") + 1 : end],
            words[0].decode("ascii", "replace"),
            int(words[1]),
            int(words[6]),
            int(words[36]),
        )
    except (ValueError, IndexError):
        return None


def scan(pids: Iterable[int]) -> Iterator[Stat]:
    """The stat of every thread of the processes; those that are gone are left out."""
    for pid in pids:
        folder = f"/proc/{pid}/task"
        try:
            tids = os.listdir(folder)
        except OSError:
            continue
        for tid in tids:
            try:
                text = read_once(f"{folder}/{tid}/stat", 1024)
            except OSError:
                continue
            stat = _parse_stat(pid, int(tid), text)
            if stat is not None:
                yield stat


def all_processes() -> Sequence[int]:
    """The ids of all processes that /proc shows."""
    return process_ids()


def thread_group_of(tid: int) -> int | None:
    """The process that a thread, named or not in /proc, belongs to; None if there is none."""
    try:
        for line in read_proc(f"/proc/{tid}/status").splitlines():
            if line.startswith(b"Tgid:"):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None


def read_wchan(pid: int, tid: int) -> str | None:
    """The function that the task sleeps in; None if it may not be seen, or the task runs."""
    try:
        text = read_once(f"/proc/{pid}/task/{tid}/wchan", 256).decode("ascii", "replace")
    except OSError:
        return None
    return base_name(text) if text and text != "0" else None


def base_name(name: str) -> str:
    """A function's name without the suffixes of compiler-made clones."""
    if "." in name:
        for suffix in _CLONES:
            cut = name.find(suffix)
            if cut > 0:
                name = name[:cut]
    return name


class Stacks:
    """Kernel stacks; equal texts are parsed once.  `refused` tells that one could not be read:
    only root may, and not every kernel has them (CONFIG_STACKTRACE)."""

    def __init__(self) -> None:
        self._parsed: dict[bytes, tuple[tuple[str, ...], tuple[Frame, ...]]] = {}
        self.refused = False
        self.absent = False

    def read(self, pid: int, tid: int) -> tuple[tuple[str, ...], tuple[Frame, ...]] | None:
        """(functions, frames), innermost first; None if they may not be read."""
        try:
            text = read_once(f"/proc/{pid}/task/{tid}/stack", 1 << 14)
        except FileNotFoundError:
            self.absent = self.absent or os.path.isdir(f"/proc/{pid}/task/{tid}")
            return None
        except PermissionError:
            self.refused = True
            return None
        except OSError:
            return None
        known = self._parsed.get(text)
        if known is None:
            known = self._parsed[text] = parse_stack(text.decode("ascii", "replace"))
        return known


def parse_stack(text: str) -> tuple[tuple[str, ...], tuple[Frame, ...]]:
    """(functions, frames) of /proc/PID/stack: "[<0>] name+0x12/0x34 [module]" (fs/proc/base.c,
    proc_pid_stack()); the address is not shown, so that frames have 0."""
    frames: list[Frame] = []
    for line in text.splitlines():
        _, _, rest = line.partition("] ")
        words = rest.split()
        if not words:
            continue
        name, _, place = words[0].partition("+")
        try:
            offset = int(place.partition("/")[0], 16) if place else None
        except ValueError:
            offset = None
        if not name or name.startswith("0x"):
            continue
        module = words[1].strip("[]") if len(words) > 1 else None
        frames.append(Frame(len(frames), 0, name, offset, module))
    return tuple(base_name(frame.symbol or "") for frame in frames), tuple(frames)


class Reader:
    """Makes what was scanned to Blocked tasks, with ages by one set of clocks."""

    def __init__(self) -> None:
        self.stacks = Stacks()
        self.clocks = Clocks()

    def blocked(self, stat: Stat, with_age: bool = True) -> Blocked:
        """All that may be known of the task now."""
        pid, tid = stat.pid, stat.tid
        task = stat.task
        if stat.state in "RZX":
            return Blocked(task, is_kernel_thread=stat.is_kernel_thread)
        seconds, switches = self.age(stat) if with_age else (None, None)
        found = self.stacks.read(pid, tid)
        functions, frames = found if found is not None else ((), ())
        if found is None:
            wchan = read_wchan(pid, tid)
            functions = (wchan,) if wchan else ()
        call = None
        if not stat.is_kernel_thread:
            try:
                call = parse_syscall(read_once(f"/proc/{pid}/task/{tid}/syscall", 512))
            except OSError:
                call = None
        return Blocked(
            task,
            functions,
            seconds,
            syscall=call if call is not None and call.nr >= 0 else None,
            frames=frames,
            switches=switches,
            is_kernel_thread=stat.is_kernel_thread,
            has_stack=found is not None,
        )

    def age(self, stat: Stat) -> tuple[float | None, int | None]:
        """(seconds that the task has not run for, how often it was taken off a CPU); None where
        the kernel does not tell."""
        try:
            sched = read_sched(stat.pid, stat.tid)
        except OSError:
            return None, None
        if sched.exec_start is None:
            return None, sched.switches
        return self.clocks.seconds_since(sched.exec_start, stat.cpu), sched.switches
