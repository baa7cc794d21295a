"""Where tasks sleep for mutexes, rwsems and semaphores: their waiter structs look alike."""

from faultkit.kernel.sleeper import Sleeper

# kernel/locking/{mutex,rwsem,semaphore}.c; whether one is inlined in another differs by compiler.
FUNCTIONS = {
    "mutex": frozenset(
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
    ),
    "rwsem": frozenset(
        (
            "rwsem_down_read_slowpath",
            "rwsem_down_write_slowpath",
            "__down_read",
            "__down_read_common",
            "__down_write",
            "__down_write_common",
        )
    ),
    "semaphore": frozenset(
        (
            "__down",
            "___down_common",
            "__down_common",
            "__down_interruptible",
            "__down_killable",
            "__down_timeout",
        )
    ),
}


def knows_of_waiters(sleeper: Sleeper, lock: int, type_name: str, word: int, flag: int) -> bool:
    """Whether a lock's word has the flag that says that tasks are on its list of waiters, as it
    must when one of them sleeps: it is set and cleared together with the list, by a task that has
    the lock's `wait_lock`.  True also where that may be about to happen."""
    kernel, system = sleeper.kernel, sleeper.system
    if word & flag or kernel.live or system.on_cpu(sleeper.task):
        return True
    wait_lock = kernel.offset(type_name, "wait_lock")
    return wait_lock is None or kernel.u32(lock + wait_lock) != 0


def sleeps_in(sleeper: Sleeper, family: str, surely: bool = False) -> bool:
    """Whether the task sleeps in this family's functions.

    Return addresses of earlier calls may still lie on the stack.  Where these could be another
    family's, and where a fault is to be claimed (`surely`), the unwinder decides.
    """
    functions = sleeper.functions
    present = [name for name, members in FUNCTIONS.items() if not members.isdisjoint(functions)]
    if present == [family] and not surely:
        return True
    if family not in present:
        return False
    called = sleeper.callers
    if any(called):
        return not FUNCTIONS[family].isdisjoint(called)
    if surely:
        return False
    innermost = next(name for name in functions if any(name in of for of in FUNCTIONS.values()))
    return innermost in FUNCTIONS[family]
