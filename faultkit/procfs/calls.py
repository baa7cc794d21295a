"""The file that a blocked system call works on, by its arguments."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from faultkit.causes.view import Blocked
from faultkit.procfs.fds import link
from faultkit.procfs.process import read_once
from faultkit.syscalls import AT_FDCWD, descriptor_argument, path_arguments

PATIENCE = 0.2  # seconds for a read that should take microseconds
LONGEST_PATH = 4096  # PATH_MAX
_DUMPS = frozenset(("vfs_coredump", "do_coredump"))
_DIES = frozenset(("do_exit", "do_group_exit", "get_signal"))


def dumps_core(blocked: Blocked) -> bool:
    """Whether the task writes its core: then its system call has nothing to do with the wait."""
    return not _DUMPS.isdisjoint(blocked.functions)


def descriptor(blocked: Blocked) -> int | None:
    """The descriptor that the call works on; None where it works on none."""
    call = blocked.syscall
    if call is None or not _DIES.isdisjoint(blocked.functions):
        return None
    at = descriptor_argument(call.nr)
    if at is None:
        paths = path_arguments(call.nr)
        if paths is None or paths[0] is None or call.args[paths[1]]:
            return None
        at = paths[0]  # utimensat(fd, NULL): the descriptor itself
    fd = call.args[at] & 0xFFFFFFFF
    return fd if fd < 1 << 31 else None


def path(blocked: Blocked, memory_is_free: Callable[[], bool]) -> str | None:
    """The absolute path that the call works on, symbolic links in it unresolved; None if it
    can't be read."""
    pid = blocked.task.tid
    if dumps_core(blocked):
        return _core_path(pid)
    call = blocked.syscall
    arguments = path_arguments(call.nr) if call is not None else None
    if call is None or arguments is None or not _DIES.isdisjoint(blocked.functions):
        return None
    folder, at = arguments
    if not memory_is_free():
        return None
    name = _string(pid, call.args[at])
    if name is None:
        return None
    if not name.startswith("/"):
        fd = call.args[folder] if folder is not None else AT_FDCWD
        fd = (fd & 0xFFFFFFFF) - (1 << 32 if fd & 1 << 31 else 0)
        where = f"/proc/{pid}/cwd" if fd == AT_FDCWD else None
        base = _link(where) if where else link(pid, fd)
        if base is None:
            return None
        name = f"{base}/{name}"
    return os.path.normpath(name)


def _core_path(pid: int) -> str | None:
    """About where the process's core goes; None if to a program."""
    try:
        pattern = read_once("/proc/sys/kernel/core_pattern").decode("utf-8", "replace").strip()
    except OSError:
        pattern = "core"
    if pattern.startswith("/"):
        return pattern
    folder = _link(f"/proc/{pid}/cwd")
    return None if folder is None or pattern[:1] in "|@" else f"{folder}/{pattern}"


def memory_is_free(threads: Sequence[Blocked]) -> bool:
    """Whether no thread of the process is blocked where it may hold the mmap_lock: reading the
    memory would wait for it."""
    from faultkit.causes._lock_names import MMAP

    return all(
        thread.task.state != "D" or MMAP.holders.isdisjoint(thread.functions) for thread in threads
    )


def _string(pid: int, address: int) -> str | None:
    """The string at `address` of a process.  Read by a thread of its own, which is left alone if
    it does not come back: the page may have to come from a hung device."""
    found: list[bytes] = []

    def read() -> None:
        try:
            fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            try:
                size = min(LONGEST_PATH, 4096 - address % 4096)
                data = os.pread(fd, size, address)
                if b"\0" not in data and len(data) == size:
                    data += os.pread(fd, LONGEST_PATH - size, address + size)
                found.append(data)
            finally:
                os.close(fd)
        except (OSError, OverflowError, ValueError):
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(PATIENCE)
    if not found or b"\0" not in found[0]:
        return None
    return os.fsdecode(found[0].split(b"\0", 1)[0]) or None


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
