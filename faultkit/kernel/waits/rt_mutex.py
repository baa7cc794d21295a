"""struct rt_mutex (kernel/locking/rtmutex.c), and what is built of it: mutexes and rwsems of
PREEMPT_RT, and PI futexes where nothing else is known of them."""

from typing import Optional

from faultkit.kernel.objects import first_offset, need, pointer
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.waits._owner import held_by
from faultkit.model import Lock, Wait

FUNCTIONS = frozenset(
    (
        "rt_mutex_slowlock",
        "__rt_mutex_slowlock",
        "__rt_mutex_slowlock_locked",
        "rt_mutex_slowlock_block",
        "rt_mutex_wait_proxy_lock",
        "rtlock_slowlock",
        "rtlock_slowlock_locked",
        "__rwbase_read_lock",
        "rwbase_write_lock",
    )
)
PRIORITY = 60  # after whoever knows what the rt_mutex is part of

HAS_WAITERS = 1  # kernel/locking/rtmutex_common.h: RT_MUTEX_HAS_WAITERS, the owner's only flag
DEEPEST = 64  # levels of a red-black tree of 2^32 nodes


def recognise(sleeper: Sleeper) -> Optional[Wait]:
    """A wait for the rt_mutex in whose tree of waiters the task's waiter is."""
    kernel = sleeper.kernel
    waiter = pointer(kernel, sleeper.task.address or 0, "task_struct", "pi_blocked_on")
    if not waiter:
        return None
    if pointer(kernel, waiter, "rt_mutex_waiter", "task") != sleeper.task.address:
        return None
    address = pointer(kernel, waiter, "rt_mutex_waiter", "lock")
    if not _is_queued(sleeper, waiter, address):
        return None
    # rt_mutex_base since 830e6acc8a1c ("locking/rtmutex: Split out the inner parts of 'struct
    # rtmutex'", 5.15); it is the first member of an rt_mutex.
    owner_at = first_offset(kernel, ("rt_mutex_base", "owner"), ("rt_mutex", "owner"))
    word = kernel.u64(address + (owner_at or 0))
    lock = Lock("rt_mutex", address, key=("kernel", address))
    evidence = (f"its owner field is {word:#x}, the task is in its tree of waiters",)
    owner = word & ~HAS_WAITERS
    if not owner:
        return Wait(sleeper.task, lock, changing=True, evidence=evidence)
    return held_by(sleeper, lock, owner, evidence=evidence)


def _is_queued(sleeper: Sleeper, waiter: int, lock: int) -> bool:
    """Whether the waiter is in the lock's tree: its parents lead to the lock's root."""
    kernel = sleeper.kernel
    # struct rt_waiter_node since f7853c34241 ("locking/rtmutex: Fix task->pi_waiters integrity",
    # 6.5, and in stable kernels)
    node_at = first_offset(
        kernel,
        ("rt_mutex_waiter", "tree.entry"),
        ("rt_mutex_waiter", "tree_entry"),
    )
    root_at = first_offset(
        kernel,
        ("rt_mutex_base", "waiters.rb_root.rb_node"),
        ("rt_mutex", "waiters.rb_root.rb_node"),
    )
    if node_at is None or root_at is None:
        return False
    parent_at = need(kernel, "rb_node", "__rb_parent_color")
    node = waiter + node_at
    for _ in range(DEEPEST):
        parent = kernel.u64(node + parent_at) & ~3  # the low bit is the node's colour
        if not parent:
            return kernel.u64(lock + root_at) == node
        node = parent
    return False
