"""Buffers of block devices (fs/buffer.c): waits until one is unlocked."""

from __future__ import annotations

from faultkit.kernel.objects import need, pointer, text, unsigned
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.kernel.waits._bit_wait import entries
from faultkit.model import EVENT, Lock, Wait
from faultkit.target import FaultkitError

OWN = frozenset(("__lock_buffer", "__wait_on_buffer"))
# They end in a jump to these, which others use as well.
FUNCTIONS = OWN | {
    "__wait_on_bit",
    "__wait_on_bit_lock",
    "out_of_line_wait_on_bit",
    "out_of_line_wait_on_bit_lock",
}
PRIORITY = 17


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait for BH_Lock, which is set, of the struct buffer_head whose first word is b_state."""
    kernel = sleeper.kernel
    locked = kernel.enumerator("BH_Lock")
    for struct in entries(sleeper, "wait_bit_queue_entry", "wq_entry", "wake_bit_function"):
        key = struct + need(kernel, "wait_bit_queue_entry", "key")
        bit = unsigned(kernel, key, "wait_bit_key", "bit_nr")
        head = pointer(kernel, key, "wait_bit_key", "flags")
        state = kernel.u64(head)
        if bit == locked and state >> bit & 1 and _is_buffer(sleeper, head):
            return _wait_for(sleeper, head, state)
    return None


def _is_buffer(sleeper: Sleeper, address: int) -> bool:
    """Whether the word is a buffer_head's, by who waits or by the slab cache it is in."""
    if not OWN.isdisjoint(sleeper.functions):
        return True
    slab = sleeper.kernel.slab(address)
    return slab is not None and slab.cache == "buffer_head"


def _wait_for(sleeper: Sleeper, head: int, state: int) -> Wait:
    submitted = sleeper.kernel.enumerator("BH_Req")
    by_device = submitted is not None and bool(state >> submitted & 1)
    return Wait(
        sleeper.task,
        Lock("buffer", head, _name(sleeper.system, head), ("kernel", head)),
        needs=EVENT,
        evidence=(
            f"its state {state:#x}: it is locked"
            + (", and was submitted to its device" if by_device else ""),
        ),
        missing=None
        if by_device
        else "who has locked a buffer is not recorded: look for a task that has it locked",
    )


def _name(system: System, head: int) -> str | None:
    """ "block 4711 of sda"; None if it belongs to no device."""
    kernel = system.kernel
    try:
        device = pointer(kernel, head, "buffer_head", "b_bdev")
        if not device:
            return None
        disk = pointer(kernel, device, "block_device", "bd_disk")
        name = text(kernel, disk + need(kernel, "gendisk", "disk_name"), 32)
        return f"block {pointer(kernel, head, 'buffer_head', 'b_blocknr')} of {name}"
    except FaultkitError:
        return None
