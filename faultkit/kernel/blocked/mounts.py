"""The mounts of a namespace (fs/mount.h), and the super blocks behind them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from faultkit.causes.view import Mount
from faultkit.kernel.files import Files
from faultkit.kernel.kinship import Kinship
from faultkit.kernel.objects import BrokenList, Layout, entries, is_kernel_pointer, need, text
from faultkit.kernel.trees import rb_nodes
from faultkit.model import Task
from faultkit.target import FaultkitError

MOST_MOUNTS = 20_000  # of one namespace


class Mounts:
    """Mounts as Mount objects; `super_blocks` has the super block's address of each by number of
    its device.  Nothing raises for what is in memory."""

    def __init__(self, files: Files, kinship: Kinship) -> None:
        self.files = files
        self.kernel = files.kernel
        self.kinship = kinship
        self._of: dict[int, list[Mount]] = {}  # by mnt_namespace
        self._mounts: dict[int, Mount | None] = {}  # by struct mount
        self._blocks: dict[int, int] = {}  # vfsmounts by super block
        self.super_blocks: dict[tuple[int, int], int] = {}

    def seen_by(self, task: Task) -> list[Mount]:
        """The mounts of the task's namespace."""
        space = self.kinship.namespace_address(task.pid, "mnt_ns")
        if space not in self._of:
            found: list[Mount] = []
            try:
                for address in self._listed(space) if space else ():
                    mount = self.mount(address)
                    if mount is not None:
                        found.append(mount)
            except (BrokenList, FaultkitError):
                pass
            self._of[space] = found
        return self._of[space]

    def _listed(self, space: int) -> Iterator[int]:
        """The struct mounts of a namespace: in a tree since 2eea9ce4310d ("mounts: keep list of
        mounts in an rbtree", 6.8), in a list before."""
        kernel = self.kernel
        tree, node = kernel.offset("mnt_namespace", "mounts"), kernel.offset("mount", "mnt_node")
        if node is not None and tree is not None:
            for address in rb_nodes(kernel, kernel.u64(space + tree), MOST_MOUNTS):
                yield address - node
            return
        head = space + need(kernel, "mnt_namespace", "list")
        yield from entries(kernel, head, need(kernel, "mount", "mnt_list"), MOST_MOUNTS)

    def of_vfsmount(self, address: int) -> Mount | None:
        """The mount of a struct vfsmount."""
        try:
            return self.mount(address - need(self.kernel, "mount", "mnt"))
        except FaultkitError:
            return None

    @cached_property
    def _layout(self) -> Layout:
        return self.files.system.layout("mount", "mnt.mnt_sb", "mnt_id", "mnt_devname")

    def mount(self, address: int) -> Mount | None:
        """The mount of a struct mount."""
        if address not in self._mounts:
            try:
                self._mounts[address] = self._read(address)
            except FaultkitError:
                self._mounts[address] = None
        return self._mounts[address]

    def _read(self, address: int) -> Mount:
        kernel = self.kernel
        block, number, source = self._layout.read(address)
        device, _, kind = self.files.super_block(block)
        inside = address + need(kernel, "mount", "mnt")
        root = kernel.u64(inside + need(kernel, "vfsmount", "mnt_root"))
        self.super_blocks.setdefault(device, block)
        self._blocks.setdefault(block, inside)
        return Mount(
            number & 0xFFFF_FFFF,
            device,
            "/",
            self.files.path(inside, root) or "/",
            self._type(block, kind),
            text(kernel, source) if is_kernel_pointer(source) else "none",
            self._options(block, kind),
        )

    def _type(self, block: int, kind: str) -> str:
        """With the sub-type: fuse.sshfs."""
        at = self.kernel.offset("super_block", "s_subtype")
        subtype = self.kernel.u64(block + at) if at is not None else 0
        if not is_kernel_pointer(subtype):
            return kind
        return f"{kind}.{text(self.kernel, subtype, 64)}"

    def _options(self, block: int, kind: str) -> tuple[str, ...]:
        """What leads on from the file system: those that /proc/mounts would show."""
        from faultkit.kernel.blocked import nfs, overlay

        if kind in ("nfs", "nfs4"):
            return nfs.mount_options(self.files.system, block)
        if kind == "overlay":
            return overlay.mount_options(self.files.system, block)
        return ()

    def known(self) -> list[Mount]:
        """All mounts that have been looked at."""
        return [mount for mount in self._mounts.values() if mount is not None]

    def of_super_block(self, block: int) -> Mount | None:
        """A mount of a super block among those of the namespaces that have been looked at."""
        inside = self._blocks.get(block)
        return self.of_vfsmount(inside) if inside is not None else None
