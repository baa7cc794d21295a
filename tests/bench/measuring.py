"""Times gdb's runs on crowds of threads; nothing is printed, nothing asserted."""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))

import building  # noqa: E402
import harness  # noqa: E402

CHECKOUT = BENCH.parent.parent
SOURCE = f"source {CHECKOUT / 'gdb_ext' / 'faultkit.py'}"
BACKTRACE = "thread apply all bt"


class Run(NamedTuple):
    """One run of gdb: seconds by the clock, and of a processor."""

    seconds: float
    processor: float
    said: str


class Attached(NamedTuple):
    """Medians in seconds: attach and detach alone, and with source and deadlock in between."""

    alone: float
    diagnosed: float
    processor_alone: float
    processor_diagnosed: float

    @property
    def ratio(self) -> float:
        return self.diagnosed / self.alone

    @property
    def processor_ratio(self) -> float:
        """What the clock would say if nobody else wanted the machine."""
        return self.processor_diagnosed / self.processor_alone


class Session(NamedTuple):
    """Seconds in one gdb session: the first deadlock, and medians of the next and of bt."""

    first: float
    deadlock: float
    backtrace: float

    @property
    def ratio(self) -> float:
        return self.deadlock / self.backtrace


def environment(cache: Path, compiled: bool = True) -> "dict[str, str]":
    """As users have it: Python keeps compiled files (in `cache` here); or it may not."""
    variables = {key: value for key, value in os.environ.items() if key != "DEBUGINFOD_URLS"}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    variables["PYTHONPYCACHEPREFIX"] = str(cache)
    variables["LC_ALL"] = "C.UTF-8"
    if not compiled:
        variables["PYTHONDONTWRITEBYTECODE"] = "1"
    return variables


def crowd_program() -> Path:
    """The compiled crowd.c, from the cache of the tests' programs."""
    directory = building.cache_directory() / "bench"
    directory.mkdir(parents=True, exist_ok=True)
    program, source = directory / "crowd", BENCH / "crowd.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        fresh = directory / f"crowd.{os.getpid()}"
        compiler = os.environ.get("CC", "gcc")
        command = [compiler, "-Wall", "-Wextra", "-pthread", "-g", "-O2", "-o", fresh, source]
        subprocess.run(command, check=True)
        fresh.replace(program)
    return program


@contextlib.contextmanager
def crowd(threads: int, rest: str) -> Iterator[int]:
    """The process id of a crowd that stands still."""
    command = [str(crowd_program()), str(threads), rest]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise harness.Unplayable(f"{' '.join(command)} did not start")
            time.sleep(0.2)
            yield process.pid
        finally:
            process.kill()


def gdb_run(arguments: Sequence[str], variables: "dict[str, str]") -> Run:
    """A whole gdb, from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        [harness.gdb_program(), "-nx", "-batch", *arguments],
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, processor, done.stdout + done.stderr)


def alternate(
    one: Sequence[str], other: Sequence[str], rounds: int, variables: "dict[str, str]"
) -> Attached:
    """Medians of two gdb runs that take turns, after one of the other that is not counted."""
    gdb_run(other, variables)
    ones, others = [], []
    for _ in range(rounds):
        ones.append(gdb_run(one, variables))
        others.append(gdb_run(other, variables))
    return Attached(
        statistics.median(run.seconds for run in ones),
        statistics.median(run.seconds for run in others),
        statistics.median(run.processor for run in ones),
        statistics.median(run.processor for run in others),
    )


def attached(pid: int, rounds: int, variables: "dict[str, str]") -> Attached:
    alone = ["-p", str(pid), "-ex", "detach"]
    diagnosed = ["-p", str(pid), "-ex", SOURCE, "-ex", "deadlock", "-ex", "detach"]
    return alternate(alone, diagnosed, rounds, variables)


def sourcing(rounds: int, variables: "dict[str, str]") -> float:
    """What `source` adds to a gdb that starts and ends, in seconds."""
    found = alternate([], ["-ex", SOURCE], rounds, variables)
    return found.diagnosed - found.alone


def _timed(
    target: Sequence[str], commands: Sequence[str], rounds: int, variables: "dict[str, str]"
) -> "dict[str, list[float]]":
    asked = {"BENCH_COMMANDS": json.dumps(commands), "BENCH_ROUNDS": str(rounds)}
    arguments = [*target, "-ex", SOURCE, "-x", str(BENCH / "session.py")]
    said = gdb_run(arguments, {**variables, **asked}).said
    lines = [line for line in said.splitlines() if line.startswith("bench ")]
    if not lines:
        raise harness.HarnessError(f"gdb gave no times:\n{said[-2000:]}")
    return json.loads(lines[0].removeprefix("bench "))


def session(pid: int, rounds: int, variables: "dict[str, str]") -> Session:
    """`deadlock` and `thread apply all bt` by turns in one session attached to `pid`."""
    seconds = _timed(["-p", str(pid)], ["deadlock", BACKTRACE], rounds + 1, variables)
    first, *later = seconds["deadlock"]
    return Session(first, statistics.median(later), statistics.median(seconds[BACKTRACE][1:]))


def unattached(pid: int, rounds: int, variables: "dict[str, str]") -> "tuple[float, float]":
    """Seconds of the first `deadlock PID` in a gdb attached to nothing, and of the next ones."""
    command = f"deadlock {pid}"
    _timed([], [command], 1, variables)  # Python compiles what it imports
    first, *later = _timed([], [command], rounds + 1, variables)[command]
    return first, statistics.median(later)
