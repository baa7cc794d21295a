"""FUSE connections: who serves them, and what waits for an answer (fs/fuse/fuse_i.h)."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.kernel.filesystems import super_blocks
from faultkit.kernel.objects import UnknownLayout, is_kernel_pointer, pointer, signed
from faultkit.kernel.waits.fuse import NO_TYPES, Connection, servers_of
from faultkit.kernel.world import KernelWorld
from faultkit.target import FaultkitError

MOST_WAITING = 1 << 20


class Connections:
    """The connections by the minor number of their file systems' devices."""

    def __init__(self, world: KernelWorld) -> None:
        self.world = world
        self.system = world.system
        self.kernel = world.system.kernel
        self._known: dict[int, Connection] | None = None

    def _find(self, minor: int) -> Connection | None:
        if self._known is None:
            self._known = {}
            for block in super_blocks(self.system):
                try:
                    (_, number), _, kind = self.world.files.super_block(block.address)
                    if kind in ("fuse", "fuseblk", "virtiofs"):
                        connection = self._of(block.address)
                        if connection is not None:
                            self._known.setdefault(number, connection)
                except UnknownLayout:
                    self.system.limit(NO_TYPES)
                    break
                except FaultkitError:
                    continue
        return self._known.get(minor)

    def _of(self, block: int) -> Connection | None:
        """The connection of a super block."""
        kernel = self.kernel
        mount = pointer(kernel, block, "super_block", "s_fs_info")
        if not is_kernel_pointer(mount):
            return None
        address = pointer(kernel, mount, "fuse_mount", "fc")
        if not is_kernel_pointer(address):
            return None
        if kernel.offset("fuse_conn", "chan") is None:
            return Connection(address, address, "fc")
        channel = pointer(kernel, address, "fuse_conn", "chan")
        return Connection(address, channel, "chan")

    def servers(self, minor: int) -> Sequence[int] | None:
        """The processes that have the connection's /dev/fuse open; None if that can't be told."""
        try:
            connection = self._find(minor)
            return sorted(servers_of(self.world, connection)) if connection is not None else None
        except FaultkitError:
            return None

    def waiting(self, minor: int) -> int | None:
        """How many requests have no answer; in struct fuse_chan since 7.3."""
        connection = self._find(minor)
        if connection is None:
            return None
        try:
            if self.kernel.offset("fuse_conn", "num_waiting") is not None:
                count = pointer(self.kernel, connection.address, "fuse_conn", "num_waiting")
            else:
                count = pointer(self.kernel, connection.served, "fuse_chan", "num_waiting")
        except FaultkitError:
            return None
        number = signed(count & 0xFFFF_FFFF, 32)
        return number if 0 <= number <= MOST_WAITING else None
