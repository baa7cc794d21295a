"""Debian's kernels, each with its debug info, the modules the lab loads, and its headers."""

import functools
import lzma
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .debian import Apt
from .store import LabError, lab_directory, locked, once

# What initramfs images and overlays hold, besides what these depend on; a kernel may have one
# built in.
MODULES = (
    "qemu_fw_cfg", "fuse", "ext4", "brd", "crc32c_generic",
    "dm_mod", "loop", "nbd", "nfs", "nfsv3", "sd_mod", "scsi_debug",
)  # fmt: skip
COMPLETE = "complete"  # the file beside them that names those of MODULES that were fetched


@dataclass(frozen=True)
class Source:
    """The suites that a kernel is taken from; `root` is the Debian release whose compiler builds
    modules for it, and whose crash reads its dumps."""

    suites: tuple[str, ...]
    root: str = "trixie"


# By the beginning of their versions.
SOURCES = {
    "5.10": Source(("bullseye", "bullseye-security")),
    "6.1": Source(("bookworm", "bookworm-updates", "bookworm-security")),
    "6.12": Source(("trixie", "trixie-updates", "trixie-security")),
    "7": Source(("sid", "trixie-backports"), root="sid"),
}


def source(name: str) -> Source:
    """Where the kernels of a version come from, as "6.1" or "7.2"; LabError if it is unknown."""
    for known in SOURCES:
        if f"{name}.".startswith(f"{known}."):
            return SOURCES[known]
    raise LabError(f"no kernel {name}; there are: {', '.join(SOURCES)}")


@dataclass(frozen=True)
class Kernel:
    """A kernel in the lab's directory."""

    name: str
    directory: Path

    @property
    def abi(self) -> str:
        return self.directory.name

    @property
    def root(self) -> str:
        return source(self.name).root

    @property
    def vmlinux(self) -> Path:
        """The kernel with its debug info."""
        return self.directory / "vmlinux"

    @property
    def image(self) -> Path:
        """The kernel that boots."""
        return self.directory / "vmlinuz"

    @property
    def headers(self) -> Path:
        """What modules are built against."""
        return self.directory / "headers" / "usr" / "src" / f"linux-headers-{self.abi}"

    @property
    def debug(self) -> Path:
        """Debug info of the modules, as NAME.ko.debug."""
        return self.directory / "debug"

    def modules(self, *names: str) -> list[Path]:
        """The modules and what they depend on, in the order of loading; built-in ones left out."""
        order: list[Path] = []
        for name in names:
            path = self.directory / "modules" / f"{name}.ko"
            if path.exists():
                order += self.modules(*depends(path)) + [path]
        return list(dict.fromkeys(order))


def depends(module: Path) -> list[str]:
    """The modules that a module says it needs."""
    found = re.search(rb"\0depends=([^\0]*)\0", module.read_bytes())
    return found[1].decode().replace("-", "_").split(",") if found and found[1] else []


