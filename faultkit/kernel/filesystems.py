"""Mounted file systems: their super blocks, and what is frozen."""

from __future__ import annotations

from faultkit.kernel.objects import BrokenList, entries, need, text
from faultkit.kernel.system import System
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MOST_SUPER_BLOCKS = 65_536

LEVELS = ("writes", "page faults", "internal writes")  # include/linux/fs.h: SB_FREEZE_WRITE...
FREEZE_COMPLETE = 4


class SuperBlock(NamedTuple):
    """A struct super_block: `id` is the device's name ("sda1"), or the file system type's."""

    address: int
    id: str


def writers_lock(system: System, address: int) -> tuple[SuperBlock, int] | None:
    """(super block, level) if a percpu_rw_semaphore is one of those that writers of a file
    system hold, and that freezing it takes: sb->s_writers.rw_sem[level]."""
    kernel = system.kernel
    offset = kernel.offset("super_block", "s_writers.rw_sem")
    size = kernel.size("percpu_rw_semaphore")
    if offset is None or not size:
        return None
    for block in super_blocks(system):
        level, rest = divmod(address - block.address - offset, size)
        if 0 <= level < len(LEVELS) and not rest:
            return block, level
    return None


def is_frozen(system: System, block: SuperBlock) -> bool:
    """Whether the file system is frozen, not just being frozen or thawed (fs/super.c,
    freeze_super)."""
    try:
        address = block.address + need(system.kernel, "super_block", "s_writers.frozen")
        return int.from_bytes(system.kernel.read(address, 2), "little") == FREEZE_COMPLETE
    except FaultkitError:
        return False


def super_blocks(system: System) -> tuple[SuperBlock, ...]:
    """All of them, by the kernel's list; those that could be read."""
    known: tuple[SuperBlock, ...] | None = system.cache.get("super blocks")
    if known is None:
        known = system.cache["super blocks"] = tuple(_walk(system))
    return known


def _walk(system: System) -> list[SuperBlock]:
    kernel = system.kernel
    found: list[SuperBlock] = []
    head = kernel.symbol("super_blocks")
    if not head:
        return found
    try:
        links = need(kernel, "super_block", "s_list")
        name = need(kernel, "super_block", "s_id")
        for block in entries(kernel, head, links, MOST_SUPER_BLOCKS):
            found.append(SuperBlock(block, text(kernel, block + name, 32)))
    except (BrokenList, FaultkitError):
        pass
    return found
