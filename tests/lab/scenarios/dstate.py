"""Tasks in D state: guests/dstate, and what `dstate` has to say of them."""

from .model import Expect, Fault, Stuck, quiet

_CHAIN = (Expect("chain"),)
_V1 = ("5.10", "6.1")  # kernels with the memory controller of v1


def _fault(
    name: str, threads: tuple[str, ...], *stuck: Stuck, kernels: tuple[str, ...] = ()
) -> Fault:
    """Something that is stuck, though in no deadlock."""
    return Fault(
        name, threads, guest=(name,), allowed=_CHAIN, kernels=kernels, stuck=stuck
    )


STUCK = (
    _fault(
        "dm_suspended",
        ("dm-*", "jbd2/dm-*"),
        Stuck(
            "block-io",
            ("dm-reader", "dm-writer", "dm-raw"),
            ("device dm-* lab-disk, suspended, * deferred",),
            calls="/dev/lab-disk",
        ),
    ),
    _fault(
        "dm_frozen",
        ("ice-writer",),
        Stuck(
            "frozen-fs",
            ("ice-writer",),
            ("file-system /ice ext4", "device dm-* lab-ice, suspended"),
            calls="mkdir /ice/new",
        ),
    ),
    _fault(
        "nbd_silent",
        ("nbd-*",),
        Stuck(
            "block-io",
            ("nbd-reader",),
            ("device nbd0 1 read and 0 writes in flight, the oldest sent ", "server nbd-server"),
            words="/dev/nbd0",
        ),
    ),
    _fault(
        "scsi_silent",
        ("scsi-*",),
        Stuck(
            "block-io",
            ("scsi-reader",),
            ("device sda 1 read and 0 writes in flight, the oldest sent ",),
            calls="pread64 /dev/sda",
        ),
    ),
    _fault(
        "loop_over_fuse",
        ("loop-*",),
        Stuck(
            "block-io",
            ("loop-reader",),
            (
                "device loop3 1 read and 0 writes in flight",
                "file /image/image backs loop3",
                "file-system /image fuse.lab",
                "server loop-server sleeping in * 1 request without answer",
            ),
            calls="pread64 /dev/loop3",
        ),
    ),
    _fault(
        "fuse_stopped",
        ("stop-*", "fuse_stopped"),
        Stuck(
            "fuse",
            ("stop-client",),
            ("file-system /stopped fuse.lab", "server fuse_stopped stopped by a signal"),
            calls="/stopped/file",
        ),
    ),
    _fault(
        "nfs_gone",
        ("nfs-*",),
        Stuck(
            "nfs",
            ("nfs-client",),
            (
                "file-system /nfs nfs from 127.0.0.1:/lab",
                "server 127.0.0.1 NFS server, connected, call LOOKUP xid 0x* sent * queued on xprt",
            ),
            calls="/nfs/data",
        ),
    ),
    _fault(
        "vfork_sleeps",
        ("vfork-*",),
        Stuck("vfork", ("vfork-parent",), ("task vfork-child its child, sleeping",)),
    ),
    _fault(
        "userfault",
        ("uffd-*", "userfault"),
        Stuck("userfaultfd", ("uffd-faulter",), ("task userfault has a userfaultfd open",)),
    ),
    _fault("frozen_v1", ("ice-v1",), Stuck("freezer", ("ice-v1",), ("cgroup /box frozen (v1",))),
    _fault("frozen_v2", ("ice-v2",), Stuck("freezer", ("ice-v2",), ("cgroup /pod frozen (v2",))),
    _fault(
        "swap_in",
        ("swap-in",),
        Stuck("swap", ("swap-in",), ("device dm-* lab-swap, suspended, * deferred",)),
        kernels=("5.10", "6.1", "6.12"),  # 7.x keeps what was swapped out in memory, too
    ),
    _fault(
        "memory_limit",
        ("memory-eater",),
        Stuck(
            "memory-limit", ("memory-eater",), ("cgroup /small uses * of 4194304 bytes",)
        ),
        kernels=_V1,
    ),
    Fault(
        "quiet_slow_holder",
        ("slow-*",),
        allowed=(Expect("chain", root="slow-holder"),),
        kernel=("quiet_slow_holder",),
        stuck=(
            Stuck("sleep", ("slow-holder",)),
            Stuck("mutex", ("slow-waiter",), ("task slow-holder",), words="lab_slow"),
        ),
    ),
)

# Of these nothing may be reported.
BUSY = (
    quiet("busy", "busy-*", "jbd2/ram*", kernel=False, allowed=_CHAIN),
    quiet("quiet_contention", "contend-*"),
)

WAITERS = (
    Fault("waiters", ("waiter-*",), guest=("waiters:150",), allowed=_CHAIN),
    Fault(
        "mutex_victims",
        ("vx-*", "vic-*"),
        (Expect("cycle", ("vx-a", "vx-b"), ("kmutex", "kmutex"), 48, confidence="proven"),),
        kernel=("mutex_victims",),
    ),
)
