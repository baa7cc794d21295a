"""Block devices: which there are, what they have in flight, and what their drivers' state tells."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from faultkit.causes.view import Device
from faultkit.kernel.blocked import drivers, requests
from faultkit.kernel.blocked.requests import Queue
from faultkit.kernel.files import Files
from faultkit.kernel.objects import BrokenList, entries, need, pointer, signed, text, unsigned
from faultkit.kernel.system import System
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MOST_DEVICES = 20_000
MOST_IN_FLIGHT = 1 << 20  # more can't be
MOST_CPUS = 8192  # include/linux/threads.h, NR_CPUS at most
SWP_USED = 1  # include/linux/swap.h


class Disk(NamedTuple):
    """A block device: a disk or one of its partitions; `bdev` is its struct block_device, `disk`
    the gendisk."""

    name: str
    number: tuple[int, int]
    bdev: int
    disk: int
    partition: int


def possible_cpus(system: System) -> list[int]:
    """All CPUs that may have counted something, those too that are offline now."""
    kernel = system.kernel
    mask = kernel.symbol("__cpu_possible_mask")
    count = kernel.symbol("nr_cpu_ids")
    try:
        size = min(kernel.u32(count), MOST_CPUS) if count else 64  # a constant in some kernels
        bits = int.from_bytes(kernel.read(mask or 0, (size + 63) // 64 * 8), "little")
        found = [cpu for cpu in range(size) if bits >> cpu & 1]
    except FaultkitError:
        found = []
    return found or list(system.running)


class Devices:
    """The block devices of a kernel.  Nothing raises for what is in memory."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.system = files.system
        self.kernel = files.kernel
        self._read: dict[tuple[int, int], Device | None] = {}

    @cached_property
    def by_number(self) -> dict[tuple[int, int], Disk]:
        """Those that have been opened at least once: the inodes of the file system that the
        kernel keeps them in (block/bdev.c; before 5.11 fs/block_dev.c)."""
        found: dict[tuple[int, int], Disk] = {}
        try:
            for bdev in self._block_devices():
                disk = self._disk(bdev)
                if disk is not None:
                    found.setdefault(disk.number, disk)
        except (BrokenList, FaultkitError):
            pass
        return found

    def _block_devices(self) -> Iterator[int]:
        kernel = self.kernel
        super_block = kernel.u64(kernel.symbol("blockdev_superblock") or 0)
        inode_at = need(kernel, "bdev_inode", "vfs_inode")
        bdev_at = need(kernel, "bdev_inode", "bdev")
        links = need(kernel, "inode", "i_sb_list")
        head = super_block + need(kernel, "super_block", "s_inodes")
        for inode in entries(kernel, head, links, MOST_DEVICES):
            yield inode - inode_at + bdev_at

    def _disk(self, bdev: int) -> Disk | None:
        """None for one that has never been opened, and so leads nowhere (5.10)."""
        kernel = self.kernel
        try:
            device = unsigned(kernel, bdev, "block_device", "bd_dev")
            disk = pointer(kernel, bdev, "block_device", "bd_disk")
            if not disk:
                return None
            name = text(kernel, disk + need(kernel, "gendisk", "disk_name"), 32)
            partition = self._partition(bdev)
        except FaultkitError:
            return None
        if partition:
            name += f"p{partition}" if name[-1:].isdigit() else str(partition)
        return Disk(name, (device >> 20, device & 0xFFFFF), bdev, disk, partition)

    def _partition(self, bdev: int) -> int:
        """Its number in block_device.bd_partno; in the low byte of __bd_flags since 1116b9fa15c0
        ("bdev: infrastructure for flags", 6.10)."""
        kernel = self.kernel
        at = kernel.offset("block_device", "__bd_flags")
        if at is not None:
            return kernel.read(bdev + at, 1)[0]
        return unsigned(kernel, bdev, "block_device", "bd_partno")

    def device(self, number: tuple[int, int]) -> Device | None:
        """The block device with that number."""
        if number not in self._read:
            disk = self.by_number.get(number)
            self._read[number] = self._describe(disk) if disk is not None else None
        return self._read[number]

    def named(self, name: str) -> Device | None:
        """The block device of that name, or the dm device that has it in the device mapper."""
        wanted = name.rpartition("/")[2]
        for disk in self.by_number.values():
            if wanted in (disk.name, disk.name.replace("!", "/").rpartition("/")[2]):
                return self.device(disk.number)
        for disk in self.by_number.values():
            if disk.name.startswith("dm-") and drivers.mapper_name(self.system, disk.disk) == name:
                return self.device(disk.number)
        return None

    def of_bdev(self, bdev: int) -> Device | None:
        """The device of a struct block_device."""
        disk = self._disk(bdev) if bdev else None
        if disk is None:
            return None
        self.by_number.setdefault(disk.number, disk)
        return self.device(disk.number)

    def _describe(self, disk: Disk) -> Device:
        queue = requests.queue_of(self.system, disk.disk)
        below = drivers.behind(self.system, self.files, disk.disk, disk.name)
        in_flight, damage = self._in_flight(disk, queue)
        troubles = [*below.trouble, *(queue.trouble if queue is not None else ()), *damage]
        return Device(
            disk.name,
            disk.number,
            in_flight,
            None,
            tuple(troubles),
            below.backing_file,
            tuple(other.name for other in map(self.of_bdev, below.devices) if other is not None),
            below.served_by,
            below.name,
            queue.oldest if queue is not None and any(in_flight or ()) else None,
        )

    def _in_flight(
        self, disk: Disk, queue: Queue | None
    ) -> tuple[tuple[int, int] | None, list[str]]:
        """((reads, writes) that it has not completed, what is impossible about them).  With
        blk-mq the requests tell; else the CPUs' counters (block/genhd.c, part_in_flight())."""
        if queue is not None and queue.requests is not None:
            mine = [
                request
                for request in queue.requests
                if not disk.partition or request.part == self._part(disk)
            ]
            writes = sum(1 for request in mine if request.writes)
            return (len(mine) - writes, writes), []
        counters = self._counters(disk)
        if counters is None:
            return None, []
        if all(abs(count) <= MOST_IN_FLIGHT for count in counters):
            # CPUs that count while they are counted may make it a few less than none
            return (max(counters[0], 0), max(counters[1], 0)), []
        shown = " and ".join(map(str, counters))
        return None, [f"its counters of requests in flight are impossible ({shown}): overwritten"]

    def _part(self, disk: Disk) -> int:
        """What a request's `part` is: the block_device, before 5.11 the hd_struct."""
        at = self.kernel.offset("block_device", "bd_part")
        try:
            return self.kernel.u64(disk.bdev + at) if at is not None else disk.bdev
        except FaultkitError:
            return 0

    def _counters(self, disk: Disk) -> tuple[int, int] | None:
        kernel = self.kernel
        try:
            if kernel.offset("block_device", "bd_stats") is not None:
                stats = pointer(kernel, disk.bdev, "block_device", "bd_stats")
            else:
                stats = pointer(kernel, self._part(disk), "hd_struct", "dkstats")
            at = stats + need(kernel, "disk_stats", "in_flight")
            totals = [0, 0]
            for cpu in possible_cpus(self.system):
                for way, word in enumerate(kernel.words(kernel.per_cpu(at, cpu), 2)):
                    totals[way] += signed(word)
        except FaultkitError:
            return None
        return totals[0], totals[1]

    def swapped_to(self) -> list[Device]:
        """The block devices of active swap areas (mm/swapfile.c, swap_info)."""
        kernel = self.kernel
        found = []
        try:
            count = kernel.u32(kernel.symbol("nr_swapfiles") or 0)
            areas = kernel.words(kernel.symbol("swap_info") or 0, min(count, 32))
            for area in filter(None, areas):
                if unsigned(kernel, area, "swap_info_struct", "flags") & SWP_USED:
                    bdev = pointer(kernel, area, "swap_info_struct", "bdev")
                    device = self.of_bdev(bdev)
                    if device is not None:
                        found.append(device)
        except FaultkitError:
            pass
        return found
