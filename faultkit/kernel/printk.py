"""The kernel's log as it lies in memory (kernel/printk/printk_ringbuffer.c, since 5.10)."""

import struct
from collections.abc import Iterator

from faultkit.kernel.objects import need, pointer, unsigned
from faultkit.kernel.target import Kernel
from faultkit.klog.lines import Line
from faultkit.target import FaultkitError

MOST_RECORDS = 1 << 20
LARGEST = 1 << 26  # bytes of the text
STATE_SHIFT = 62  # enum desc_state lies in the highest two bits of prb_desc.state_var
COMMITTED, FINALIZED = 1, 2
ID = (1 << STATE_SHIFT) - 1


def lines(kernel: Kernel) -> list[Line]:
    """The lines of the log, oldest first; [] where it can't be found or read."""
    try:
        return list(_lines(kernel))
    except (FaultkitError, struct.error):
        return []


def _lines(kernel: Kernel) -> Iterator[Line]:
    buffer = kernel.u64(kernel.symbol("prb") or 0)
    ring = buffer + need(kernel, "printk_ringbuffer", "desc_ring")
    count = 1 << min(unsigned(kernel, ring, "prb_desc_ring", "count_bits"), 20)
    data = _text(kernel, buffer)
    descriptors = _array(kernel, pointer(kernel, ring, "prb_desc_ring", "descs"), "prb_desc", count)
    infos = _array(kernel, pointer(kernel, ring, "prb_desc_ring", "infos"), "printk_info", count)
    tail = pointer(kernel, ring, "prb_desc_ring", "tail_id") & ID
    head = pointer(kernel, ring, "prb_desc_ring", "head_id") & ID
    state_at = need(kernel, "prb_desc", "state_var")
    block_at = need(kernel, "prb_desc", "text_blk_lpos")
    length_at, time_at = (
        need(kernel, "printk_info", "text_len"),
        need(kernel, "printk_info", "ts_nsec"),
    )
    for number in range(min((head - tail & ID) + 1, MOST_RECORDS)):
        identity = tail + number & ID
        descriptor, info = descriptors[identity % count], infos[identity % count]
        state = int.from_bytes(descriptor[state_at : state_at + 8], "little")
        if state & ID != identity or state >> STATE_SHIFT not in (COMMITTED, FINALIZED):
            continue
        begin, following = struct.unpack_from("<2Q", descriptor, block_at)
        length = int.from_bytes(info[length_at : length_at + 2], "little")
        seconds = int.from_bytes(info[time_at : time_at + 8], "little") / 1e9
        text = _block(data, begin, following)[:length].decode("utf-8", "replace")
        for line in text.split("\n"):
            yield Line(seconds, line)


def _array(kernel: Kernel, address: int, type_name: str, count: int) -> list[bytes]:
    """The structs of an array."""
    size = kernel.size(type_name) or 0
    if not 0 < size < 1024 or count * size > LARGEST:
        return []
    data = kernel.read(address, size * count)
    return [data[at : at + size] for at in range(0, len(data), size)]


def _text(kernel: Kernel, buffer: int) -> bytes:
    ring = buffer + need(kernel, "printk_ringbuffer", "text_data_ring")
    size = 1 << min(unsigned(kernel, ring, "prb_data_ring", "size_bits"), 26)
    return kernel.read(pointer(kernel, ring, "prb_data_ring", "data"), size)


def _block(data: bytes, begin: int, following: int) -> bytes:
    """What a record's data block holds behind its id; one that would wrap lies at the start.
    Odd positions are those of records without data (FAILED_LPOS, NO_LPOS)."""
    if begin & 1 or not data:
        return b""
    start, end = begin % len(data), following % len(data)
    if begin // len(data) != following // len(data) and end:
        start = 0
    return data[start + 8 : end if end > start else len(data)]
