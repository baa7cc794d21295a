"""Tasks in D state: guests/dstate, and what `dstate` has to say of them."""

from .model import Expect, Fault, quiet

_CHAIN = (Expect("chain"),)


def _stuck(name: str, *threads: str, kernels: tuple[str, ...] = ()) -> Fault:
    """Something that is stuck, though in no deadlock."""
    return Fault(name, threads, guest=(name,), allowed=_CHAIN, kernels=kernels)


STUCK = (
    _stuck("dm_suspended", "dm-*", "jbd2/dm-*"),
    _stuck("nbd_silent", "nbd-*"),
    _stuck("loop_over_fuse", "loop-*"),
    _stuck("fuse_stopped", "stop-*", "fuse_stopped"),
    _stuck("nfs_gone", "nfs-*"),
    _stuck("vfork_sleeps", "vfork-*"),
    _stuck("frozen_v1", "ice-v1"),
    _stuck("frozen_v2", "ice-v2"),
    _stuck("swap_in", "swap-in"),
    _stuck("memory_limit", "memory-eater", kernels=("5.10", "6.1")),
    quiet("quiet_slow_holder", "slow-*", allowed=(Expect("chain", root="slow-holder"),)),
)

BUSY = (
    quiet("busy", "busy-*", "jbd2/ram*", kernel=False, allowed=_CHAIN),
    quiet("quiet_contention", "contend-*"),
)

WAITERS = (_stuck("waiters", "waiter-*"),)
