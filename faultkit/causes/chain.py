"""From what a task waits for to the one that has to act: through mounts, devices, servers and
other blocked tasks, to the end."""

from __future__ import annotations

import re
from collections.abc import Sequence

from faultkit.causes.view import Blocked, Device, Mount, View
from faultkit.model import Behind, Resource, Task
from faultkit.record import NamedTuple

LONGEST = 16  # links
# Lines of the log about a device that say more than that it is there.
_TROUBLE = re.compile("error|fail|time|reset|abort|offline|lost|reject|hung|remov|dead", re.I)
NETWORK = {  # file systems with a server elsewhere: its port, and what it is called
    "nfs": (2049, "NFS server"),
    "nfs4": (2049, "NFS server"),
    "cifs": (445, "SMB server"),
    "smb3": (445, "SMB server"),
    "smb": (445, "SMB server"),
    "ceph": (6789, "Ceph monitor"),
    "9p": (564, "9P server"),
    "afs": (7000, "AFS server"),
    "lustre": (988, "Lustre server"),
}
_STATE_WORDS = {
    "R": "running",
    "S": "sleeping",
    "D": "blocked in D state",
    "T": "stopped by a signal",
    "t": "stopped by its tracer",
    "Z": "a zombie",
    "X": "dead",
    "I": "idle",
    "P": "parked",
}


class Step(NamedTuple):
    """What stands behind a link, nearest first, and what to look at; `lasts` if it is certain not
    to end by itself."""

    links: tuple[Behind, ...] = ()
    advice: str = ""
    lasts: bool = False


def follow(view: View, links: Sequence[Behind]) -> Step:
    """The links with all that stands behind the last one; the advice of the last that has any."""
    chain = list(links)
    advice = ""
    lasts = False
    seen = {_identity(link) for link in chain if link.about is not None}
    while chain and len(chain) < LONGEST:
        step = _behind(view, chain[-1])
        new: list[Behind] = []
        for link in step.links:
            if _identity(link) in seen:
                words = _circle(view, chain[-1], link, step.advice or advice)
                return Step(tuple(chain + new), words, True)
            new.append(link)
        advice = step.advice or advice
        lasts = step.lasts
        if not new:
            break
        seen.update(map(_identity, new))
        chain += new
    return Step(tuple(chain), advice, lasts)


def _circle(view: View, last: Behind, first: Behind, advice: str) -> str:
    """The words for a chain that leads back into itself."""
    if view.has_graph:
        advice = "`deadlock` shows all of it"
    words = f"{last.kind} {last.name} waits for {first.kind} {first.name} in turn: a circle, in "
    return words + "which nobody can go on" + (f"; {advice}" if advice else "")


def _identity(link: Behind) -> tuple[object, ...]:
    return (link.kind, link.task) if link.task is not None else (link.kind, link.name)


def _behind(view: View, link: Behind) -> Step:
    about = link.about
    if isinstance(about, Mount):
        return _behind_mount(view, about)
    if isinstance(about, Device):
        return _behind_device(view, about)
    if isinstance(about, Blocked):
        step = _behind_task(view, about)
        if link.kind == "server" and not step.links:
            return Step()  # what to do about a server is known already
        return step
    return Step()


# Links, ready to be followed


def resource_of(view: View, blocked: Blocked) -> Resource:
    """The file, mount, device and server that the task's system call works on."""
    file = view.file(blocked)
    if file is None:
        return Resource()
    return mount_resource(file.mount)._replace(path=file.path)


def mount_resource(mount: Mount | None) -> Resource:
    """The resource that a mount is."""
    if mount is None:
        return Resource()
    server = server_of(mount)
    return Resource(
        None,
        mount.type,
        mount.point,
        None if server or mount.source == "none" else mount.source,
        server,
    )


def mount_link(mount: Mount) -> Behind:
    """The mount as a link."""
    server = server_of(mount)
    detail = f"{mount.type} from {mount.source}" + (f", server {server}" if server else "")
    return Behind("file-system", mount.point, detail, about=mount)


