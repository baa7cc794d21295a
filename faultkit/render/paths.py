"""Paths of source files as people know them."""

import os

_KERNEL = frozenset(
    "arch block certs crypto drivers fs include init io_uring ipc kernel lib mm net rust samples "
    "scripts security sound tools usr virt".split()
)

LONG = 6  # parts of a path


def short_path(file: str) -> str:
    """The path below the directory that a build had its sources in, where that can be told: the
    kernel's own directories; of a long path elsewhere the end."""
    path = os.path.normpath(file)
    parts = path.split("/")
    for index, part in enumerate(parts[:-1]):
        if part in _KERNEL and (index == 0 or _is_tree(parts[index - 1])):
            return "/".join(parts[index:])
    return path if len(parts) <= LONG else "/".join(["...", *parts[-2:]])


def _is_tree(name: str) -> bool:
    """Whether a directory has the name of a kernel's sources, or of a build of them."""
    return name.startswith(("linux-", "kernel-", "build_")) or name in ("linux", "source")
