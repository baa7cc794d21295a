"""Dumps: made once for a kernel, a fixture and a boot, and kept."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from . import qemu
from .filtering import filtered, truncated
from .fixture import Fixture, fixture
from .kernels import Kernel, kernel
from .overlay import Overlay, overlay
from .scenarios.boots import BOOTS, find
from .scenarios.model import Boot, Fault
from .store import LabError, digest, forget, lab_directory, once

HERE = Path(__file__).resolve().parent
KEPT = (0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995)  # of a truncated dump


@dataclass(frozen=True)
class Dump:
    """A dump, and what it is read with."""

    boot: Boot
    fixture: Fixture
    directory: Path
    overlay: Optional[Overlay] = None

    @property
    def guest(self) -> Path:
        """The static program of the userspace faults."""
        return self.overlay.guest if self.overlay is not None else self.fixture.guest

    @property
    def kernel(self) -> Kernel:
        return self.fixture.kernel

    @property
    def vmlinux(self) -> Path:
        return self.kernel.vmlinux

    @property
    def vmcore(self) -> Path:
        return self.directory / "vmcore"

    @property
    def module(self) -> Path:
        """faultlab.ko, for crash's `mod -s faultlab FILE`."""
        return self.fixture.module

    @property
    def faults(self) -> tuple[Fault, ...]:
        return self.boot.on(self.kernel.name)

    @property
    def console(self) -> str:
        """What the guest printed."""
        return (self.directory / "console").read_text(errors="replace")

    @property
    def has_modules(self) -> bool:
        """Whether crash can list the modules: it does not know 7.x's."""
        return not self.kernel.name.startswith("7")

    @property
    def crash(self) -> list[str]:
        """The command line of a crash that can open it, but for options and commands."""
        options = [] if self.has_modules else ["--no_modules"]
        run = HERE.parent / "roots" / "run"
        return [str(run), self.kernel.root, "crash", *options, str(self.vmlinux), str(self.vmcore)]


def dump(name: str, kernel_name: str = "6.1") -> Dump:
    """The dump of a boot, or of a fault alone, made unless it is there; LabError."""
    try:
        boot = find(name)
    except KeyError:
        raise LabError(f"no boot or fault {name!r}; there are: {', '.join(BOOTS)}") from None
    if not boot.on(kernel_name):
        raise LabError(f"{name} can't be played on {kernel_name}")
    made = fixture(kernel(kernel_name))
    over = overlay(made, boot.program) if boot.program else None
    code = [HERE / "qemu.py", *([] if boot.form == "whole" else [HERE / "filtering.py"])]
    how = (boot.command_line(kernel_name), boot.cpus, boot.memory, boot.cpu, boot.panics, boot.form)
    key = digest([made.directory.name, how, *code, *([over.directory.name] if over else [])])
    path = lab_directory() / "dumps" / f"{name}-{made.kernel.abi}-{key}"
    once(path, lambda aside: _make(boot, made, over, aside))
    forget(path, f"{name}-{made.kernel.abi}-*")
    return Dump(boot, made, path, over)


def _make(boot: Boot, made: Fixture, over: Optional[Overlay], directory: Path) -> None:
    try:
        _boot(boot, made, over, directory)
    except LabError:
        # six CPUs that spin, on two that have other work, now and then never get there
        (directory / "console").unlink(missing_ok=True)
        _boot(boot, made, over, directory)
    vmcore = directory / "vmcore"
    vmcore.chmod(0o644)
    if boot.form != "whole":
        filtered(vmcore, made.kernel.root, boot.form)
    if boot.form == "truncated":
        _truncate(Dump(boot, made, directory))


def _boot(boot: Boot, made: Fixture, over: Optional[Overlay], directory: Path) -> None:
    qemu.dump(
        made.kernel.image,
        over.initramfs if over is not None else made.initramfs,
        boot.command_line(made.kernel.name),
        directory,
        cpus=boot.cpus,
        memory=boot.memory,
        cpu=boot.cpu,
        panics=boot.panics,
        elf=boot.form != "whole",
    )


def _truncate(whole: Dump) -> None:
    """Cut off so much that crash only just opens it: page tables and the like lie at the end."""
    full = whole.directory / "full"
    whole.vmcore.rename(full)
    for kept in KEPT:
        shutil.copy(full, whole.vmcore)
        truncated(whole.vmcore, kept)
        if "[kthreadd]" in run_crash(whole, "ps"):
            full.unlink()
            return
    raise LabError("crash opens no part of the dump")


def run_crash(made: Dump, *commands: str, seconds: int = 300) -> str:
    """What crash prints for these commands, the module's debug info loaded."""
    lines = [f"mod -s faultlab {made.module}", *commands, "q"]
    done = subprocess.run(
        [*made.crash, "-s", "--no_scroll"],
        input="\n".join(lines) + "\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds,
    )
    return done.stdout