def device_link(device: Device) -> Behind:
    """The device as a link, with what its driver tells."""
    told = list(device.trouble)
    if device.in_flight is not None:
        reads, writes = device.in_flight
        told.append(f"{_count(reads, 'read')} and {_count(writes, 'write')} in flight")
    if device.oldest is not None:
        told.append(f"the oldest sent {device.oldest:.1f} s ago")
    if device.label is not None and device.label != device.name:
        told.insert(0, device.label)
    return Behind("device", device.name, ", ".join(told), about=device)


def task_link(view: View, task: Task) -> Behind:
    """The task as a link, with its state."""
    from faultkit.causes import waits_in

    found = view.find(task.pid, task.tid)
    if found is None:
        gone = "gone" if view.live else ""
        return Behind("task", f"{task.tid}", gone, task)
    words = _STATE_WORDS.get(found.task.state or "", "in an unknown state")
    function = waits_in(found.functions)
    if function is not None and found.task.state in ("S", "D"):
        words += f" in {function}"
    return Behind("task", f"{task.tid}", words, found.task, found)


def server_of(mount: Mount) -> str | None:
    """The server of a network file system, by the mount's options or its source."""
    if mount.type not in NETWORK:
        return None
    address = mount.option("addr") or mount.option("ip")
    if address:
        return address
    source = mount.source
    if source.startswith("//"):
        return source[2:].partition("/")[0]
    if source.startswith("["):
        return source[1:].partition("]")[0]
    return source.partition(":")[0]


# What stands behind each


def _behind_mount(view: View, mount: Mount) -> Step:
    if mount.type.partition(".")[0] in ("fuse", "fuseblk"):
        return _behind_fuse(view, mount)
    server = server_of(mount)
    if server is not None:
        return _behind_server(view, mount, server)
    if mount.type == "overlay":
        for name in ("upperdir", "lowerdir"):
            path = (mount.option(name) or "").split(":")[0]
            layer = view.mount_of(path) if path else None
            if layer is not None and layer.type != "overlay":
                return Step((mount_link(layer),))
        return Step()
    device = device_of(view, mount)
    return Step((device_link(device),)) if device is not None else Step()


def device_of(view: View, mount: Mount) -> Device | None:
    """The block device that is mounted."""
    device = view.device(mount.device)
    if device is None and mount.source.startswith("/dev/"):  # btrfs has a number of its own
        device = view.device_named(mount.source.rpartition("/")[2])
    return device


