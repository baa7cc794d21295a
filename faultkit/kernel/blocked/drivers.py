"""What drivers know of their devices: device mapper, loop and nbd.  Their types are in the debug
information of their modules, or in the BTF that the kernel keeps of these."""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.kernel.files import Files
from faultkit.kernel.objects import (
    BrokenList,
    entries,
    is_kernel_pointer,
    need,
    pointer,
    text,
    unsigned,
)
from faultkit.kernel.system import System
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MOST_BELOW = 256
SCSI_STATES = ("OFFLINE", "TRANSPORT_OFFLINE", "QUIESCE", "BLOCK", "CREATED_BLOCK", "CANCEL", "DEL")
MOST_DEFERRED = 10_000
DMF_SUSPENDED, DMF_DELETING = 1, 4  # drivers/md/dm-core.h


class Behind(NamedTuple):
    """What a driver tells of a disk: see causes.view.Device.  `devices` are the struct
    block_devices below it, `name` the name that its users know it by."""

    trouble: tuple[str, ...] = ()
    backing_file: str | None = None
    devices: tuple[int, ...] = ()
    served_by: int | None = None
    name: str | None = None


def behind(system: System, files: Files, disk: int, name: str) -> Behind:
    """What the driver of a gendisk tells."""
    try:
        private = pointer(system.kernel, disk, "gendisk", "private_data")
        for prefix, look in (("dm-", _mapper), ("loop", _loop), ("nbd", _nbd)):
            if name.startswith(prefix) and private:
                return look(system, files, disk, private)
        if name.startswith(("sd", "sr")):
            return Behind(tuple(_scsi(system, disk)))
    except FaultkitError:
        system.limit(
            f"what is behind {name} can't be told without its driver's types: load the debug "
            "information of modules first (in crash: mod -S)"
        )
    return Behind()


def _scsi(system: System, disk: int) -> Iterator[str]:
    """What the SCSI layer makes of a disk: its own state, and its host's (scsi_device.sdev_state,
    Scsi_Host.shost_state)."""
    kernel = system.kernel
    queue = pointer(kernel, disk, "gendisk", "queue")
    device = pointer(kernel, queue, "request_queue", "queuedata")
    if not device or not _checked(system, device, "scsi_device", "request_queue", queue):
        return
    state = unsigned(kernel, device, "scsi_device", "sdev_state")
    for name in SCSI_STATES:
        if state == kernel.enumerator(f"SDEV_{name}"):
            yield f"its state is {name.lower().replace('_', '-')}"
    host = pointer(kernel, device, "scsi_device", "host")
    if unsigned(kernel, host, "Scsi_Host", "shost_state") in (
        kernel.enumerator("SHOST_RECOVERY"),
        kernel.enumerator("SHOST_CANCEL_RECOVERY"),
    ):
        yield "its SCSI host recovers from errors"
    failed = unsigned(kernel, host, "Scsi_Host", "host_failed")
    if 0 < failed <= MOST_DEFERRED:
        yield f"{failed} of its SCSI host's commands failed"


def _checked(system: System, private: int, type_name: str, member: str, disk: int) -> bool:
    """Whether the driver's object names the disk that names it."""
    return pointer(system.kernel, private, type_name, member) == disk


def _mapper(system: System, files: Files, disk: int, private: int) -> Behind:
    """struct mapped_device (drivers/md/dm-core.h)."""
    if not _checked(system, private, "mapped_device", "disk", disk):
        return Behind()
    kernel = system.kernel
    flags = pointer(kernel, private, "mapped_device", "flags")
    trouble = []
    if flags >> DMF_SUSPENDED & 1:
        trouble.append("suspended")
    if flags >> DMF_DELETING & 1:
        trouble.append("being deleted")
    deferred = _deferred(system, private)
    if deferred:
        trouble.append(f"{deferred} bios deferred" if deferred > 1 else "1 bio deferred")
    below = []
    try:
        table = pointer(kernel, private, "mapped_device", "map")
        if table:
            head = table + need(kernel, "dm_table", "devices")
            links = need(kernel, "dm_dev_internal", "list")
            for internal in entries(kernel, head, links, MOST_BELOW):
                dev = pointer(kernel, internal, "dm_dev_internal", "dm_dev")
                below.append(pointer(kernel, dev, "dm_dev", "bdev"))
    except (BrokenList, FaultkitError):
        pass
    return Behind(tuple(trouble), None, tuple(below), None, mapper_name(system, disk))


def _deferred(system: System, device: int) -> int:
    """How many bios wait until a mapped_device is resumed (drivers/md/dm.c, queue_io())."""
    kernel = system.kernel
    try:
        following = need(kernel, "bio", "bi_next")
        bio = pointer(kernel, device, "mapped_device", "deferred.head")
        for count in range(MOST_DEFERRED):
            if not bio:
                return count
            bio = kernel.u64(bio + following)
    except FaultkitError:
        return 0
    return MOST_DEFERRED


def mapper_name(system: System, disk: int) -> str | None:
    """The name of a dm device in the device mapper (drivers/md/dm-ioctl.c, struct hash_cell)."""
    kernel = system.kernel
    try:
        device = pointer(kernel, disk, "gendisk", "private_data")
        cell = pointer(kernel, device, "mapped_device", "interface_ptr")
        name = pointer(kernel, cell, "hash_cell", "name") if cell else 0
        return text(kernel, name, 128) if is_kernel_pointer(name) else None
    except FaultkitError:
        return None


def _loop(system: System, files: Files, disk: int, private: int) -> Behind:
    """struct loop_device (drivers/block/loop.c)."""
    if not _checked(system, private, "loop_device", "lo_disk", disk):
        return Behind()
    backing = pointer(system.kernel, private, "loop_device", "lo_backing_file")
    file = files.file(backing) if backing else None
    return Behind(backing_file=files.link(file) if file is not None else None)


def _nbd(system: System, files: Files, disk: int, private: int) -> Behind:
    """struct nbd_device (drivers/block/nbd.c): who has the other end of its socket, if that is of
    this machine; else the process that runs NBD_DO_IT."""
    if not _checked(system, private, "nbd_device", "disk", disk):
        return Behind()
    kernel = system.kernel
    served = _at_other_end(system, files, private)
    if served is None and kernel.offset("nbd_device", "pid") is not None:
        served = kernel.u32(private + need(kernel, "nbd_device", "pid"))
    elif served is None:  # before 6.0 the task
        task = system.by_address.get(pointer(kernel, private, "nbd_device", "task_recv"))
        served = task.pid if task is not None else None
    return Behind(served_by=served or None)


def _at_other_end(system: System, files: Files, device: int) -> int | None:
    """The process that has the other end of an nbd device's first unix socket."""
    from faultkit.kernel.programs import programs_of

    kernel = system.kernel
    try:
        config = pointer(kernel, device, "nbd_device", "config")
        first = kernel.u64(pointer(kernel, config, "nbd_config", "socks"))
        socket = pointer(kernel, pointer(kernel, first, "nbd_sock", "sock"), "socket", "sk")
        peer = pointer(kernel, socket, "unix_sock", "peer")
        other = pointer(kernel, peer, "sock", "sk_socket") if peer else 0
        inode = other and other - need(kernel, "socket_alloc", "socket") + need(
            kernel, "socket_alloc", "vfs_inode"
        )
        found = files.inode(inode) if inode else None
    except FaultkitError:
        return None
    if found is None or not found.is_socket:
        return None
    descriptors = programs_of(system).world.machine.descriptors()
    return next((pid for pid, _ in descriptors.of_socket(found.number)), None)
