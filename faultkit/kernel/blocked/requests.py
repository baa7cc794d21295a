"""blk-mq queues: their requests in flight, and what keeps a queue from sending any."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from faultkit.kernel.objects import need, pointer, signed, unsigned
from faultkit.kernel.system import System
from faultkit.kernel.target import Kernel
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MOST_TAGS = 1 << 16
MOST_QUEUES = 4096  # hardware queues of one set
IN_FLIGHT = 1  # enum mq_rq_state
OP_BITS = 8  # of request.cmd_flags; odd operations write (op_is_write(), include/linux/blk_types.h)
MOST_DEPTH = 1 << 16  # of a freeze or quiesce counter


class Request(NamedTuple):
    """A request that the driver has not completed; `seconds` since it was sent, or sent again."""

    address: int
    writes: bool
    part: int
    seconds: float | None


class Queue(NamedTuple):
    """A request queue: its requests in flight, None if it does without requests (device mapper,
    md, RAM disks); `oldest` for how many seconds the oldest is."""

    requests: tuple[Request, ...] | None
    trouble: tuple[str, ...]
    oldest: float | None


def queue_of(system: System, disk: int) -> Queue | None:
    """The queue of a gendisk; None if it can't be read."""
    kernel = system.kernel
    try:
        queue = pointer(kernel, disk, "gendisk", "queue")
        trouble = tuple(_troubles(kernel, queue))
        if not pointer(kernel, queue, "request_queue", "mq_ops"):
            return Queue(None, trouble, None)
        requests = tuple(_requests(system, queue))
    except FaultkitError:
        return None
    ages = [request.seconds for request in requests if request.seconds is not None]
    return Queue(requests, trouble, max(ages) if ages else None)


def _troubles(kernel: Kernel, queue: int) -> Iterator[str]:
    for member, words in (
        ("mq_freeze_depth", "its queue is frozen"),
        ("quiesce_depth", "its queue is quiesced"),
    ):
        if kernel.offset("request_queue", member) is None:
            continue
        depth = signed(unsigned(kernel, queue, "request_queue", member), 32)
        if 0 < depth <= MOST_DEPTH:
            yield words
        elif depth:
            yield f"its {member} is impossible ({depth}): overwritten"


def _requests(system: System, queue: int) -> Iterator[Request]:
    """Those in flight: of all tags of the set, which queues may share (block/blk-mq-tag.c)."""
    kernel = system.kernel
    layout = system.layout("request", "q", "state", "cmd_flags", "part", "deadline", "timeout")
    tag_set = pointer(kernel, queue, "request_queue", "tag_set")
    count = unsigned(kernel, tag_set, "blk_mq_tag_set", "nr_hw_queues")
    array = pointer(kernel, tag_set, "blk_mq_tag_set", "tags")
    default = unsigned(kernel, queue, "request_queue", "rq_timeout")
    seen: set[int] = set()
    for tags in dict.fromkeys(kernel.words(array, min(count, MOST_QUEUES))):
        if not tags:
            continue
        size = unsigned(kernel, tags, "blk_mq_tags", "nr_tags")
        requests = pointer(kernel, tags, "blk_mq_tags", "rqs")
        listed = [word for word in kernel.words(requests, min(size, MOST_TAGS)) if word]
        listed = [word for word in dict.fromkeys(listed) if word not in seen]
        seen.update(listed)
        for address, fields in zip(listed, layout.read_each(listed)):
            if fields is None:
                continue
            of, state, flags, part, deadline, timeout = fields
            if of == queue and state & 0xFFFF_FFFF == IN_FLIGHT:
                began = deadline - ((timeout & 0xFFFF_FFFF) or default)
                writes = bool(flags & ((1 << OP_BITS) - 1) & 1)
                yield Request(address, writes, part, _since(kernel, began))


def _since(kernel: Kernel, began: int) -> float | None:
    """Seconds since the jiffies were `began`."""
    hertz = _hertz(kernel)
    now = kernel.symbol("jiffies_64") or kernel.symbol("jiffies")
    if not hertz or not now:
        return None
    passed = signed((kernel.u64(now) - began) & ((1 << 64) - 1))
    return passed / hertz if 0 <= passed < hertz * 1e9 else None


@lru_cache(maxsize=4)
def _hertz(kernel: Kernel) -> float:
    """Jiffies in a second: clocksource_jiffies counts them (kernel/time/jiffies.c)."""
    clock = kernel.symbol("clocksource_jiffies")
    if not clock:
        return 0.0
    try:
        mult = unsigned(kernel, clock, "clocksource", "mult")
        shift = unsigned(kernel, clock, "clocksource", "shift")
        need(kernel, "clocksource", "mult")
    except FaultkitError:
        return 0.0
    nanoseconds = mult >> shift if shift < 64 else 0
    return round(1e9 / nanoseconds) if nanoseconds else 0.0
