"""Task states: which tasks wait at all, and which are only idle."""

# include/linux/sched.h; the low bits have not moved since 4.14 (8ef9925b02c2, "sched/debug: Add
# explicit TASK_PARKED printing"), TASK_RTLOCK_WAIT, TASK_FREEZABLE and TASK_FROZEN came later.
INTERRUPTIBLE, UNINTERRUPTIBLE, STOPPED, TRACED = 1, 2, 4, 8
DEAD, ZOMBIE, PARKED = 0x10, 0x20, 0x40
WAKING, NOLOAD, NEW, RTLOCK_WAIT = 0x200, 0x400, 0x800, 0x1000
FROZEN = 0x8000

# include/linux/sched.h, PF_*
PF_KTHREAD, PF_WQ_WORKER, PF_EXITING = 0x00200000, 0x20, 0x4


def letter(state: int, exit_state: int = 0) -> str:
    """The letter that `ps` shows (fs/proc/array.c, get_task_state): I for idle kernel threads,
    which sleep uninterruptibly without being hung."""
    for bit, shown in ((ZOMBIE, "Z"), (DEAD, "X")):
        if exit_state & bit:
            return shown
    if is_idle(state):
        return "I"
    for bits, shown in (
        (UNINTERRUPTIBLE | RTLOCK_WAIT | FROZEN, "D"),
        (INTERRUPTIBLE, "S"),
        (STOPPED, "T"),
        (TRACED, "t"),
        (DEAD, "X"),
        (ZOMBIE, "Z"),
        (PARKED, "P"),
        (WAKING | NEW, "R"),
    ):
        if state & bits:
            return shown
    return "R" if state == 0 else "?"


def is_idle(state: int) -> bool:
    """Whether a task in this state sleeps as one that has nothing to do (TASK_IDLE)."""
    return bool(state & NOLOAD and state & UNINTERRUPTIBLE)


def may_wait(state: int) -> bool:
    """Whether a task in this state may wait for a lock or an event: it sleeps, and not idly."""
    return not is_idle(state) and bool(state & (INTERRUPTIBLE | UNINTERRUPTIBLE | RTLOCK_WAIT))
