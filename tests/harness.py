"""Runs scenes, takes cores and asks gdb.

Building is in building.py, comparing reports in comparing.py; tests import all from here.
Environment: FAULTKIT_GDB names the gdb to use; FAULTKIT_SITE, if set, is passed on to the
command itself.
"""

import contextlib
import json
import os
import re
import resource
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from building import HarnessError, Unplayable, build, command_line
from comparing import check, describe, mismatch
from scenarios.model import Scenario

TESTS = Path(__file__).resolve().parent
CHECKOUT = TESTS.parent
COMMANDS = CHECKOUT / "gdb_ext" / "faultkit.py"
__all__ = [
    "HarnessError",
    "Stage",
    "Unplayable",
    "alive",
    "assert_unharmed",
    "build",
    "check",
    "command_line",
    "describe",
    "gcore_core",
    "gdb_deadlock",
    "kernel_core",
    "mismatch",
    "picture",
    "run_gdb",
    "running",
    "unattached_deadlock",
]

GDB_SECONDS = 60
REST_SECONDS = 20
READY_SECONDS = 60


# --- running ----------------------------------------------------------------------------------


@dataclass
class Stage:
    """A scene that is being played.

    `pid` is the first process, the leader of the group; `tids` has the (pid, tid) of every
    thread that told its name; `notes` the numbers that the program told; `health` the state
    before anybody looked, for assert_unharmed().
    """

    pid: int
    executable: Path
    directory: Path
    process: "subprocess.Popen[bytes]"
    moving: bool = False
    tids: dict[str, tuple[int, int]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    health: dict[str, Any] = field(default_factory=dict)
    unread: bytes = b""

    @property
    def target(self) -> int:
        """The process to diagnose: the one that the program noted as "target", or the first."""
        return self.notes.get("target", self.pid)

    @property
    def procs(self) -> tuple[int, ...]:
        """The processes of the scene, the first one first."""
        others = {pid for pid, _ in self.tids.values()} - {self.pid}
        return (self.pid, *sorted(others))

    def name(self, tid: Any) -> str:
        """The name of the thread `tid`, or "tid N" if it told none."""
        for name, (_, known) in self.tids.items():
            if known == tid:
                return name
        return f"tid {tid}"

    def errors(self) -> str:
        """What the program wrote to its standard error."""
        return (self.directory / "stderr").read_text(errors="replace")


@contextlib.contextmanager
def running(
    scenario: Scenario, variant: str, command: Optional[list[str]] = None
) -> Iterator[Stage]:
    """Plays the scenario until it is stuck (or moves), and ends all of it afterwards.

    The program is built in `variant`, unless `command` says what to run instead.

    Raises Unplayable if this machine cannot, HarnessError if the program fails.
    """
    command = [*(command or command_line(scenario.program, variant)), *scenario.argv]
    with tempfile.TemporaryDirectory(prefix="faultkit-") as name:
        directory = Path(name)
        with (directory / "stderr").open("wb") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=directory,
                env={**os.environ, "GOTRACEBACK": "crash"},  # else Go leaves no core
                start_new_session=True,  # one group to kill
            )
        stage = Stage(process.pid, Path(command[0]), directory, process, scenario.moving)
        try:
            _await_ready(stage)
            if scenario.moving:
                time.sleep(0.3)
            else:
                _await_rest(stage)
            _read_lines(stage, 0)
            stage.health = health(stage)
            yield stage
        finally:
            _end(stage)


def _read_lines(stage: Stage, seconds: float) -> tuple[bool, bool]:
    """Takes in what the program says within `seconds`: whether "ready" came, whether it ended."""
    assert stage.process.stdout is not None
    descriptor = stage.process.stdout.fileno()
    ready = False
    while select.select([descriptor], [], [], seconds)[0]:
        data = os.read(descriptor, 1 << 16)
        *lines, stage.unread = (stage.unread + data).split(b"\n")
        for line in lines:
            words = line.decode(errors="replace").split()
            if words[:1] == ["tid"]:
                stage.tids[words[1]] = (int(words[3]), int(words[2]))
            elif words[:1] == ["note"]:
                stage.notes[words[1]] = int(words[2], 0)
            elif words[:1] == ["skip"]:
                raise Unplayable(" ".join(words[1:]))
            elif words == ["ready"]:
                ready = True
            else:
                raise HarnessError(f"the program said {line!r}")
        if not data:
            return ready, True
        seconds = 0
    return ready, False


