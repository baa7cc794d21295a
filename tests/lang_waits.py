"""Plays small programs and asks what one of their threads waits for."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import pytest

from faultkit import waits
from faultkit.model import Task, Wait
from faultkit.procfs.process import ProcProcess
from faultkit.world import Blocked, World

PROGRAMS = Path(__file__).resolve().parent / "programs"
SECONDS = 15


@dataclass
class Play:
    """A running program and the threads that told their names."""

    process: "subprocess.Popen[str]"
    tids: dict[str, int] = field(default_factory=dict)

    def wait_of(self, name: str, kind: Optional[str] = None) -> Wait:
        """What the thread `name` waits for, as soon as that is (of kind) `kind`."""
        deadline = time.monotonic() + SECONDS
        wait = None
        while time.monotonic() < deadline:
            wait = self.look(name)
            if wait is not None and (kind is None or wait.lock.kind == kind):
                return wait
            time.sleep(0.05)
        raise AssertionError(f"{name} does not wait for a {kind}; at the end: {wait}")

    def look(self, name: str) -> Optional[Wait]:
        """What the thread `name` waits for now, None if it is not in a known wait."""
        process = ProcProcess(self.process.pid)
        world = World([process])
        task = Task(self.process.pid, self.tids[name])
        call = process.syscall(task)
        if call is None or call.nr < 0:
            return None
        return waits.recognise(Blocked(world, process, task, call))

    def holders(self, wait: Wait) -> list[str]:
        """The names of the holders."""
        names = {tid: name for name, tid in self.tids.items()}
        return [names.get(task.tid, str(task.tid)) for task in wait.holders]


@contextlib.contextmanager
def play(*command: object, **environment: str) -> Iterator[Play]:
    """Runs the command until it says "ready"; its lines "tid NAME TID ..." name threads."""
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    scene = Play(process)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            words = line.split()
            if words[:1] == ["tid"]:
                scene.tids[words[1]] = int(words[2])
            if words == ["ready"]:
                break
        else:
            raise AssertionError(f"{command} ended with {process.wait()}")
        yield scene
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def compile_source(directory: Path, name: str, text: str, compiler: str, *flags: str) -> Path:
    """The executable of the source `text`, whose file is called `name`."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    source = directory / name
    source.write_text(text)
    output = directory / (source.stem + "".join(flags).replace("/", "_")[-40:])
    subprocess.run([compiler, *flags, "-o", str(output), str(source)], check=True)
    return output