def _behind_fuse(view: View, mount: Mount) -> Step:
    connection = mount.device[1]
    servers = view.fuse_servers(connection)
    abort = f"echo 1 > /sys/fs/fuse/connections/{connection}/abort gives all its waiters an error"
    waiting = view.fuse_waiting(connection)
    if waiting is None and view.live:
        abort += " (mount -t fusectl none /sys/fs/fuse/connections, if it is empty)"
    if mount.type == "virtiofs":
        return Step((Behind("server", "virtiofsd", "on the host of this virtual machine"),), abort)
    if servers is None:
        return Step((), f"find the process that has /dev/fuse open for {mount.point}; {abort}")
    queued = _count(waiting, "request") + " without answer" if waiting is not None else ""
    if not servers:
        gone = Behind("server", f"FUSE connection {connection}", "no process serves it")
        return Step((gone,), abort)
    best: Blocked | None = None
    for pid in servers:
        for thread in view.threads(pid):
            if best is None or _rank(thread) < _rank(best):
                best = thread
    if best is None:
        return Step((), abort)
    link = task_link(view, best.task)
    link = link._replace(
        kind="server", detail=", ".join(filter(None, (link.detail, queued))), about=best
    )
    pid = best.task.pid
    if best.task.state == "T":
        return Step((link,), f"process {pid} is stopped: kill -CONT {pid}, or {abort}", True)
    if best.task.state == "t":
        return Step((link,), f"process {pid} is held by a debugger: continue it, or {abort}")
    return Step(
        (link,), f"see why process {pid} does not answer: {view.inspect(best.task)}; {abort}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _rank(thread: Blocked) -> int:
    """Blocked and stopped threads first: they explain why nothing is answered."""
    return {"D": 0, "T": 1, "t": 1}.get(thread.task.state or "", 2)


def _behind_server(view: View, mount: Mount, server: str) -> Step:
    port, what = NETWORK[mount.type]
    told = list(view.rpc_tasks(server)[:3]) if mount.type.startswith("nfs") else []
    mounted_port = mount.option("port")
    if mounted_port and mounted_port.isdigit() and int(mounted_port):
        port = int(mounted_port)
    connection = view.connection_to(0, server, port)
    if connection:
        told.insert(0, connection)
    log = view.log(f"server {server} not responding", f"server {server} timed out")
    said = [f"kernel log: {log[-1]}"] if log else []
    link = Behind("server", server, ", ".join([what, *told, *said]))
    reach = f"rpcinfo -T tcp {server} nfs" if mount.type.startswith("nfs") else f"ping {server}"
    return Step(
        (link,),
        f"see whether {server} answers ({reach}; port {port}); if it is gone for good: "
        f"umount -f {mount.point}, then umount -l",
    )


def _behind_device(view: View, device: Device) -> Step:
    if device.backing_file:
        mount = view.mount_of(device.backing_file)
        if mount is not None:
            link = mount_link(mount)
            file = Behind("file", device.backing_file, f"backs {device.name}")
            return Step((file, link), f"{device.backing_file} does not answer")
    if any("suspended" in words for words in device.trouble):
        name = device.label or device.name
        return Step((), f"device {device.name} is suspended: dmsetup resume {name}", True)
    if device.served_by is not None:
        served = view.find(device.served_by)
        if served is not None:
            link = task_link(view, served.task)
            return Step(
                (link._replace(kind="server"),),
                f"see why process {served.task.pid}, which serves {device.name}, does not answer: "
                f"{view.inspect(served.task)}",
            )
    for name in device.below:
        below = view.device_named(name)
        if below is not None and (any(below.in_flight or ()) or below.trouble):
            return Step((device_link(below),))
    if len(device.below) == 1:
        below = view.device_named(device.below[0])
        if below is not None:
            return Step((device_link(below),))
    log = [
        line
        for line in view.log(f"dev {device.name},", f"{device.name}:", f"[{device.name}]")
        if _TROUBLE.search(line)
    ]
    said = f'; the kernel log says "{log[-1]}"' if log else ""
    if device.trouble:
        return Step((), f"device {device.name}: {', '.join(device.trouble)}{said}")
    if device.in_flight is not None and not any(device.in_flight):
        return Step((), f"device {device.name} has no request in flight: look above it{said}")
    return Step(
        (),
        f"see why {device.name} does not complete its requests: dmesg, "
        f"/sys/kernel/debug/block/{device.name}{said}",
    )


def _behind_task(view: View, blocked: Blocked) -> Step:
    from faultkit.causes import explain, waits_in

    task = blocked.task
    who = f"process {task.pid}" if task.pid == task.tid else f"thread {task.tid}"
    if task.name:
        who += f' ("{task.name}")'
    if task.state == "T":
        return Step((), f"{who} is stopped: kill -CONT {task.pid}", True)
    if task.state == "t":
        tracer = view.tracer(task)
        by = f" {tracer.tid}" if tracer is not None else ""
        return Step((), f"{who} is stopped by its tracer{by}: see what that is at")
    if task.state == "R":
        how = f"top -H, perf top -t {task.tid}" if view.live else view.inspect(task)
        return Step((), f"{who} runs: see what it does ({how})")
    if task.state in (None, "Z", "X"):
        return Step()
    cause, explanation = explain(blocked, view)
    if task.state != "D" and cause == "unknown" and not explanation.behind:
        function = waits_in(blocked.functions)
        where = f" in {function}" if function else ""
        return Step((), f"{who} sleeps{where}: look at it ({view.inspect(task)})")
    return Step(
        explanation.behind, explanation.next or f"{who}: {explanation.text}", explanation.lasts
    )
