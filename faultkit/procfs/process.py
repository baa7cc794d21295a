"""A live process read through /proc/PID: no ptrace, no stop, no effect on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from faultkit.coded import CodedProcess
from faultkit.model import Task
from faultkit.procfs.maps import Maps, maps_of
from faultkit.target import (
    RUNNING,
    FaultkitError,
    Mapping,
    ReadError,
    SignalMasks,
    Syscall,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from faultkit.code.process import Code

    T = TypeVar("T")

PF_KTHREAD = 0x00200000  # include/linux/sched.h
AT_ONCE = 1 << 16  # bytes; os.read() makes room for all that it is asked for
NUMBERS, HEXADECIMAL = 8, (16,) * 8  # in a line of /proc/.../syscall


def _what_permits() -> str:
    """Whose word it takes to read a process (kernel/ptrace.c, __ptrace_may_access): root's, which
    in a container has fewer capabilities than some processes."""
    if os.geteuid() == 0:
        return "root may not, as it is confined here: run it outside of the container"
    return (
        "run as root or as the process's user (and see kernel.yama.ptrace_scope), "
        "or attach gdb with sudo"
    )


def read_proc(path: str, size: int = 1 << 16) -> bytes:
    """The contents of a small /proc file, at most `size` bytes.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while size > 0:
            chunk = os.read(fd, min(size, AT_ONCE))
            if not chunk:
                break
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def read_once(path: str, size: int = 4096) -> bytes:
    """What one read of a /proc file gives: all of those that the kernel makes at once, as it does
    whatever concerns one task, if they fit.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def parse_syscall(text: bytes) -> Syscall | None:
    """/proc/PID/task/TID/syscall: the Syscall, RUNNING, or None (fs/proc/base.c,
    proc_pid_syscall: "running", "-1 sp pc" outside a system call, or nr, 6 arguments, sp, pc)."""
    words = text.split()
    if not words:
        return None
    if words[0] == b"running":
        return RUNNING
    try:
        if words[0] == b"-1":  # blocked, but not by a system call (a page fault, for one)
            return None
        if len(words) != 1 + NUMBERS:
            return None
        *arguments, sp, pc = map(int, words[1:], HEXADECIMAL)
        return Syscall(int(words[0]), tuple(arguments), sp, pc)
    except ValueError:
        return None


def parse_stat(text: bytes) -> tuple[str, str, int]:
    """(name, state letter, start time in clock ticks since boot) of a /proc/.../stat line.

    The name may hold blanks and parentheses: it ends at the last one (proc_task_name)."""
    name = text[text.index(b"(") + 1 : text.rindex(b")")].decode("utf-8", "replace")
    fields = text[text.rindex(b")") + 2 :].split()
    return name, fields[0].decode(), int(fields[19])


class ProcProcess(CodedProcess):
    """`Process` over /proc/PID.  Raises FaultkitError if there is no such process, if it is a
    kernel thread or not ours to read, or if it is not a 64-bit x86 process."""

    kind = "process"
    live = True

    def __init__(self, pid: int) -> None:
        super().__init__()
        self.pid = pid
        self._memory: int | None = None
        self._known_maps: Maps | None = None
        if not os.path.isdir(f"/proc/{pid}/task"):
            raise FaultkitError(f"no process {pid}", "it has ended, or its pid is in a container")
        _check_program(pid)

    @property
    def home(self) -> str:
        """The directory below /proc that shows its memory: /proc/PID, or that of a living
        thread where the leader has ended (pthread_exit in main) and so has no memory."""
        return home_of(self.pid)

    def close(self) -> None:
        """Give back the descriptor of /proc/PID/mem."""
        if self._memory is not None:
            os.close(self._memory)
            self._memory = None

    @property
    def name(self) -> str:
        return str(self.pid)

    def tasks(self) -> Sequence[Task]:
        try:
            tids = sorted(int(tid) for tid in os.listdir(f"/proc/{self.pid}/task"))
        except OSError:
            raise FaultkitError(f"process {self.pid} ended while it was read") from None
        return [Task(self.pid, tid) for tid in tids]

    def describe(self, task: Task) -> Task:
        """The task with its name and state; as it is if it has ended."""
        try:
            name, state, _ = parse_stat(read_proc(f"/proc/{task.pid}/task/{task.tid}/stat"))
        except (OSError, ValueError, IndexError):
            return task
        return Task(task.pid, task.tid, name, state, task.number)

    def syscall(self, task: Task) -> Syscall | None:
        try:
            fd = os.open(f"/proc/{self.pid}/task/{task.tid}/syscall", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return parse_syscall(os.read(fd, 512))  # one line, given at once
            finally:
                os.close(fd)
        except PermissionError:
            raise FaultkitError(
                f"no permission to read process {self.pid}", _what_permits()
            ) from None
        except OSError:
            return None

    def read(self, address: int, size: int) -> bytes:
        known = self.held(address, size)
        if known is not None:
            return known
        if self._memory is None:
            try:
                self._memory = os.open(f"{self.home}/mem", os.O_RDONLY | os.O_CLOEXEC)
            except PermissionError:
                raise FaultkitError(
                    f"no permission to read the memory of process {self.pid}", _what_permits()
                ) from None
            except OSError:
                raise FaultkitError(f"process {self.pid} ended while it was read") from None
        if address < 0 or address >= 1 << 63:
            raise ReadError(address, size)
        try:
            data = os.pread(self._memory, size, address)
        except OSError:
            raise ReadError(address, size) from None
        if len(data) != size:
            raise ReadError(address, size)
        return data

    def mappings(self) -> Sequence[Mapping]:
        return self._maps().all

    def mapping(self, address: int) -> Mapping | None:
        return self._maps().at(address)

    def code_mappings(self) -> Sequence[Mapping]:
        return self._maps().code

    def _maps(self) -> Maps:
        if self._known_maps is None:
            try:
                text = read_proc(f"{self.home}/maps", 1 << 26).decode("utf-8", "replace")
            except (OSError, FaultkitError):
                text = ""
            self._known_maps = maps_of(text)
        return self._known_maps

    def _load_code(self) -> Code:
        from faultkit.code.process import Code

        return Code(self.read, self.code_mappings(), self.pid)

    def masks(self, task: Task) -> SignalMasks | None:
        from faultkit.procfs.signals import masks_of

        return masks_of(self.pid, task.tid)

    def parent(self) -> int | None:
        from faultkit.procfs.signals import parent_of

        return parent_of(self.pid)

    def registers(self, task: Task) -> dict[str, int]:
        """ "rip" and "rsp": all that /proc tells, and only of a blocked task."""
        call = self.syscall(task)
        if call is None or call.nr < 0:
            return {}
        return {"rip": call.pc, "rsp": call.sp}


def _check_program(pid: int) -> None:
    """Raises FaultkitError for what has no memory of its own, and for 32-bit programs.

    /proc/PID/exe leads nowhere where the leader has no address space (proc_exe_link in
    fs/proc/base.c): a kernel thread, a zombie, or a leader that its threads outlive."""
    try:
        magic = read_proc(f"/proc/{pid}/exe", 5)
    except FileNotFoundError:
        _check_alive(pid)
        return
    except OSError:
        return  # no permission: whoever reads the memory says so
    if magic == b"\x7fELF\x01":
        raise FaultkitError(
            f"process {pid} is a 32-bit program, which is unsupported",
            "faultkit reads 64-bit x86 processes and cores",
        )


def home_of(pid: int) -> str:
    """The directory below /proc that shows what the process's threads share: /proc/PID, or that
    of a living thread where the leader has ended, and so has none of it (kernel/exit.c,
    exit_mm(), exit_files())."""
    leader = f"/proc/{pid}"
    if not _has_memory(leader):
        try:
            tids = os.listdir(f"{leader}/task")
        except OSError:
            return leader
        for tid in tids if len(tids) > 1 else ():
            if _has_memory(f"{leader}/task/{tid}"):
                return f"{leader}/task/{tid}"
    return leader


def ask_process(pid: int, name: str, ask: Callable[[str], T]) -> T:
    """What `ask` tells of /proc/PID/NAME, or of the same in `home_of`.  Raises OSError."""
    try:
        return ask(f"/proc/{pid}/{name}")
    except PermissionError:
        raise
    except OSError:
        home = home_of(pid)
        if home == f"/proc/{pid}":
            raise
        return ask(f"{home}/{name}")


def _has_memory(home: str) -> bool:
    try:
        os.readlink(f"{home}/exe")
    except FileNotFoundError:
        return False
    except OSError:
        pass  # not ours to read, which is another matter
    return True


def _check_alive(pid: int) -> None:
    try:
        stat = read_proc(f"/proc/{pid}/stat")
        name, state, _ = parse_stat(stat)
        parent, *_, flags = stat[stat.rindex(b")") + 2 :].split()[1:7]
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except (OSError, ValueError, IndexError):
        raise FaultkitError(f"no process {pid}", "it has ended") from None
    if int(flags) & PF_KTHREAD:
        raise FaultkitError(
            f"{pid} is a kernel thread, and no program",
            f"name a process, or read /proc/{pid}/stack",
        )
    if state in "ZX" and threads <= 1:
        raise FaultkitError(
            f"process {pid} ({name}) has ended and is a zombie",
            f"its parent, process {int(parent)}, has yet to collect it: look at that one",
        )
