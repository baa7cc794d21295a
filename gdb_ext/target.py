"""gdb's inferior, live or a core, as a `faultkit.target.Process`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import gdb

from faultkit.model import Frame, SourceLine, Task
from faultkit.procfs.process import ProcProcess, read_proc
from faultkit.target import (
    RUNNING,
    FaultkitError,
    Local,
    Mapping,
    Process,
    ReadError,
    Syscall,
)
from faultkit.world import thread_group
from gdb_ext.backtrace import PRESERVED, registers_of, symbol_of, told, unsigned, unwind
from gdb_ext.registers import TRACER, Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from faultkit.corefile import Gaps

# What the kernel leaves in rax of a task that a stop woke from a blocking call
# (include/linux/errno.h ERESTART*); calls that never restart say EINTR.
INTERRUPTED = frozenset((-512, -513, -514, -516))
EINTR = -4
# write, sendto, pwrite64: a signal ends them once a part is written (fs/pipe.c, pipe_write)
PARTIAL = frozenset((1, 44, 18))
DEAD = ("Z", "X", None)  # states of /proc; None: gone
ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
X86_64 = "i386:x86-64"
EM_X86_64 = b"\x3e\x00"
SYSCALL_INSTRUCTION = b"\x0f\x05"


@contextmanager
def selection_kept() -> Iterator[None]:
    """Leave the selected thread and frame as they were, whatever happens inside."""
    thread = gdb.selected_thread()
    frame: gdb.Frame | None = None  # if it is not the one that comes with the thread
    try:
        if gdb.selected_frame() != gdb.newest_frame():
            frame = gdb.selected_frame()
    except gdb.error:
        pass
    try:
        yield
    finally:
        if thread is not None and thread.is_valid():
            thread.switch()
        if frame is not None and frame.is_valid():
            frame.select()


class GdbProcess(Process):
    """The selected inferior.  Use inside `selection_kept`: reading registers selects threads.

    Raises FaultkitError if there is no inferior with threads, or if it is no x86_64 one.
    """

    def __init__(self, otherwise: str = "name one: deadlock PID") -> None:
        """`otherwise` is what else to do where there is no inferior."""
        self._inferior = gdb.selected_inferior()
        threads = self._inferior.threads()
        core = None if _is_native(self._inferior) else core_file()
        if not threads:
            if core:
                raise FaultkitError(
                    f"{core}: no thread is recorded in this core",
                    "it is damaged or was not made by the kernel or gcore; make a new one",
                )
            raise FaultkitError(
                "no process and no core is loaded",
                f"attach with `gdb -p PID`, load a core, or {otherwise}",
            )
        architecture = _architecture(self._inferior)
        if architecture != X86_64:
            raise FaultkitError(
                f"the inferior's architecture is {architecture}, which is unsupported",
                "faultkit reads 64-bit x86 processes and cores",
            )
        self.pid = self._inferior.pid
        self.core = core
        self.kind = "core" if core else "process"
        self.live = not core and _traced_by_us(self.pid)
        self._proc = _readable(self.pid) if self.live else None
        self._threads: dict[int, gdb.InferiorThread | None] = {
            thread.ptid[1] or thread.ptid[0]: thread for thread in threads
        }
        if self._proc is not None and self._proc.pid != self.pid:
            self.pid = self._proc.pid
            self._threads.update(dict.fromkeys(self._not_attached(self._proc)))
        self.stopped = not any(_runs(thread) for thread in self._threads.values())
        self._frames: dict[tuple[int, int, bool], tuple[Frame, ...]] = {}
        self._locals: dict[tuple[int, int], Sequence[Local]] = {}
        self._mappings: Sequence[Mapping] | None = None
        self._code: Any = None
        self._without_stack: set[int] = set()  # threads whose stacks a core lacks

    def close(self) -> None:
        if self._proc is not None:
            self._proc.close()

    @property
    def name(self) -> str:
        return os.path.basename(self.core) if self.core else str(self.pid)

    def _not_attached(self, process: ProcProcess) -> list[int]:
        """Threads of the process that gdb does not have: all but one, as it was given the id of
        one that is not the process's first."""
        others = [task for task in process.tasks() if task.tid not in self._threads]
        return [task.tid for task in others if process.describe(task).state not in DEAD]

    def tasks(self) -> Sequence[Task]:
        pid, number = self.pid, self._number
        return [Task(pid, tid, None, None, number(tid)) for tid in sorted(self._threads)]

    def _number(self, tid: int) -> str | None:
        thread = self._threads.get(tid)
        return str(thread.num) if thread is not None else None

    def describe(self, task: Task) -> Task:
        """The task with gdb's number for it, and its name and state where it is alive."""
        thread = self._threads.get(task.tid)
        number = self._number(task.tid)
        if self._proc is not None:
            known = self._proc.describe(task)
            return Task(task.pid, task.tid, known.name, known.state, number)
        name = told(lambda: thread.name) if thread is not None else None
        return Task(task.pid, task.tid, name, None, number)

    def _newest_frame(self, task: Task) -> gdb.Frame | None:
        thread = self._threads.get(task.tid)
        if thread is None or not thread.is_valid() or thread.is_running():
            return None
        try:
            thread.switch()
            return gdb.newest_frame()
        except gdb.error:
            return None

    def syscall(self, task: Task) -> Syscall | None:
        """A live inferior's threads by ptrace, or where they are not stopped by /proc, neither of
        which looks whether a wake-up has reached the thread: see `surely_blocked`."""
        stopped = TRACER.stopped(task.tid) if self.live else None
        if stopped is not None:
            return stopped.call
        if self._proc is not None:
            call = self._proc.syscall(task)
            if call is not None:
                return call
        stopped = self._stopped_by_gdb(task)
        if stopped is None:
            return None
        if self.core and self._gaps.touch(stopped.call.sp, 8):
            self._without_stack.add(task.tid)
        return stopped.call if self._sleeps(stopped) else RUNNING

    def surely_blocked(self, task: Task) -> bool:
        if self._proc is None or _runs(self._threads.get(task.tid)):
            return True  # a thread that gdb did not stop and that /proc shows as blocked is so
        stopped = self._stopped(task)
        return stopped is not None and self._sleeps(stopped)

    def cut_short(self, task: Task) -> bool:
        stopped = self._stopped(task) if self.stopped else None
        if stopped is None or stopped.call.nr not in PARTIAL:
            return False
        return 0 < stopped.result < stopped.call.args[2]

    def _stopped(self, task: Task) -> Stopped | None:
        known = TRACER.stopped(task.tid) if self.live else None
        return self._stopped_by_gdb(task) if known is None else known

    def _stopped_by_gdb(self, task: Task) -> Stopped | None:
        frame = self._newest_frame(task)
        if frame is None:
            return None
        try:
            read = frame.read_register
            number, result = _signed(read("orig_rax")), _signed(read("rax"))
            if number < 0:
                return Stopped(RUNNING, result)
            arguments = tuple(unsigned(read(name)) for name in ARGUMENTS)
            call = Syscall(number, arguments, unsigned(read("rsp")), unsigned(read("rip")))
            return Stopped(call, result)
        except (gdb.error, ValueError):
            return None

    def _sleeps(self, stopped: Stopped) -> bool:
        """Whether the thread was asleep in its system call when it was stopped."""
        if stopped.call is RUNNING:
            return False
        if stopped.result == EINTR:
            return self._after_syscall(stopped.call.pc)
        return stopped.result in INTERRUPTED

    def _after_syscall(self, pc: int) -> bool:
        try:
            return self.read(pc - 2, 2) == SYSCALL_INSTRUCTION
        except ReadError:
            return True

    def registers(self, task: Task) -> dict[str, int]:
        frame = self._newest_frame(task)
        return registers_of(frame, ("rip", "rsp", *PRESERVED)) if frame is not None else {}

    def read(self, address: int, size: int) -> bytes:
        known = self.held(address, size)
        if known is not None:
            return known
        if address < 0 or size < 0 or address + size > 1 << 64:
            raise ReadError(address, size)
        if size == 0:  # which newer gdbs refuse
            return b""
        if self.core and self._gaps.touch(address, size):
            raise ReadError(address, size)
        try:
            return self._inferior.read_memory(address, size).tobytes()
        except (gdb.error, OverflowError):  # gdb.MemoryError is a gdb.error
            if self._proc is not None and not self.stopped:
                return self._proc.read(address, size)
            raise ReadError(address, size) from None

    @cached_property
    def _gaps(self) -> Gaps:
        from faultkit.corefile import Gaps

        return Gaps(self.core or "")

    def mappings(self) -> Sequence[Mapping]:
        if self._mappings is None:
            if self._proc is not None:
                self._mappings = self._proc.mappings()
            elif self.core:
                from faultkit.corefile import core_mappings

                self._mappings = core_mappings(self.core)
            else:
                self._mappings = []
        return self._mappings

    def mapping(self, address: int) -> Mapping | None:
        return self._proc.mapping(address) if self._proc is not None else super().mapping(address)

    def code_mappings(self) -> Sequence[Mapping]:
        return self.mappings() if self._proc is None else self._proc.code_mappings()

    def symbol(self, address: int) -> tuple[str, int, int | None] | None:
        return symbol_of(address)

    def line(self, address: int) -> SourceLine | None:
        place = gdb.find_pc_line(address)
        if place.symtab is None or not place.line:
            return None
        return SourceLine(None, told(lambda: place.symtab.filename), place.line)

    def frames(self, task: Task, limit: int = 64) -> tuple[Frame, ...]:
        known = self._frames.get((task.tid, limit, True))
        return self._back_trace(task, limit, False) if known is None else known

    def bare_frames(self, task: Task) -> tuple[Frame, ...]:
        return self._back_trace(task, 64, True)

    def _back_trace(self, task: Task, limit: int, preserved: bool) -> tuple[Frame, ...]:
        """With the registers that functions preserve, if wanted: to read them takes a third of the
        time."""
        key = (task.tid, limit, preserved)
        known = self._frames.get(key)
        if known is None:
            if self._proc is not None and _runs(self._threads.get(task.tid)):
                known = self._proc.frames(task, limit)
            else:
                newest = self._newest_frame(task)
                known = tuple(unwind(newest, limit, PRESERVED if preserved else ()))
                if known and not self._is_code(known[-1].address):  # no call frame information
                    known = max(known, self._unwind_by_code(task, limit), key=len)
            self._frames[key] = known
        return known

    def _unwind_by_code(self, task: Task, limit: int) -> tuple[Frame, ...]:
        """The frames as faultkit itself sees them, who also gets through musl's functions."""
        from faultkit.code.process import Code

        if self._code is None:
            pid = self.pid if self.live else None
            self._code = Code(self.read, self.mappings(), pid)
        return self._code.frames(self.registers(task), limit)

    def _is_code(self, address: int) -> bool:
        """Whether code may be there: a core does not tell of all that may be executed."""
        mapping = self.mapping(address)
        return mapping is not None and mapping.perms[2:3] in ("", "x")

    def locals(self, task: Task, limit: int = 64) -> Sequence[Local]:
        key = (task.tid, limit)
        if key not in self._locals:
            self._locals[key] = self._find_locals(task, limit)
        return self._locals[key]

    def _find_locals(self, task: Task, limit: int) -> Sequence[Local]:
        from gdb_ext.locals import frame_locals

        frame = self._newest_frame(task)
        found: list[Local] = []
        index = 0
        try:
            while frame is not None and index < limit:
                found.extend(frame_locals(frame, index))
                index += frame.type() != gdb.INLINE_FRAME
                frame = frame.older()
        except (gdb.error, RuntimeError):
            pass
        return found

    def notes(self) -> Sequence[str]:
        """What a reader of the report should know of the state that gdb left it in."""
        running = sum(1 for thread in self._threads.values() if _runs(thread))
        if not running:
            return ()
        return [
            f"{running} of {len(self._threads)} threads are not stopped: "
            "they were looked at while they run"
        ]

    def paused_seconds(self) -> float | None:
        """How long the live inferior has been stopped: since its threads last ran."""
        if self._proc is None or not self.stopped:
            return None
        from faultkit.procfs.age import MOST_ASKED, seconds_stopped

        return seconds_stopped([Task(self.pid, tid) for tid in sorted(self._threads)[:MOST_ASKED]])

    def limits(self) -> Sequence[str]:
        if not self.core:
            return ()
        from faultkit.corefile import core_limits

        limits = list(core_limits(self.core))
        if not told(lambda: gdb.current_progspace().filename):
            limits.append(
                "the core's executable is not loaded, so its functions have no names; "
                "load it with `file PROGRAM`"
            )
        if self._without_stack:
            limits.append(
                f"the stacks of {len(self._without_stack)} of {len(self._threads)} threads are not "
                "in the core: it was cut off, or its coredump_filter leaves private memory out"
            )
        return limits