def _version(abi: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", abi))


@functools.cache
def kernel(name: str) -> Kernel:
    """The newest kernel of that version that can be had; fetched unless one is there.

    Once fetched, it stays: delete its directory in lab/kernels to get a newer one.  LabError with
    what was tried if none can be had.
    """
    suites = source(name).suites
    version = re.escape(f"{name}.")
    base = lab_directory() / "kernels"
    here = [path for path in base.glob("[0-9]*") if re.match(version, path.name)]
    for path in sorted(here, key=lambda path: _version(path.name), reverse=True):
        return Kernel(name, path)
    apt = Apt(suites)
    # What stands between the version and the architecture keeps out flavours, as cloud and rt.
    pattern = rf"linux-image-{version}[0-9.]+(-[0-9]+|\+[a-z0-9.~+]+)-amd64-dbg"
    abis = [found[len("linux-image-") : -len("-dbg")] for found in apt.names(pattern)]
    problems: list[str] = []
    for abi in sorted(abis, key=_version, reverse=True)[:4]:
        try:
            return Kernel(name, once(base / abi, functools.partial(_fetch, apt, abi)))
        except LabError as error:  # old ABIs vanish from mirrors
            problems.append(str(error))
    raise LabError(
        f"no {name} kernel can be had from {', '.join(suites)}: "
        + ("; ".join(problems) or "the package lists name none")
    )


def _fetch(apt: Apt, abi: str, directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory) as name:
        debs = Path(name)
        image = f"linux-image-{abi}"
        parts = [part for part in apt.depends(image) if re.match("linux-(binary|modules)-", part)]
        _headers(apt, abi, debs, directory / "headers")
        unpacked = debs / "image"
        for package in [image, *parts]:
            _unpack(apt.download(package, debs), unpacked)
        shutil.move(_only(unpacked, "vmlinuz*"), directory / "vmlinuz")
        wanted = _modules(unpacked, directory / "modules")
        (directory / "modules" / COMPLETE).write_text(" ".join(MODULES))
        patterns = ["*/vmlinux*", *(f"*/{module}.ko*" for module in wanted)]
        _unpack(apt.download(f"{image}-dbg", debs), debs / "debug", patterns)
        shutil.move(_only(debs / "debug", "vmlinux*"), directory / "vmlinux")
        _move_debug(debs / "debug", directory)


def _move_debug(unpacked: Path, directory: Path) -> None:
    (directory / "debug").mkdir(exist_ok=True)
    for path in unpacked.rglob("*.ko*"):
        if path.is_file() and not path.is_symlink():
            shutil.move(path, directory / "debug" / f"{_module_name(path)}.ko.debug")


def complete(made: Kernel) -> Kernel:
    """The kernel with all of MODULES, also if it was fetched when these were fewer; LabError."""
    with locked(made.directory.parent / f"{made.abi}-modules"):
        marker = made.directory / "modules" / COMPLETE
        if marker.exists() and marker.read_text().split() == list(MODULES):
            return made
        apt = Apt(source(made.name).suites)
        apt.refresh()
        with tempfile.TemporaryDirectory(dir=made.directory) as name:
            debs = Path(name)
            image = f"linux-image-{made.abi}"
            parts = [part for part in apt.depends(image) if part.startswith("linux-modules-")]
            for package in [*parts, *([] if parts else [image])]:
                _unpack(apt.download(package, debs), debs / "image", ["*.ko", "*.ko.xz"])
            found = _modules(debs / "image", debs / "modules")
            wanted = [file for file in found if not _has(made, file)]
            patterns = [f"*/{file}.ko*" for file in wanted]
            if wanted:
                _unpack(apt.download(f"{image}-dbg", debs), debs / "debug", patterns)
                _move_debug(debs / "debug", made.directory)
            for file in wanted:
                module = file.replace("-", "_")
                shutil.move(debs / "modules" / f"{module}.ko", made.directory / "modules")
        marker.write_text(" ".join(MODULES))
    return made


def _has(made: Kernel, file: str) -> bool:
    return (made.directory / "modules" / f"{file.replace('-', '_')}.ko").exists()


def _headers(apt: Apt, abi: str, debs: Path, directory: Path) -> None:
    package = f"linux-headers-{abi}"
    parts = [found for found in apt.depends(package) if re.match("linux-(headers|kbuild)-", found)]
    for part in [package, *parts]:
        _unpack(apt.download(part, debs), directory)
    # The Makefile names places in an installed system.
    makefile = directory / "usr" / "src" / package / "Makefile"
    here = "$(abspath $(dir $(lastword $(MAKEFILE_LIST)))..)/"
    makefile.write_text(
        "".join(
            line.replace("KBUILD_OUTPUT=", "KBUILD_OUTPUT:=").replace("/usr/src/", here)
            for line in makefile.read_text().splitlines(keepends=True)
        )
    )


def _unpack(deb: Path, directory: Path, patterns: Iterable[str] = ()) -> None:
    """Unpack a package, or the files in it that match, and delete it."""
    directory.mkdir(parents=True, exist_ok=True)
    tar = ["tar", "-x", "-C", str(directory)]
    if patterns:
        tar += ["--wildcards", "--no-anchored", *patterns]
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE
    ) as opened:
        done = subprocess.run(tar, stdin=opened.stdout, capture_output=True, text=True)
    missing = done.returncode and "Not found in archive" not in done.stderr
    if missing or opened.returncode:
        raise LabError(f"{deb.name} can't be unpacked: {done.stderr.strip()[-200:]}")
    deb.unlink()


def _only(directory: Path, pattern: str) -> Path:
    found = [path for path in directory.rglob(pattern) if path.is_file() and not path.is_symlink()]
    if len(found) != 1:
        raise LabError(f"{len(found)} files {pattern} in the package, where one was expected")
    return found[0]


def _module_name(path: Path) -> str:
    return path.name.split(".")[0].replace("-", "_")


def _modules(unpacked: Path, directory: Path) -> list[str]:
    """Put MODULES and what they need, uncompressed, into `directory`; their names."""
    directory.mkdir()
    paths = {_module_name(path): path for path in unpacked.rglob("*.ko*")}
    names: list[str] = []

    def take(wanted: Iterable[str]) -> Iterator[str]:
        for name in wanted:
            if name in paths and name not in names:
                names.append(name)
                data = paths[name].read_bytes()
                if paths[name].suffix == ".xz":
                    data = lzma.decompress(data)
                (directory / f"{name}.ko").write_bytes(data)
                yield paths[name].name.split(".")[0]
                yield from take(depends(directory / f"{name}.ko"))

    return list(take(MODULES))
