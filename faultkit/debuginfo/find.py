"""Where the debug information of a kernel, a module or a program is."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence

from faultkit.code.elf import ElfFile, open_elf
from faultkit.debuginfo.lookup import build_id_of
from faultkit.debuginfo.packed import ENDINGS, open_file
from faultkit.record import NamedTuple

DEBUG = "/usr/lib/debug"
_MODULES = (".ko", ".ko.debug", *(f".ko{ending}" for ending in ENDINGS))
MAX_FILES = 100_000  # in a directory that is searched


class Places(NamedTuple):
    """Where the user says that debug information is: a vmlinux, modules, directories; and the
    servers of debuginfod."""

    vmlinux: str | None = None
    modules: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()


def find_vmlinux(places: Places, release: str | None, build_id: str | None = None) -> str | None:
    """The path of a vmlinux with debug information: the one that the user names, else by
    build-id, else by release in the usual places, else from a debuginfod server."""
    if places.vmlinux is not None:
        return places.vmlinux
    for path in _vmlinux_paths(places, release, build_id):
        if _is_debug_file(path, build_id):
            return path
    return _fetched(places, build_id)


def _vmlinux_paths(places: Places, release: str | None, build_id: str | None) -> Iterator[str]:
    given = [each for folder in places.directories for each in (folder, f"{folder}{DEBUG}")]
    for folder in (*given, DEBUG):
        yield from _by_build_id(folder, build_id)
    for folder in given:
        if release is not None:
            yield from _of_release(folder, release)
        yield f"{folder}/vmlinux"
    if release is not None and "/" not in release:
        yield from _of_release(DEBUG, release)
        yield f"/boot/vmlinux-{release}"
        yield f"/lib/modules/{release}/vmlinux"
        yield f"/lib/modules/{release}/build/vmlinux"
        yield f"/usr/src/linux-{release}/vmlinux"
        yield f"/usr/lib/modules/{release}/vmlinux"


def _of_release(folder: str, release: str) -> Iterator[str]:
    if "/" in release:
        return
    yield f"{folder}/boot/vmlinux-{release}"
    yield f"{folder}/boot/vmlinux-{release}.debug"
    yield f"{folder}/lib/modules/{release}/vmlinux"
    yield f"{folder}/lib/modules/{release}/vmlinux.debug"
    yield f"{folder}/usr/lib/modules/{release}/vmlinux"
    yield f"{folder}/vmlinux-{release}"
    yield f"{folder}/{release}/vmlinux"


def find_module(
    places: Places, name: str, release: str | None, build_id: str | None = None
) -> str | None:
    """The path of a module's file with debug information: as for find_vmlinux()."""
    wanted = _module_key(name)
    for path in places.modules:
        if _module_key(os.path.basename(path)) == wanted:
            return path
    for folder in (*places.directories, DEBUG):
        for path in _by_build_id(folder, build_id):
            if _is_debug_file(path, build_id):
                return path
    roots = list(places.directories)
    if places.vmlinux is not None:
        roots.append(os.path.dirname(os.path.abspath(places.vmlinux)))
    if release is not None and "/" not in release:
        roots += [
            f"{DEBUG}/lib/modules/{release}",
            f"{DEBUG}/usr/lib/modules/{release}",
            f"/lib/modules/{release}/updates",
            f"/lib/modules/{release}/extra",
            f"/lib/modules/{release}/kernel",
        ]
    for root in roots:
        files = module_files(root).get(wanted, ())
        # Where there are those of several kernels, this one's first.
        for path in sorted(files, key=lambda path: f"/{release}/" not in path):
            if _is_debug_file(path, build_id):
                return path
    return _fetched(places, build_id)


_listed: dict[str, dict[str, list[str]]] = {}


def module_files(root: str) -> dict[str, list[str]]:
    """The modules in a directory and below by their names, each with the paths of its files."""
    if root not in _listed:
        found: dict[str, list[str]] = {}
        count = 0
        for folder, folders, files in os.walk(root):
            folders[:] = [each for each in folders if each not in (".build-id", ".git")]
            for file in files:
                if file.endswith(_MODULES):
                    found.setdefault(_module_key(file), []).append(os.path.join(folder, file))
            count += len(files)
            if count > MAX_FILES:
                break
        _listed[root] = found
    return _listed[root]


def find_program(places: Places, path: str) -> str | None:
    """The debug information of a program or library: its own, or that of its build-id, or what its
    .gnu_debuglink names."""
    file = open_elf(path)
    if file is None:
        return None
    if ".debug_info" in file.sections:
        return path
    build_id = build_id_of(file)
    for folder in (*places.directories, DEBUG):
        for found in _by_build_id(folder, build_id):
            if _is_debug_file(found, build_id):
                return found
    for folder in (*places.directories, DEBUG):
        if _is_debug_file(f"{folder}{path}.debug", build_id):
            return f"{folder}{path}.debug"
    return _linked(places, file, path, build_id) or _fetched(places, build_id) or path


def _linked(places: Places, file: ElfFile, path: str, build_id: str | None) -> str | None:
    """The file that .gnu_debuglink names, where gdb looks for it too: beside the program, in
    .debug there, and in the same directory below where debug files are.  It counts by its
    build-id, or, where there is none, by the checksum."""
    link = file.section_data(".gnu_debuglink")
    name = os.fsdecode(link.partition(b"\0")[0])
    if len(link) < 8 or not name or "/" in name:
        return None
    here = os.path.dirname(os.path.realpath(path))
    for folder in (here, f"{here}/.debug", *(f"{d}{here}" for d in (*places.directories, DEBUG))):
        found = f"{folder}/{name}"
        if _is_debug_file(found, build_id) and (build_id or _checksum(found) == link[-4:]):
            return found
    return None


def _checksum(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return zlib.crc32(file.read()).to_bytes(4, "little")
    except OSError:
        return b""


def _module_key(file: str) -> str:
    """A module's name from its file's: the kernel writes _ where that has -."""
    return file.partition(".")[0].replace("-", "_")


def _by_build_id(folder: str, build_id: str | None) -> Sequence[str]:
    if build_id is None or len(build_id) < 4:
        return ()
    return (f"{folder}/.build-id/{build_id[:2]}/{build_id[2:]}.debug",)


def _is_debug_file(path: str, build_id: str | None) -> bool:
    """Whether the file has debug information, and is of that build, if one is given."""
    if not os.path.isfile(path):
        return False
    file = open_file(path)
    if file is None or ".debug_info" not in file.sections:
        return False
    return build_id is None or build_id_of(file) in (build_id, None)


def _fetched(places: Places, build_id: str | None) -> str | None:
    if build_id is None or not places.urls:
        return None
    from faultkit.debuginfo.debuginfod import fetch

    return fetch(build_id, places.urls)
