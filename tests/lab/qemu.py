"""Boots a guest and dumps its memory when it says that it is ready."""

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .store import LabError, attempt, lab_directory

READY = "faultlab: ready"
FAILED = ("faultlab: failed", "faultlab: not ready")
PANIC = "end Kernel panic"
BOOT_SECONDS = 300
MACHINES = 2  # that run at a time


@contextlib.contextmanager
def slot() -> Iterator[None]:
    """One of the places for a running machine."""
    with contextlib.ExitStack() as stack:
        while not any(
            stack.enter_context(attempt(lab_directory() / f"machine-{number}"))
            for number in range(MACHINES)
        ):
            time.sleep(0.2)
        yield


class Monitor:
    """QEMU's control socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(BOOT_SECONDS)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("r")
        self.file.readline()  # the greeting
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """The answer to a command; LabError if it is an error."""
        words = {"execute": command, "arguments": arguments}
        self.socket.sendall(json.dumps(words).encode())
        for line in self.file:
            answer = json.loads(line)
            if "error" in answer:
                raise LabError(f"QEMU: {command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]
        raise LabError(f"QEMU went away at {command}")


def command_line(
    kernel: Path,
    initramfs: Path,
    append: str,
    console: Path,
    cpus: int,
    memory: int,
    cpu: str = "",
) -> list[str]:
    """The command that boots a guest, which writes to the file `console`."""
    return [
        "qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot",
        "-m", str(memory), "-smp", str(cpus), "-accel", "tcg,thread=multi",
        "-cpu", ",".join(["max", "la57=off", cpu]).strip(","), "-device", "vmcoreinfo",
        "-kernel", str(kernel), "-initrd", str(initramfs),
        "-append", f"console=ttyS0 loglevel=5 {append}", "-serial", f"file:{console}",
    ]  # fmt: skip


def dump(
    kernel: Path,
    initramfs: Path,
    append: str,
    directory: Path,
    *,
    cpus: int,
    memory: int,
    cpu: str = "",
    panics: bool = False,
    elf: bool = False,
) -> None:
    """Boot, wait until the guest is ready (or panicked), write `directory`/vmcore and console.

    `memory` is in MiB; `cpu` is added to QEMU's -cpu.  `elf`: an ELF dump instead of kdump's
    format.  LabError with the end of the console if the guest does not get there.
    """
    if shutil.which("qemu-system-x86_64") is None:
        raise LabError("no qemu-system-x86_64 here; run: apt-get install qemu-system-x86")
    console = directory / "console"
    # A socket's path has to be short.
    with slot(), tempfile.TemporaryDirectory(prefix="faultlab.") as name:
        control = Path(name) / "qmp"
        command = command_line(kernel, initramfs, append, console, cpus, memory, cpu)
        command += ["-qmp", f"unix:{control},server=on,wait=off"]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as machine:
            try:
                _await(machine, console, panics)
                monitor = Monitor(control)
                monitor.ask("stop")
                how = {} if elf else {"format": "kdump-zlib"}
                target = f"file:{directory}/vmcore"
                monitor.ask("dump-guest-memory", paging=False, protocol=target, **how)
            finally:
                machine.kill()


def _await(machine: "subprocess.Popen[bytes]", console: Path, panics: bool) -> None:
    end = time.monotonic() + BOOT_SECONDS
    text = ""
    while time.monotonic() < end:
        gone = machine.poll() is not None
        if console.exists():
            text = console.read_text(errors="replace")
        if (PANIC if panics else READY) in text:
            time.sleep(0.3)
            return
        problem = [line for line in text.splitlines() if any(word in line for word in FAILED)]
        if PANIC in text:
            problem.append("the guest panicked")
        if gone:
            why = machine.stderr.read().decode(errors="replace") if machine.stderr else ""
            problem.append(f"QEMU ended: {why}")
        if problem:
            raise LabError(f"{'; '.join(problem)}\n{text[-2000:]}")
        time.sleep(0.1)
    raise LabError(f"the guest was not ready within {BOOT_SECONDS} s:\n{text[-2000:]}")