def _readable(pid: int) -> ProcProcess | None:
    """The process through /proc, None if that does not let us see its system calls."""
    try:
        process = ProcProcess(thread_group(pid) or pid)
        process.syscall(Task(pid, pid))
    except FaultkitError:
        return None
    return process


def _runs(thread: gdb.InferiorThread | None) -> bool:
    """Whether gdb has let this thread run, in non-stop mode or after `continue &`, or does not
    have it at all (None)."""
    return thread is None or bool(thread.is_valid() and thread.is_running())


def _is_native(inferior: gdb.Inferior) -> bool:
    """Whether the inferior surely is a live process; gdb has no connections before 11."""
    connection = getattr(inferior, "connection", None)
    return connection is not None and connection.type == "native"


def live_inferior() -> int | None:
    """The process id of the inferior, None if there is none.  Raises FaultkitError for cores, and
    for what runs on another machine."""
    inferior = gdb.selected_inferior()
    if not inferior.pid or not inferior.threads():
        return None
    if (_is_native(inferior) or not core_file()) and _traced_by_us(inferior.pid):
        return int(inferior.pid)
    raise FaultkitError(
        "the inferior is no live process of this machine, and only its kernel knows why it waits",
        "dstate --all examines this machine, dstate --from FILE a kernel's log",
    )


