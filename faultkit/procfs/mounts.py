"""Mounts, by /proc/PID/mountinfo: nothing that is mounted is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from faultkit.causes.view import Mount
from faultkit.procfs.process import read_proc

_OCTAL = re.compile(r"\\([0-7]{3})")


def parse_mountinfo(text: str) -> list[Mount]:
    """The lines of a mountinfo file (fs/proc_namespace.c, show_mountinfo()); what is no such line
    is left out."""
    found = []
    for line in text.split("\n"):
        left, _, right = line.partition(" - ")
        try:
            number, _, device, root, point = left.split()[:5]
            kind, source, *options = right.split(" ")
            major, minor = device.split(":")
            found.append(
                Mount(
                    int(number),
                    (int(major), int(minor)),
                    _unescape(root),
                    _unescape(point),
                    kind,
                    _unescape(source),
                    tuple(options[0].split(",")) if options else (),
                )
            )
        except ValueError:
            continue
    return found


def read_mounts(pid: int) -> list[Mount]:
    """The mounts that the process sees; [] if it is gone."""
    try:
        text = read_proc(f"/proc/{pid}/mountinfo", 1 << 24)
    except OSError:
        return []
    return parse_mountinfo(text.decode("utf-8", "surrogateescape"))


def mount_of_path(mounts: Sequence[Mount], path: str) -> Mount | None:
    """The mount that an absolute path without symbolic links leads to: of those with the longest
    mount point the last one, which covers the others."""
    best: Mount | None = None
    for mount in mounts:
        point = mount.point.rstrip("/")
        inside = path == point or path.startswith(point + "/")
        if inside and (best is None or len(point) >= len(best.point.rstrip("/"))):
            best = mount
    return best


def _unescape(text: str) -> str:
    """Blanks and the like are octal there (mangle() in fs/seq_file.c)."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text) if "\\" in text else text
