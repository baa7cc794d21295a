"""Which file system a task waits for, and the explanation that most causes need for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from faultkit.causes import Explanation
from faultkit.causes.chain import device_link, mount_link, mount_resource, resource_of
from faultkit.causes.view import Blocked, Device, Mount, View
from faultkit.model import INFERRED, PROVEN, Resource


def mount_for(
    blocked: Blocked, view: View, fits: Callable[[Mount], bool]
) -> tuple[Mount | None, bool]:
    """(the mount the task waits for, whether that is certain): that of its call's file if it
    fits, else the only one that does."""
    file = view.file(blocked)
    if file is not None and file.mount is not None and fits(file.mount):
        return file.mount, True
    others: dict[tuple[int, int], Mount] = {}
    for mount in view.mounts(blocked.task.tid):
        if fits(mount):
            others.setdefault(mount.device, mount)
    if len(others) == 1:
        return next(iter(others.values())), False
    return None, False


def of_type(*types: str) -> Callable[[Mount], bool]:
    """Whether a mount is of one of these types (sub-types as in fuse.sshfs included)."""
    return lambda mount: mount.type.partition(".")[0] in types


def on_file_system(
    blocked: Blocked,
    view: View,
    text: str,
    *,
    fits: Callable[[Mount], bool] = lambda mount: True,
    key: Iterable[object] = (),
    advice: str = "",
    cause: str | None = None,
) -> Explanation:
    """An explanation with the file, its mount, and the chain that begins with it."""
    mount, certain = mount_for(blocked, view, fits)
    resource = resource_of(view, blocked)
    if mount is None:
        return Explanation(text, (cause, *key), resource, next=advice, cause=cause)
    evidence: tuple[str, ...] = ()
    if not certain:
        evidence = (f"{mount.point} is the only mounted {mount.type}",)
        resource = mount_resource(mount)
    return Explanation(
        text,
        (cause, *key, mount.device),
        resource,
        (mount_link(mount),),
        advice,
        evidence,
        PROVEN if certain else INFERRED,
        cause,
    )


def on_its_file(
    blocked: Blocked, view: View, text: str, key: tuple[object, ...], advice: str
) -> Explanation:
    """An explanation of an unknown wait: the chain begins with the file that the call works on,
    which may have nothing to do with it."""
    file = view.file(blocked)
    if file is None or file.mount is None or file.mount.type in _UNREAL:
        return Explanation(text, key, resource_of(view, blocked), next=advice)
    return Explanation(
        text,
        (*key, file.mount.device),
        resource_of(view, blocked),
        (mount_link(file.mount),),
        advice,
        ("its system call works on a file there",),
        INFERRED,
    )


_UNREAL = frozenset(
    "proc sysfs devtmpfs tmpfs devpts cgroup cgroup2 pipefs sockfs debugfs mqueue bpf".split()
)


def on_block_device(
    blocked: Blocked,
    view: View,
    text: str,
    *,
    key: Iterable[object] = (),
    advice: str = "",
    cause: str | None = None,
) -> Explanation:
    """The same for a wait for a device: where the call works on the device itself (or its node
    in /dev), the chain begins there."""
    file = view.file(blocked)
    device = None
    if file is not None and file.path and file.path.startswith("/dev/"):
        device = view.device_named(file.path.rpartition("/")[2])
    elif file is None and blocked.is_kernel_thread:
        device = device_of_thread(blocked.task.name or "", view)
    if device is None:
        return on_file_system(blocked, view, text, key=key, advice=advice, cause=cause)
    return Explanation(
        text,
        (cause, *key, device.number),
        Resource(device=f"/dev/{device.name}"),
        (device_link(device),),
        advice,
        cause=cause,
    )


# "jbd2/sda1-8", "xfsaild/dm-0", "kworker/u8:3-flush-253:0", "kworker/1:0+loop0", "loop0"
_THREAD = re.compile(
    r"jbd2/(?P<journal>.+)-\d+$|.*flush-(?P<major>\d+):(?P<minor>\d+)$|"
    r"(?:xfs|f2fs|kworker)\S*[-+/](?P<name>[\w-]+)$|(?P<own>(?:loop|md|nbd)\d+)(?:_\w+)?$"
)


def device_of_thread(name: str, view: View) -> Device | None:
    """The block device that a kernel thread works for, told by its name."""
    match = _THREAD.match(name)
    if match is None:
        return None
    if match["major"]:
        return view.device((int(match["major"]), int(match["minor"])))
    device = match["journal"] or match["name"] or match["own"]
    return view.device_named(device.replace("!", "/").rpartition("/")[2])
