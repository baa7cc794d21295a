"""Block devices, by /sys: what they have in flight, what they are made of, what their drivers say.
Only small attributes are read that no driver asks its hardware for."""

from __future__ import annotations

import os

from faultkit.causes.view import Device
from faultkit.procfs.process import read_proc

_GOOD = {
    "device/state": ("running", "live", "online", "created"),
    "md/array_state": ("clean", "active", "active-idle", "write-pending", "readonly", "read-auto"),
    "md/sync_action": ("idle",),
}


def block_device(number: tuple[int, int], sys: str = "/sys") -> Device | None:
    """The block device, None if there is none with that number."""
    try:
        path = os.readlink(f"{sys}/dev/block/{number[0]}:{number[1]}")
    except OSError:
        return None
    return _read(f"{sys}/dev/block/{path}", number)


def block_device_named(name: str, sys: str = "/sys") -> Device | None:
    """The block device of that name, as /dev, /sys/block or /dev/mapper have it."""
    folder = f"{sys}/class/block/{name}"
    numbers = _attribute(folder, "dev")
    if numbers is None:
        for other in _listed(f"{sys}/block"):
            if other.startswith("dm-") and _attribute(f"{sys}/block/{other}", "dm/name") == name:
                return block_device_named(other, sys)
        return None
    major, _, minor = numbers.partition(":")
    if not (major.isdigit() and minor.isdigit()):
        return None
    return _read(folder, (int(major), int(minor)))


def _read(folder: str, number: tuple[int, int]) -> Device:
    name = os.path.basename(os.path.realpath(folder))
    disk = folder
    if _attribute(folder, "partition") is not None:
        disk = os.path.dirname(os.path.realpath(folder))
    served = _attribute(disk, "pid")  # nbd
    return Device(
        name,
        number,
        _in_flight(folder),
        _completed(folder),
        tuple(_troubles(disk)),
        _attribute(disk, "loop/backing_file"),
        tuple(_listed(f"{folder}/slaves")),
        int(served) if served and served.isdigit() else None,
        _attribute(disk, "dm/name"),
    )


def _in_flight(folder: str) -> tuple[int, int] | None:
    words = (_attribute(folder, "inflight") or "").split()
    if len(words) == 2 and all(word.isdigit() for word in words):
        return int(words[0]), int(words[1])
    return None


def _completed(folder: str) -> int | None:
    """Reads, writes, discards and flushes that it has completed (Documentation/block/stat.rst)."""
    words = (_attribute(folder, "stat") or "").split()
    try:
        return sum(int(words[at]) for at in (0, 4, 11, 15) if at < len(words)) if words else None
    except ValueError:
        return None


def _troubles(disk: str) -> list[str]:
    found = []
    if _attribute(disk, "dm/suspended") == "1":
        found.append("suspended")
    for path, good in _GOOD.items():
        value = _attribute(disk, path)
        if value is not None and value not in good:
            found.append(f"{path.rpartition('/')[2]} is {value}")
    host = _scsi_host(disk)
    state = _attribute(host, "state") if host else None
    if state is not None and state != "running":
        found.append(f"its SCSI host is in state {state}")
    return found


def _scsi_host(disk: str) -> str | None:
    """The directory of the SCSI host that the disk hangs on."""
    path = os.path.realpath(f"{disk}/device")
    while path.count("/") > 3:
        name = os.path.basename(path)
        if name.startswith("host") and name[4:].isdigit():
            return f"{path}/scsi_host/{name}"
        path = os.path.dirname(path)
    return None


def _attribute(folder: str, name: str) -> str | None:
    try:
        return read_proc(f"{folder}/{name}", 4096).decode("utf-8", "surrogateescape").strip()
    except OSError:
        return None


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
