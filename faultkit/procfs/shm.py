"""Files that processes share by mapping them: the names by which others could open them, too."""

from __future__ import annotations

import os
from itertools import islice

from faultkit.target import Mapping

MOST_ENTRIES = 10_000  # of a directory
DELETED = " (deleted)"


def present_name(pid: int, mapping: Mapping) -> str | None:
    """The path by which the file of a mapping of the process can be opened now; None if it has
    none any more, or that can't be told.

    glibc makes a named semaphore under another name than it gets (sysdeps/pthread/sem_open.c), and
    the mapping keeps the first one.
    """
    path = mapping.path[: -len(DELETED)] if mapping.path.endswith(DELETED) else mapping.path
    directory = os.path.dirname(path)
    if not directory.startswith("/") or not mapping.inode or not mapping.device:
        return None
    major, _, minor = mapping.device.partition(":")
    wanted = os.makedev(int(major, 16), int(minor, 16)), mapping.inode
    try:
        with os.scandir(f"/proc/{pid}/root{directory}") as entries:  # as the process sees it
            for entry in islice(entries, MOST_ENTRIES):
                if entry.inode() == mapping.inode:
                    found = entry.stat(follow_symlinks=False)
                    if (found.st_dev, found.st_ino) == wanted:
                        return f"{directory}/{entry.name}"
    except OSError:
        pass
    return None
