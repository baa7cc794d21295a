"""Language runtimes that schedule work of their own: their waits are not threads' waits, so
that threads at rest prove nothing about goroutines and the like."""

from __future__ import annotations

import os
import re
import struct
from functools import lru_cache

from faultkit.places import is_library_image
from faultkit.target import FaultkitError, Mapping, Process, ReadError

GO = (
    "Go program: goroutines wait inside the runtime, threads do not show it; send SIGQUIT for "
    "all goroutine stacks, or use delve (dlv attach PID, then goroutines)"
)
JAVA = (
    "Java program: monitors and java.util.concurrent locks live inside the JVM; "
    "jstack PID (or SIGQUIT) prints them and any deadlock among them"
)
DOTNET = (
    ".NET program: monitors live inside the runtime; dotnet-stack report -p PID, or "
    "dotnet-dump collect -p PID and its command syncblk, shows them"
)
ERLANG = (
    "Erlang program: processes wait inside the virtual machine; look in a remote shell "
    "(observer_cli, erlang:process_info/1) or at the crash dump that SIGUSR1 writes"
)
HASKELL = (
    "Haskell program: its threads wait on MVars inside the runtime, which itself raises "
    "BlockedIndefinitelyOnMVar for the dead ones; use GHC.Conc.listThreads or eventlog"
)
RUBY = (
    "Ruby program: Mutex, Queue and Monitor live inside the interpreter; rbspy dump --pid PID, "
    "or Thread.list with backtraces, shows who waits"
)

# Names of mapped files (the part after the last slash) that only that runtime has; how they
# begin, for a pattern that is not needed is not compiled
NAMES = (
    ("libjvm", r"libjvm\.so", JAVA),
    ("libcoreclr", r"libcoreclr\.so", DOTNET),
    ("libclrjit", r"libclrjit\.so", DOTNET),
    ("libmonosgen", r"libmonosgen-2\.0\.so[.\d]*", DOTNET),
    ("mono", r"mono-sgen", DOTNET),
    ("beam", r"beam\.smp", ERLANG),
    ("libHSrts", r"libHSrts[-\w.]*\.so", HASKELL),
    ("libruby", r"libruby[-\d.]*\.so[.\d]*", RUBY),
    ("ruby", r"ruby[\d.]*", RUBY),
    ("libgo", r"libgo\.so[.\d]*", GO),
)

# Sections that only one tool chain writes; strip leaves the allocated ones
SECTIONS = (
    (".go.buildinfo", GO),
    (".gopclntab", GO),
    (".data.rel.ro.gopclntab", GO),
    (".note.go.buildid", GO),
    ("__managedcode", DOTNET),  # .NET ahead of time
    (".debug-ghc-link-info", HASKELL),
)

GO_NOTE, GO_NOTE_NAME = 4, b"Go\0\0"  # PT_NOTE of cmd/link: the build id
PT_NOTE = 4
MOST_IMAGES, MOST_HEADERS, MOST_SECTIONS = 200, 64, 4096


def opaque_runtime(process: Process) -> str | None:
    """One line that names the runtime in the process whose waits threads do not show, with the
    remedy; None where there is none that we know."""
    files = process.files()
    for name in {mapping.path.rsplit("/", 1)[-1] for mapping in files}:
        for start, pattern, runtime in NAMES:
            if name.startswith(start) and re.fullmatch(pattern, name):
                return runtime
    seen: set[str] = set()
    for mapping in files:
        if mapping.offset or mapping.path in seen:
            continue
        if is_library_image(mapping.path):
            continue
        seen.add(mapping.path)
        if len(seen) > MOST_IMAGES:
            break
        found = _runtime_of_image(process, mapping)
        if found is not None:
            return found
    return None


def _runtime_of_image(process: Process, mapping: Mapping) -> str | None:
    """By the image's notes, in memory; else by its sections, in its file."""
    try:
        header = process.read(mapping.start, 64)
    except FaultkitError:
        header = b""
    if header and header[:5] != b"\x7fELF\x02":
        return None
    if header and _has_go_note(process, mapping, header):
        return GO
    names = _section_names(_file_of(process, mapping))
    return next((runtime for section, runtime in SECTIONS if section in names), None)


def _has_go_note(process: Process, mapping: Mapping, header: bytes) -> bool:
    offset, size, count = struct.unpack_from("<Q14xHH", header, 32)
    if size != 56 or not 0 < count <= MOST_HEADERS:
        return False
    try:
        table = process.read(mapping.start + offset, size * count)
        for at in range(0, len(table), size):
            kind, _, start, _, _, length = struct.unpack_from("<2I4Q", table, at)
            if kind != PT_NOTE or not 12 <= length <= 1 << 16:
                continue
            note = process.read(mapping.start + start, length)
            name_size, _, kind = struct.unpack_from("<3I", note)
            if kind == GO_NOTE and note[12 : 12 + min(name_size, 4)] == GO_NOTE_NAME:
                return True
    except (ReadError, struct.error):
        pass
    return False


def _file_of(process: Process, mapping: Mapping) -> str:
    """A path at which the mapped file can be opened: through the process's own root, where it
    lives; "" if it is another machine's."""
    if not process.live:
        return mapping.path if process.here else ""
    return f"/proc/{process.pid}/root{mapping.path}"


def _section_names(path: str) -> frozenset[str]:
    """The names of an ELF file's sections; empty if it can't be read."""
    try:
        file = os.stat(path)
    except OSError:
        return frozenset()
    return _names_in(path, (file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns))


@lru_cache(maxsize=MOST_IMAGES)
def _names_in(path: str, version: tuple[int, ...]) -> frozenset[str]:
    """`version` tells files apart that one path names one after the other."""
    try:
        with open(path, "rb") as file:
            header = file.read(64)
            if header[:5] != b"\x7fELF\x02":
                return frozenset()
            (offset,) = struct.unpack_from("<Q", header, 40)
            size, count, names_at = struct.unpack_from("<3H", header, 58)
            if size != 64 or not 0 < count <= MOST_SECTIONS or names_at >= count:
                return frozenset()
            file.seek(offset)
            table = file.read(size * count)
            start, length = struct.unpack_from("<2Q", table, names_at * size + 24)
            file.seek(start)
            names = file.read(min(length, 1 << 20))
    except (OSError, ValueError, struct.error):
        return frozenset()
    found = set()
    for at in range(0, len(table) - size + 1, size):
        (name,) = struct.unpack_from("<I", table, at)
        found.add(names[name : names.find(b"\0", name)].decode("ascii", "replace"))
    return frozenset(found)
