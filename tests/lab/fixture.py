"""The faults, compiled for a kernel: the module faultlab, the program guest, the initramfs."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .kernels import Kernel
from .store import LabError, digest, forget, lab_directory, once

HERE = Path(__file__).resolve().parent
ROOTS = HERE.parent / "roots"
BUILDS = "trixie"  # the release that compiles the guest program
MODULES = ("qemu_fw_cfg", "fuse", "ext4", "brd", "crc32c_generic")


@dataclass(frozen=True)
class Fixture:
    """What a guest is booted with, and what its dump is read with."""

    kernel: Kernel
    directory: Path

    @property
    def module(self) -> Path:
        """faultlab.ko with its debug info."""
        return self.directory / "faultlab.ko"

    @property
    def guest(self) -> Path:
        """The static program of the userspace faults."""
        return self.directory / "guest"

    @property
    def initramfs(self) -> Path:
        return self.directory / "initramfs"


def sources() -> list[Path]:
    """All files that a fixture is made of."""
    module = sorted((HERE / "module").glob("*"))
    guest = sorted((HERE / "guest").glob("*"))
    return [path for path in [*module, *guest, HERE / "init", Path(__file__)] if path.is_file()]


def fixture(kernel: Kernel) -> Fixture:
    """The fixture for a kernel, built unless it is there."""
    path = lab_directory() / "fixtures" / f"{kernel.abi}-{digest(sources())}"
    once(path, lambda aside: _build(kernel, aside))
    forget(path, f"{kernel.abi}-*")
    return Fixture(kernel, path)


def in_root(suite: str, *command: object) -> str:
    """Standard output of a command run in a Debian root; LabError with what it said."""
    done = subprocess.run(
        [str(ROOTS / "run"), suite, *map(str, command)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        output = (done.stdout + done.stderr).strip()
        raise LabError(f"{command[0]} in the {suite} root failed:\n{output[-3000:]}")
    return done.stdout


def _build(kernel: Kernel, directory: Path) -> None:
    module = directory / "module"
    guest = directory / "sources"
    shutil.copytree(HERE / "module", module)
    shutil.copytree(HERE / "guest", guest)
    # BTF would need pahole, and nobody reads it here.
    options = ["CC=gcc", "HOSTCC=gcc", "CONFIG_DEBUG_INFO_BTF_MODULES="]
    make = ["make", "-C", kernel.headers, f"M={module}", *options, "modules"]
    in_root(kernel.root, *make)
    shutil.move(module / "faultlab.ko", directory)
    shutil.rmtree(module)
    compiler = ["gcc", "-static", "-g", "-O1", "-pthread", "-Wall", "-Wextra"]
    in_root(BUILDS, *compiler, "-o", directory / "guest", *sorted(guest.glob("*.c")))
    shutil.rmtree(guest)
    _initramfs(kernel, directory)


def _initramfs(kernel: Kernel, directory: Path) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise LabError("no busybox here; run: apt-get install busybox-static")
    with tempfile.TemporaryDirectory(dir=directory) as name:
        root = Path(name)
        (root / "bin").mkdir()
        (root / "modules").mkdir()
        shutil.copy(HERE / "init", root / "init")
        (root / "init").chmod(0o755)
        shutil.copy(busybox, root / "bin" / "busybox")
        shutil.copy(directory / "guest", root / "bin" / "guest")
        subprocess.run(["strip", "--strip-debug", root / "bin" / "guest"], check=True)
        _ext4_image(root / "ext4.image")
        modules = kernel.modules(*MODULES)
        for path in modules:
            shutil.copy(path, root / "modules")
        shutil.copy(directory / "faultlab.ko", root / "modules")
        subprocess.run(
            ["strip", "--strip-debug", root / "modules" / "faultlab.ko"], check=True
        )
        (root / "modules" / "order").write_text("".join(f"{path.name}\n" for path in modules))
        files = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        with open(directory / "initramfs", "wb") as image:
            subprocess.run(
                ["cpio", "--quiet", "-o", "-H", "newc", "--owner=0:0"],
                cwd=root, input=files.encode(), stdout=image, check=True,
            )


def _ext4_image(path: Path) -> None:
    with open(path, "wb") as image:
        image.truncate(4 << 20)
    mkfs = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin")
    if mkfs is None:
        raise LabError("no mkfs.ext4 here; run: apt-get install e2fsprogs")
    subprocess.run([mkfs, "-q", "-F", "-b", "1024", path], check=True)
