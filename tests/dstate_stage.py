"""Processes, mounts and control groups that scenes of blocked tasks are made of, and their end."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from building import Unplayable, command_line

SECONDS = 20
IMAGE = 64 << 20  # bytes of the file behind a loop device


class Actors:
    """Processes that were started, and are ended whatever happens."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []

    def start(self, command: "list[str]", **options: Any) -> "subprocess.Popen[str]":
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=options.pop("stderr", subprocess.DEVNULL),
            text=True,
            start_new_session=True,
            **options,
        )
        self._running.append(program)
        return program

    def announced(
        self, command: "list[str]", **options: Any
    ) -> "tuple[subprocess.Popen[str], str]":
        """A program that says "ready" first; with the rest of that line."""
        program = self.start(command, **options)
        assert program.stdout is not None
        if not select.select([program.stdout], [], [], SECONDS)[0]:
            raise AssertionError(f"{command} is not ready after {SECONDS} s")
        line = program.stdout.readline()
        if line.startswith("skip"):
            raise Unplayable(line[5:].strip())
        if not line.startswith("ready"):
            raise Unplayable(f"{command} said {line!r}")
        return program, line[6:].strip()

    def python(self, code: str, *arguments: Any, **options: Any) -> int:
        """A Python program; its process id."""
        words = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
        return self.start(words, **options).pid

    def end(self) -> None:
        for program in reversed(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                program.send_signal(signal.SIGCONT)
        for program in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(SECONDS)
            if program.stdout is not None:
                program.stdout.close()


@contextlib.contextmanager
def actors() -> Iterator[Actors]:
    started = Actors()
    try:
        yield started
    finally:
        started.end()


def run(*command: Any) -> str:
    """What a command prints; Unplayable if it fails: this machine can't."""
    try:
        done = subprocess.run(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except FileNotFoundError as error:
        raise Unplayable(f"no {command[0]} here") from error
    if done.returncode:
        raise Unplayable(f"{command}: {done.stderr.strip()}")
    return done.stdout.strip()


def need_root() -> None:
    if os.geteuid() != 0:
        raise Unplayable("needs root")


def state_of(pid: int, tid: "int | None" = None) -> str:
    """The state's letter, "" if the task is gone."""
    try:
        text = Path(f"/proc/{pid}/task/{tid or pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0]


def await_states(pid: int, states: str, function: str = "") -> None:
    """Return once a thread of the process is in one of the states, in a function if that is
    given."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            for tid in os.listdir(f"/proc/{pid}/task"):
                if state_of(pid, int(tid)) in states:
                    stack = Path(f"/proc/{pid}/task/{tid}/stack").read_text()
                    if function in stack:
                        return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is not blocked in {function}")


# Things to be blocked by


@dataclass
class Fuse:
    """A mounted file system that can go deaf."""

    point: Path
    pid: int
    connection: int

    def go_deaf(self) -> None:
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(0.2)


@contextlib.contextmanager
def fuse(folder: Path, size: int = 1 << 20) -> Iterator[Fuse]:
    """A FUSE mount, gone afterwards together with whoever waits for it."""
    need_root()
    if not os.path.exists("/dev/fuse"):
        raise Unplayable("no /dev/fuse here")
    point = folder / "deaf"
    point.mkdir()
    with actors() as cast:
        command = [*command_line("deaf_fuse.py", "python"), str(point), str(size)]
        server, connection = cast.announced(command)
        mounted = Fuse(point, server.pid, int(connection))
        try:
            yield mounted
        finally:
            server.kill()
            server.wait()  # its connection ends with it, and all requests fail
            unmount(point)


def unmount(point: Path) -> None:
    for _ in range(50):
        if subprocess.run(["umount", point], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", point], capture_output=True)


def blank(folder: Path) -> Path:
    """A file for a loop device."""
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(IMAGE)
    return image


@contextlib.contextmanager
def ext4(folder: Path, image: Path) -> "Iterator[tuple[Path, str]]":
    """An ext4 on a loop device over `image`: (mount point, name of the device)."""
    need_root()
    device = run("losetup", "-f", "--show", image)
    point = folder / "disk"
    point.mkdir()
    try:
        run("mkfs.ext4", "-q", device)
        run("mount", device, point)
        try:
            yield point, device.rpartition("/")[2]
        finally:
            subprocess.run(["fsfreeze", "-u", point], capture_output=True)
            unmount(point)
    finally:
        subprocess.run(["losetup", "-d", device], capture_output=True)


@contextlib.contextmanager
def cgroup(kind: str, name: str = "faultkit-test") -> Iterator[Path]:
    """A control group of a v1 controller, or of v2 (""), removed afterwards."""
    need_root()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        words = right.split()
        if words[0] == ("cgroup" if kind else "cgroup2") and (
            not kind or kind in words[2].split(",")
        ):
            group = Path(left.split()[4], f"{name}-{os.getpid()}")
            break
    else:
        raise Unplayable(f"no cgroup hierarchy {kind or 'v2'} here")
    group.mkdir()
    try:
        yield group
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)
