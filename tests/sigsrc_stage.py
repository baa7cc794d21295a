"""Lets programs end by a signal, and asks `sigsrc` about their cores, or about live ones."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Optional

from building import HarnessError, Unplayable, build
from harness import COMMANDS, run_gdb

SECONDS = 60


def die(program: str, variant: str, scene: str, directory: Path) -> tuple[Path, Path]:
    """(executable, core) of a scene that ends by a signal of its own."""
    executable = build(program, variant)
    started = start(executable, scene, directory)
    said, _ = started.communicate(timeout=SECONDS)
    if said.startswith(b"skip"):
        raise Unplayable(said.decode().strip())
    return executable, core_of(started.pid, directory, started.returncode)


def start(executable: Path, scene: str, directory: Path) -> "subprocess.Popen[bytes]":
    """The scene, with cores as large as they get."""
    return subprocess.Popen(
        [str(executable), scene],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        ),
    )


def core_of(pid: int, directory: Path, status: int) -> Path:
    """The core that the kernel has written there."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith("|") or "/" in pattern or not pattern:
        raise Unplayable(f"cores do not go to the working directory here: {pattern}")
    found = sorted(directory.glob("core*"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise HarnessError(f"process {pid} ended with {status} and left no core")
    return found[-1]


def sigsrc(
    *target: str, gdb: Optional[str] = None, before: tuple[str, ...] = (), options: str = ""
) -> tuple[dict[str, Any], str]:
    """(report, the text) of `sigsrc` in a gdb that was started with the words of `target`."""
    with tempfile.TemporaryDirectory(prefix="faultkit-") as scratch:
        answer = Path(scratch, "report.json")
        commands = [*before, f"source {COMMANDS}", f"sigsrc {options} --json {answer}".strip()]
        words = [word for command in commands for word in ("-ex", command)]
        stdout, stderr = run_gdb([*target, *words], gdb)
        said = f"stdout:\n{stdout}\nstderr:\n{stderr}"
        if re.search(r"Traceback|Python Exception|Error occurred in Python|internal error", said):
            raise HarnessError(f"a traceback:\n{said}")
        if not answer.exists():
            raise HarnessError(f"no report:\n{said}")
        return json.loads(answer.read_text()), stdout[stdout.find("faultkit ") :]


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kills what is left of a scene."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


__all__ = ["core_of", "die", "end", "shutil", "sigsrc", "start"]
