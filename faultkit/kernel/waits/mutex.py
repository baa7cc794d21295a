"""struct mutex (kernel/locking/mutex.c), and the mutex inside of a ww_mutex."""

from typing import Optional

from faultkit.kernel.objects import need, pointer, ring
from faultkit.kernel.sleeper import Sleeper, list_head_of
from faultkit.kernel.waits._owner import held_by
from faultkit.model import Lock, Wait
from faultkit.target import FaultkitError

FUNCTIONS = frozenset(
    (
        "__mutex_lock",
        "__mutex_lock_common",
        "__mutex_lock_slowpath",
        "__mutex_lock_interruptible_slowpath",
        "__mutex_lock_killable_slowpath",
        "__ww_mutex_lock",
        "__ww_mutex_lock_slowpath",
        "__ww_mutex_lock_interruptible_slowpath",
    )
)
PRIORITY = 10

# include/linux/mutex.h: MUTEX_FLAG_WAITERS, _HANDOFF, _PICKUP in the low bits of the owner
FLAGS = 7


def recognise(sleeper: Sleeper) -> Optional[Wait]:
    """A wait for a mutex on whose list of waiters the task is."""
    for waiter in sleeper.waiter_structs("mutex_waiter"):
        address = _mutex_of(sleeper, waiter)
        if address is not None:
            return wait_for(sleeper, address, _is_ww(sleeper, waiter))
    return None


def wait_for(sleeper: Sleeper, address: int, is_ww: bool = False) -> Wait:
    """The wait for the mutex at `address`.  Raises ReadError, UnknownLayout."""
    word = pointer(sleeper.kernel, address, "mutex", "owner")
    lock = Lock("ww_mutex" if is_ww else "kmutex", address, key=("kernel", address))
    owner = word & ~FLAGS
    if not owner:
        return Wait(
            sleeper.task,
            lock,
            changing=True,
            evidence=("its owner field names nobody: it is being handed on",),
        )
    return held_by(
        sleeper,
        lock,
        owner,
        evidence=(f"its owner field is {word:#x}, the task is on its list of waiters",),
    )


def _mutex_of(sleeper: Sleeper, waiter: int) -> Optional[int]:
    """The mutex whose waiter this is; None if it is none."""
    kernel = sleeper.kernel
    list_at = kernel.offset("mutex", "wait_list")
    if list_at is not None:
        head = list_head_of(sleeper, waiter, "mutex_waiter", "list")
        return None if head is None else head - list_at
    # Newer kernels keep the first waiter only, the ring has no head: the mutex is what the
    # stack points to whose first waiter is in that ring.
    first_at = need(kernel, "mutex", "first_waiter")
    return _by_first_waiter(sleeper, waiter, first_at)


def _by_first_waiter(sleeper: Sleeper, waiter: int, first_at: int) -> Optional[int]:
    kernel = sleeper.kernel
    links = need(kernel, "mutex_waiter", "list")
    known: dict[int, int] = sleeper.system.cache.setdefault("mutexes by waiter", {})
    if waiter in known:
        return known[waiter]
    members = {waiter, *(node - links for node in ring(kernel, waiter + links))}
    for candidate in sleeper.pointers():
        try:
            if kernel.u64(candidate + first_at) in members:
                known.update(dict.fromkeys(members, candidate))
                return candidate
        except FaultkitError:
            continue
    return None


def _is_ww(sleeper: Sleeper, waiter: int) -> bool:
    """Whether it waits with a ww_acquire_ctx, which is the one of this task.  Plain mutexes leave
    the member as it was, or poison it."""
    offset = sleeper.kernel.offset("mutex_waiter", "ww_ctx")
    task_at = sleeper.kernel.offset("ww_acquire_ctx", "task")
    if offset is None or task_at is None:
        return False
    try:
        context = sleeper.kernel.u64(waiter + offset)
        return sleeper.kernel.u64(context + task_at) == sleeper.task.address
    except FaultkitError:
        return False
