"""The file that a blocked task works on: by its system call, or by the page that it waits for."""

from __future__ import annotations

import os

from faultkit.causes.view import Blocked, Device, OpenFile
from faultkit.kernel.blocked.devices import Devices
from faultkit.kernel.blocked.mounts import Mounts
from faultkit.kernel.files import S_IFMT
from faultkit.kernel.objects import first_offset, is_kernel_pointer, need, pointer, text, unsigned
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.waits import folio as folios
from faultkit.kernel.waits._bit_wait import entries as bit_waits
from faultkit.kernel.world import KernelWorld
from faultkit.model import Task
from faultkit.procfs.calls import descriptor
from faultkit.syscalls import AT_FDCWD, path_arguments
from faultkit.target import FaultkitError

S_IFBLK = 0o060000
LONGEST_PATH = 4096
MOST_POINTERS = 512  # of a stack that may lead to a path


class Calls:
    """Files of blocked tasks; `nodes` are the devices of the block special files among them.
    Nothing raises for what is in memory."""

    def __init__(self, world: KernelWorld, mounts: Mounts, devices: Devices) -> None:
        self.files = world.files
        self.world = world
        self.kernel = world.system.kernel
        self.mounts = mounts
        self.devices = devices
        self.nodes: dict[str, tuple[int, int]] = {}

    def file(self, blocked: Blocked, sleeper: Sleeper | None) -> OpenFile | None:
        """The file of the task's call; else that of the page or buffer that it waits for."""
        try:
            fd = descriptor(blocked)
            found = self._open(blocked.task, fd) if fd is not None else None
            if found is None and fd is None and blocked.syscall is not None:
                found = self._path(blocked, sleeper)
            if found is None and sleeper is not None:
                found = self._of_page(sleeper)
            return found
        except FaultkitError:
            return None

    def _open(self, task: Task, fd: int) -> OpenFile | None:
        file = self.files.open_file(task, fd)
        if file is None:
            return None
        path = self.files.link(file)
        inode = self.files.inode(file.inode)
        if path is not None and inode is not None and inode.mode & S_IFMT == S_IFBLK:
            number = unsigned(self.kernel, file.inode, "inode", "i_rdev")
            self.nodes[path] = number >> 20, number & 0xFFFFF
        return OpenFile(path, self.mounts.of_vfsmount(file.mount), fd)

    # by its name

    def _path(self, blocked: Blocked, sleeper: Sleeper | None) -> OpenFile | None:
        call = blocked.syscall
        arguments = path_arguments(call.nr) if call is not None else None
        if call is None or arguments is None:
            return None
        folder, at = arguments
        name = self._string(blocked.task, call.args[at])
        if name is None and sleeper is not None:
            name = self._copied(sleeper, call.args[at])
        if not name:
            return None
        if not name.startswith("/"):
            fd = call.args[folder] & 0xFFFFFFFF if folder is not None else AT_FDCWD
            fd -= 1 << 32 if fd & 1 << 31 else 0
            base = self._base(blocked.task, fd)
            if base is None:
                return None
            name = f"{base}/{name}"
        path = os.path.normpath(name)
        from faultkit.procfs.mounts import mount_of_path

        return OpenFile(path, mount_of_path(self.mounts.seen_by(blocked.task), path))

    def _string(self, task: Task, address: int) -> str | None:
        process = self.world.process(task.pid)
        if process is None:
            return None
        data = b""
        while len(data) < LONGEST_PATH and b"\0" not in data:
            at = address + len(data)
            try:
                data += process.read(at, 4096 - at % 4096)
            except FaultkitError:
                return None
        return data.split(b"\0", 1)[0].decode("utf-8", "replace")

    def _copied(self, sleeper: Sleeper, address: int) -> str | None:
        """The same as the kernel has copied it (fs/namei.c, getname()), where the program's page
        is not in the dump: a struct filename that names the string is on the stack.  7.x does
        not keep where it came from."""
        at = self.kernel.offset("filename", "uptr")
        if at is None:
            return None
        for number, word in enumerate(sleeper.pointers()):
            if number >= MOST_POINTERS:
                return None
            try:
                if self.kernel.u64(word + at) == address:
                    return text(self.kernel, pointer(self.kernel, word, "filename", "name"), 4096)
            except FaultkitError:
                continue
        return None

    def _base(self, task: Task, fd: int) -> str | None:
        if fd == AT_FDCWD:
            state = pointer(self.kernel, task.address or 0, "task_struct", "fs")
            at = state + need(self.kernel, "fs_struct", "pwd")
            mount, dentry = (
                self.kernel.u64(at + need(self.kernel, "path", member))
                for member in ("mnt", "dentry")
            )
            return self.files.path(mount, dentry)
        file = self.files.open_file(task, fd)
        return self.files.link(file) if file is not None else None

    # by its pages

    def _of_page(self, sleeper: Sleeper) -> OpenFile | None:
        inode = self._inode_of_folio(sleeper)
        if inode:
            return self._of_inode(inode)
        bdev = self._bdev_of_buffer(sleeper)
        device = self.devices.of_bdev(bdev) if bdev else None
        return self._of_device(device) if device is not None else None

    def _of_inode(self, inode: int) -> OpenFile | None:
        """The file without its path: the mount; a block device's own pages as the device."""
        found = self.files.inode(inode)
        if found is None:
            return None
        if found.mode & S_IFMT == S_IFBLK:
            number = unsigned(self.kernel, inode, "inode", "i_rdev")
            device = self.devices.device((number >> 20, number & 0xFFFFF))
            return self._of_device(device) if device is not None else None
        block = pointer(self.kernel, inode, "inode", "i_sb")
        mount = self.mounts.of_super_block(block)
        return OpenFile(None, mount) if mount is not None else None

    def _of_device(self, device: Device) -> OpenFile:
        self.nodes[f"/dev/{device.name}"] = device.number
        return OpenFile(f"/dev/{device.name}", None)

    def _inode_of_folio(self, sleeper: Sleeper) -> int:
        """The inode whose page it waits for; 0 for anonymous memory, or if it waits for none."""
        if folios.FUNCTIONS.isdisjoint(sleeper.functions):
            return 0
        kernel = self.kernel
        page_at = first_offset(kernel, ("wait_page_queue", "folio"), ("wait_page_queue", "page"))
        mapping_at = first_offset(kernel, ("folio", "mapping"), ("page", "mapping"))
        for queue in bit_waits(sleeper, "wait_page_queue", "wait", "wake_page_function"):
            mapping = kernel.u64(kernel.u64(queue + (page_at or 0)) + (mapping_at or 0))
            if is_kernel_pointer(mapping) and not mapping & 3:
                return pointer(kernel, mapping, "address_space", "host")
        return 0

    def _bdev_of_buffer(self, sleeper: Sleeper) -> int:
        """The device of a buffer that it waits for; 0 if it waits for none."""
        kernel = self.kernel
        key_at = need(kernel, "wait_bit_queue_entry", "key") + need(kernel, "wait_bit_key", "flags")
        for queue in bit_waits(sleeper, "wait_bit_queue_entry", "wq_entry", "wake_bit_function"):
            buffer = kernel.u64(queue + key_at)  # b_state, the first member of struct buffer_head
            bdev = pointer(kernel, buffer, "buffer_head", "b_bdev")
            if is_kernel_pointer(bdev) and self.devices.of_bdev(bdev) is not None:
                return bdev
        return 0