def _await_ready(stage: Stage) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        ready, ended = _read_lines(stage, 1)
        if ready:
            return
        if ended or stage.process.poll() is not None:
            raise HarnessError(f"ended with {stage.process.wait()}: {stage.errors()}")
    raise HarnessError(f"not ready after {READY_SECONDS} s: {picture(stage)}")


def _proc(path: str) -> str:
    """The text of a file below /proc; "" if the process or thread is gone."""
    try:
        return Path("/proc", path).read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _tasks(pid: int) -> list[str]:
    """The threads of `pid`, as paths below /proc."""
    try:
        return [f"{pid}/task/{tid}" for tid in sorted(os.listdir(f"/proc/{pid}/task"), key=int)]
    except (FileNotFoundError, ProcessLookupError):
        return []


def picture(stage: Stage) -> dict[str, str]:
    """What each thread of the scene is blocked in: its line in /proc/PID/task/TID/syscall."""
    tasks = [task for pid in stage.procs for task in _tasks(pid)]
    return {task: _proc(f"{task}/syscall").strip() for task in tasks}


def _switches(task: str) -> list[str]:
    return re.findall(r"ctxt_switches:\s*(\d+)", _proc(f"{task}/status"))


def _await_rest(stage: Stage) -> None:
    """Returns once no thread has run, or been in another call, in three polls running."""
    deadline = time.monotonic() + REST_SECONDS
    last: Any = None
    same = 0
    while same < 3:
        if time.monotonic() > deadline:
            raise HarnessError(f"no rest after {REST_SECONDS} s: {picture(stage)}")
        if stage.process.poll() is not None:
            raise HarnessError(f"ended with {stage.process.returncode}: {stage.errors()}")
        _read_lines(stage, 0)
        calls = picture(stage)
        now = {task: (call, _switches(task)) for task, call in calls.items()}
        same = same + 1 if now == last and "running" not in calls.values() else 0
        last = now
        time.sleep(0.02)


def _end(stage: Stage) -> None:
    """Kills every process of the scene and reaps the first one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(stage.pid, signal.SIGKILL)
    for pid in stage.procs[1:]:  # one may have left the group
        if _session(pid) == stage.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    stage.process.wait()
    if stage.process.stdout is not None:
        stage.process.stdout.close()


def alive(pid: int) -> bool:
    """Whether there is such a process, and not only its zombie."""
    return _proc(f"{pid}/stat").rpartition(")")[2].split()[:1] not in ([], ["Z"], ["X"])


def _session(pid: int) -> Optional[int]:
    stat = _proc(f"{pid}/stat").rpartition(")")[2].split()
    return int(stat[3]) if len(stat) > 3 else None


# --- no harm ----------------------------------------------------------------------------------

SIGNAL_FIELDS = ("TracerPid", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")

# poll, nanosleep, futex, clock_nanosleep: with a timeout and interrupted, they go on as
# restart_syscall (219), with their arguments.
RESTARTED = frozenset({"7", "35", "202", "219", "230"})

# epoll_wait, epoll_pwait, semop, semtimedop: signal(7) says that they end with EINTR after a
# stop; the program calls again, with other leftovers in the registers that it does not use.
REISSUED = frozenset({"232", "281", "65", "220"})


def health(stage: Stage) -> dict[str, Any]:
    """What looking at a process must not change: its threads, their states, signal masks and
    dispositions, pending signals, tracer, memory map and, if it does not move, their calls."""
    state: dict[str, Any] = {}
    for pid in stage.procs:
        state[f"{pid} maps"] = None if stage.moving else _proc(f"{pid}/maps")
        for task in _tasks(pid):
            fields = dict(re.findall(r"^(\w+):\t(.*)", _proc(f"{task}/status"), re.MULTILINE))
            letter = fields.get("State", "?")[:1]
            state[task] = {name: fields.get(name) for name in SIGNAL_FIELDS}
            state[task]["State"] = letter if not stage.moving else letter in "RSD"
            if not stage.moving:
                number, _, rest = _proc(f"{task}/syscall").strip().partition(" ")
                if number in REISSUED:
                    rest = ""
                state[task]["call"] = ("timed" if number in RESTARTED else number, rest)
    return state


def assert_unharmed(stage: Stage, seconds: float = 5) -> None:
    """The scene is as it was before anybody looked; it gets some time to resume after detach."""
    deadline = time.monotonic() + seconds
    while True:
        now = health(stage)
        if now == stage.health:
            return
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    changed = [
        f"{key}: {stage.health.get(key)} -> {now.get(key)}"
        for key in sorted({*now, *stage.health})
        if now.get(key) != stage.health.get(key)
    ]
    raise AssertionError("looking changed the process:\n" + "\n".join(changed))


# --- cores ------------------------------------------------------------------------------------


def kernel_core(stage: Stage) -> Path:
    """The core that the kernel writes when the target process is killed with SIGABRT.

    Raises Unplayable where cores go to a program or are forbidden.
    """
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith("|"):
        raise Unplayable(f"cores go to a program here: {pattern}")
    if not pattern:
        raise Unplayable("kernel.core_pattern is empty")
    _, hard = resource.prlimit(stage.target, resource.RLIMIT_CORE)
    if hard != resource.RLIM_INFINITY:
        raise Unplayable(f"RLIMIT_CORE is limited to {hard}")
    resource.prlimit(stage.target, resource.RLIMIT_CORE, (hard, hard))
    began = time.time()
    os.kill(stage.target, signal.SIGABRT)
    deadline = time.monotonic() + GDB_SECONDS
    while alive(stage.target):
        if time.monotonic() > deadline:
            raise HarnessError(f"SIGABRT did not end {stage.target}")
        time.sleep(0.01)
    expanded = re.sub(r"%(.)", lambda m: {"p": str(stage.target), "%": "%"}.get(m[1], "*"), pattern)
    where = Path("/") if expanded.startswith("/") else stage.directory
    expanded = expanded.lstrip("/")
    candidates = (*where.glob(expanded), *where.glob(f"{expanded}.{stage.target}"))
    found = [path for path in candidates if path.stat().st_mtime >= began - 1]
    if not found:
        raise HarnessError(f"no core at {expanded} in {stage.directory}")
    return max(found, key=lambda path: path.stat().st_mtime)


def gcore_core(stage: Stage) -> Path:
    """The core that gdb's own generate-core-file writes; the process lives on."""
    core = stage.directory / "gcore"
    stdout, stderr = run_gdb(["-p", str(stage.target), "-ex", f"generate-core-file {core}"])
    if not core.exists():
        raise HarnessError(f"gdb wrote no core:\n{stdout}\n{stderr}")
    return core


