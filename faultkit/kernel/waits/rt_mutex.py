"""struct rt_mutex (kernel/locking/rtmutex.c), and what is built of it: mutexes and rwsems of
PREEMPT_RT, and PI futexes where nothing else is known of them."""

from __future__ import annotations

from faultkit.kernel.objects import first_offset, is_kernel_pointer, need, pointer
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import base_name
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
# Those that rt_mutex_handle_deadlock() is inlined in, or itself.
REFUSING = frozenset(
    (
        "rt_mutex_handle_deadlock",
        "rt_mutex_slowlock",
        "__rt_mutex_slowlock",
        "__rt_mutex_slowlock_locked",
    )
)
PRIORITY = 60  # after whoever knows what the rt_mutex is part of

HAS_WAITERS = 1  # kernel/locking/rtmutex_common.h: RT_MUTEX_HAS_WAITERS, the owner's only flag
DEEPEST = 64  # levels of a red-black tree of 2^32 nodes


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait for the rt_mutex in whose tree of waiters the task's waiter is."""
    kernel = sleeper.kernel
    waiter = pointer(kernel, sleeper.task.address or 0, "task_struct", "pi_blocked_on")
    if not waiter:
        return _refused(sleeper)
    if pointer(kernel, waiter, "rt_mutex_waiter", "task") != sleeper.task.address:
        return None
    address = pointer(kernel, waiter, "rt_mutex_waiter", "lock")
    if not _is_queued(sleeper, waiter, address):
        return None
    return _wait_for(sleeper, address, "the task is in its tree of waiters")


def _wait_for(sleeper: Sleeper, address: int, why: str) -> Wait:
    # rt_mutex_base since 830e6acc8a1c ("locking/rtmutex: Split out the inner parts of 'struct
    # rtmutex'", 5.15); it is the first member of an rt_mutex.
    owner_at = first_offset(sleeper.kernel, ("rt_mutex_base", "owner"), ("rt_mutex", "owner"))
    word = sleeper.kernel.u64(address + (owner_at or 0))
    lock = Lock("rt_mutex", address, key=("kernel", address))
    evidence = (f"its owner field is {word:#x}, {why}",)
    owner = word & ~HAS_WAITERS
    if not owner:
        return Wait(sleeper.task, lock, changing=True, evidence=evidence)
    return held_by(sleeper, lock, owner, evidence=evidence)


def _refused(sleeper: Sleeper) -> Wait | None:
    """A task that the kernel lets sleep for ever, no longer in the tree, as it has found that its
    lock's owner waits for the task itself (rt_mutex_handle_deadlock, "rtmutex deadlock detected"
    in the log): by its waiter struct, whose node is cleared."""
    kernel = sleeper.kernel
    node = _node_at(sleeper)
    if node is None or not any(
        base_name(frame.symbol or "") in REFUSING for frame in sleeper.frames[:4]
    ):
        return None
    for waiter in sleeper.waiter_structs("rt_mutex_waiter"):
        address = pointer(kernel, waiter, "rt_mutex_waiter", "lock")
        if kernel.u64(waiter + node) == waiter + node and is_kernel_pointer(address):
            return _wait_for(sleeper, address, "the kernel found that this would be a deadlock")
    return None


def _node_at(sleeper: Sleeper) -> int | None:
    # struct rt_waiter_node since f7853c34241 ("locking/rtmutex: Fix task->pi_waiters integrity",
    # 6.5, and in stable kernels)
    return first_offset(
        sleeper.kernel,
        ("rt_mutex_waiter", "tree.entry"),
        ("rt_mutex_waiter", "tree_entry"),
    )


def _is_queued(sleeper: Sleeper, waiter: int, lock: int) -> bool:
    """Whether the waiter is in the lock's tree: its parents lead to the lock's root."""
    kernel = sleeper.kernel
    node_at = _node_at(sleeper)
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
