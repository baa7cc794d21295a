"""Futexes (kernel/futex/): by the words in user memory where the dump has them, as for a live
process; else by what the kernel itself knows, which is the owner of a priority-inheriting one."""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.kernel.objects import first_offset, need
from faultkit.kernel.programs import Programs, programs_of
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.waits._owner import held_by
from faultkit.model import HELD, OUTSIDE, Lock, Wait
from faultkit.target import FaultkitError
from faultkit.waits._futex import FUTEX, FUTEX_WAITV

FUNCTIONS = frozenset(
    (
        "futex_wait_queue_me",  # until 5.15
        "futex_wait_queue",
        "futex_do_wait",  # since 6.15
        "futex_wait",
        "__futex_wait",
        "futex_wait_requeue_pi",
        "futex_lock_pi",
        "futex_wait_multiple",
        "do_futex",
    )
)
PRIORITY = 5  # before what the PI ones are made of

PI_MUTEX_FLAGS = 1  # RT_MUTEX_HAS_WAITERS
_NO_WORDS = (
    "the words of some futexes are not in the dump ({}): who holds these locks can't be told; "
    "makedumpfile without {} keeps {}"
)
NO_USER_PAGES = _NO_WORDS.format(
    "user pages were left out, or swapped out", "8 in -d (-d 23)", "user pages"
)
NO_SHARED_MEMORY = _NO_WORDS.format(
    "shared memory, which was left out as page cache", "2, 4 and 8 in -d (-d 17)", "it"
)


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait in futex(2) or futex_waitv(2)."""
    call = sleeper.call
    if call is None or call.orig_rax not in (FUTEX, FUTEX_WAITV):
        return None
    programs = programs_of(sleeper.system)
    wait = programs.look(sleeper)
    if wait is None:
        return None
    address = wait.lock.address
    if wait.lock.kind == "futex" and address is not None and not _has_word(programs, wait, address):
        return _by_kernel(sleeper, wait)
    is_claimed = bool(wait.holders or wait.fault or wait.needs == HELD)
    if is_claimed and _is_woken(sleeper, call.args[0]):
        return wait.but(
            needs=OUTSIDE,
            holders=(),
            fault=None,
            changing=False,
            missing=None,
            candidates=None,
            evidence=("it was woken just now",),
        )
    return wait


def _has_word(programs: Programs, wait: Wait, address: int) -> bool:
    process = programs.process_of(wait.task)
    try:
        return process is not None and bool(process.read(address, 4))
    except FaultkitError:
        return False


def _queues(sleeper: Sleeper, address: int) -> Iterator[tuple[int, int]]:
    """(address, lock_ptr) of what may be the struct futex_q on the task's stack: its `task` is
    this one, its key is that of a futex at `address`.  Earlier calls may have left some, too."""
    layout = sleeper.system.layout("futex_q", "key.both.ptr", "key.both.offset", "lock_ptr")
    for queue in sleeper.waiter_structs("futex_q"):
        try:
            where, offset, lock = layout.read(queue, sleeper.peek)
        except FaultkitError:
            continue
        # the low bits tell how to read the key (include/linux/futex.h, FUT_OFF_INODE)
        if where and offset & ~3 == address & 0xFFC:
            yield queue, lock


def _is_woken(sleeper: Sleeper, address: int) -> bool:
    """Whether somebody has taken it off its queue (kernel/futex/, __futex_wake_mark)."""
    try:
        locks = [lock for _, lock in _queues(sleeper, address)]
    except FaultkitError:
        return False
    return bool(locks) and not any(locks)


def _by_kernel(sleeper: Sleeper, wait: Wait) -> Wait:
    """The wait without the futex's word: the kernel records who owns a PI futex."""
    kernel = sleeper.kernel
    try:
        state_at = need(kernel, "futex_q", "pi_state")
        for queue, lock_ptr in _queues(sleeper, wait.lock.address or 0):
            state = kernel.u64(queue + state_at) if lock_ptr else 0
            if not state:
                continue
            owner = kernel.u64(state + need(kernel, "futex_pi_state", "owner"))
            mutex_at = need(kernel, "futex_pi_state", "pi_mutex")
            owner_at = first_offset(kernel, ("rt_mutex_base", "owner"), ("rt_mutex", "owner"))
            mutex_owner = kernel.u64(state + mutex_at + (owner_at or 0)) & ~PI_MUTEX_FLAGS
            if owner and owner == mutex_owner:
                lock = Lock("pthread_mutex", wait.lock.address, key=wait.lock.key)
                evidence = ("priority-inheriting futex: the kernel's futex_pi_state has its owner",)
                return held_by(
                    sleeper, lock, owner, timed=wait.timed, evidence=evidence, inherits=True
                )
    except FaultkitError:
        pass
    key = wait.lock.key
    is_shared = key is not None and key[0] == "shared"
    return wait.but(missing=NO_SHARED_MEMORY if is_shared else NO_USER_PAGES)
