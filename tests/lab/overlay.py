"""Guest programs besides guest/: what a boot that names one adds to its kernel's initramfs.

The program of guests/NAME is compiled of its own sources and of guest/main.c and crowd.c.  An
initramfs may be several cpio archives in a row, the files of the later ones taking the place of the
former ones'; so the program becomes the guest's /bin/guest, and init loads its modules, though
neither fixtures nor the dumps of other boots know of it.
"""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from .fixture import BUILDS, HERE, MODULES, Fixture, in_root
from .kernels import complete
from .store import LabError, digest, forget, lab_directory, once

# The guest is ready two seconds after its actors are in place: they have been blocked for so long.
GUEST = """#!/bin/busybox sh
/bin/faults "$@" && sleep 2
"""
SHARED = [HERE / "guest" / name for name in ("main.c", "guest.h", "crowd.c")]


@dataclass(frozen=True)
class Overlay:
    """A fixture's initramfs with another guest program."""

    fixture: Fixture
    directory: Path

    @property
    def guest(self) -> Path:
        """The static program of the userspace faults."""
        return self.directory / "guest"

    @property
    def module(self) -> Optional[Path]:
        """The module of its own that the program loads, with debug information."""
        return next(iter(sorted(self.directory.glob("*.ko"))), None)

    @property
    def initramfs(self) -> Path:
        return self.directory / "initramfs"


def overlay(fixture: Fixture, name: str) -> Overlay:
    """The overlay of guests/NAME for a fixture, built unless it is there; LabError."""
    folder = HERE / "guests" / name
    if not folder.is_dir():
        raise LabError(f"no folder tests/lab/guests/{name}")
    sources = [path for path in sorted(folder.glob("*")) if path.is_file()]
    own = sorted((folder / "module").glob("*"))
    key = digest([fixture.directory.name, *sources, *own, *SHARED, Path(__file__)])
    path = lab_directory() / "overlays" / f"{name}-{fixture.kernel.abi}-{key}"
    once(path, lambda aside: _build(fixture, sources, own, aside))
    forget(path, f"{name}-{fixture.kernel.abi}-*")
    return Overlay(fixture, path)


def _build(fixture: Fixture, sources: list[Path], own: list[Path], directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory) as name:
        build, root = Path(name) / "build", Path(name) / "root"
        build.mkdir()
        for path in [*SHARED, *sources]:
            shutil.copy(path, build)
        compiler = ["gcc", "-static", "-g", "-O1", "-pthread", "-Wall", "-Wextra"]
        in_root(BUILDS, *compiler, "-o", directory / "guest", *sorted(build.glob("*.c")))
        (root / "bin").mkdir(parents=True)
        shutil.copy(directory / "guest", root / "bin" / "faults")
        subprocess.run(["strip", "--strip-debug", root / "bin" / "faults"], check=True)
        (root / "bin" / "guest").write_text(GUEST)
        (root / "bin" / "guest").chmod(0o755)
        _modules(fixture, sources, root / "modules")
        if own:
            _own_module(fixture, own, Path(name) / "module", directory, root / "modules")
        files = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        shutil.copy(fixture.initramfs, directory / "initramfs")
        with open(directory / "initramfs", "ab") as image:
            subprocess.run(
                ["cpio", "--quiet", "-o", "-H", "newc", "--owner=0:0"],
                cwd=root, input=files.encode(), stdout=image, check=True,
            )


def _modules(fixture: Fixture, sources: list[Path], directory: Path) -> None:
    """The modules that the file `modules` among the sources names, with what they need, and the
    order in which init loads all."""
    names = next((path.read_text().split() for path in sources if path.name == "modules"), [])
    directory.mkdir()
    kernel = complete(fixture.kernel) if names else fixture.kernel
    for path in kernel.modules(*names):
        shutil.copy(path, directory)
    order = [path.name for path in kernel.modules(*MODULES, *names)]
    (directory / "order").write_text("".join(f"{name}\n" for name in order))


def _own_module(
    fixture: Fixture, sources: list[Path], build: Path, directory: Path, loaded: Path
) -> None:
    """Build the module of guests/NAME/module; init does not load it, the program may."""
    build.mkdir()
    for path in sources:
        shutil.copy(path, build)
    # as fixture.py makes its own
    options = ["CC=gcc", "HOSTCC=gcc", "CONFIG_DEBUG_INFO_BTF_MODULES="]
    make = ["make", "-C", fixture.kernel.headers, f"M={build}", *options, "modules"]
    in_root(fixture.kernel.root, *make)
    for module in build.glob("*.ko"):
        shutil.copy(module, directory)
        shutil.copy(module, loaded)
        subprocess.run(["strip", "--strip-debug", loaded / module.name], check=True)