def core_file() -> str | None:
    """The path of the core file that is loaded, None if there is none."""
    try:
        text = gdb.execute("info files", to_string=True) or ""
    except UnicodeDecodeError as error:
        text = os.fsdecode(error.object)
    found = re.search(r"core dump file:\s*[`'](.+?)', file type", text, re.DOTALL)
    return found.group(1) if found else None


def _architecture(inferior: gdb.Inferior) -> str:
    """gdb's name for it; gdb 10 says "i386" of any process all of whose threads run, then it is
    its executable that tells."""
    try:
        name = inferior.architecture().name()
    except (gdb.error, AttributeError):
        name = "unknown"
    if name != X86_64 and _traced_by_us(inferior.pid):
        try:
            header = read_proc(f"/proc/{inferior.pid}/exe", 20)
        except OSError:
            return str(name)
        if header[:5] == b"\x7fELF\x02" and header[18:20] == EM_X86_64:
            return X86_64
    return str(name)


def _traced_by_us(pid: int) -> bool:
    """Whether `pid` is a process of this machine that this very gdb has stopped; not so for a
    remote target, whose process ids mean nothing here."""
    try:
        status = read_proc(f"/proc/{pid}/status")
    except OSError:
        return False
    return f"TracerPid:\t{os.getpid()}\n".encode() in status


def _signed(value: Any) -> int:
    number = unsigned(value)
    return number - (1 << 64) if number >> 63 else number