# --- gdb --------------------------------------------------------------------------------------


def gdb_program() -> str:
    return os.environ.get("FAULTKIT_GDB") or "gdb"


def run_gdb(
    arguments: list[str], gdb: Optional[str] = None, seconds: float = GDB_SECONDS
) -> tuple[str, str]:
    """What gdb prints on its two outputs; in batch mode, without init files or network.

    Raises HarnessError if it takes longer than `seconds`.
    """
    environment = {key: value for key, value in os.environ.items() if key != "DEBUGINFOD_URLS"}
    environment["LC_ALL"] = "C.UTF-8"
    command = [gdb or gdb_program(), "-nx", "-batch", *arguments]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise Unplayable(f"no {command[0]} here") from error
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"{' '.join(command)} took more than {seconds} s") from error
    return done.stdout, done.stderr


def gdb_deadlock(
    pid: Optional[int] = None,
    exe: Optional[Path] = None,
    core: Optional[Path] = None,
    args: str = "",
    gdb: Optional[str] = None,
) -> tuple[dict[str, Any], str, str]:
    """Runs `deadlock` in gdb attached to `pid`, or on `core` of `exe`, or, with neither, on
    what `args` names: (report, stdout, stderr).

    Raises HarnessError if there is no report, or a Python traceback anywhere.
    """
    with tempfile.TemporaryDirectory(prefix="faultkit-") as scratch:
        answer = Path(scratch, "report.json")
        target = [str(exe), str(core)] if core else ["-p", str(pid)] if pid else []
        command = f"deadlock {args} --json {answer}"
        stdout, stderr = run_gdb(
            [*target, "-ex", f"source {COMMANDS}", "-ex", command.replace("  ", " ")], gdb
        )
        said = f"stdout:\n{stdout}\nstderr:\n{stderr}"
        if re.search(r"Traceback|Python Exception|Error occurred in Python", stdout + stderr):
            raise HarnessError(f"a traceback:\n{said}")
        if not answer.exists():
            raise HarnessError(f"no report:\n{said}")
        return json.loads(answer.read_text()), stdout, stderr


def unattached_deadlock(
    pid: int, args: str = "", gdb: Optional[str] = None
) -> tuple[dict[str, Any], str, str]:
    """Runs `deadlock PID` in a gdb that attaches to nothing."""
    return gdb_deadlock(args=f"{pid} {args}".strip(), gdb=gdb)
