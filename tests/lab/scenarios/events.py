"""Waits for somebody's deed, beyond sleeping.WORK: module/events.c, guest/events.c."""

from .model import Expect, Fault, Stuck, cycle, pair, quiet

KERNEL = (
    pair("kthread_park_mutex", "kp", "kthread_park", "kmutex"),
    Fault(
        "kthread_work",
        ("kw-*",),
        (cycle(("kw-a", "kw-worker"), "kthread_work", "kmutex", confidence="proven"),),
        kernel=("kthread_work",),
    ),
    Fault(
        "held_back",
        ("hb-a",),
        (cycle(("hb-a", "kworker"), "work", "kmutex", confidence="proven"),),
        kernel=("held_back",),
        notes="the item does not run, as too many of its queue do",
    ),
    Fault(
        "two_flushers",
        ("tf-*",),
        (
            cycle(
                ("tf-first", "kworker", "tf-second"),
                *("workqueue", "kmutex", "workqueue"),
                confidence="proven",
            ),
        ),
        kernel=("two_flushers",),
    ),
    Fault(
        "usermode_helper",
        ("um-*",),
        allowed=(Expect("chain"),),
        kernel=("usermode_helper",),
        notes="the program that is waited for sleeps for a time",
    ),
)

GUEST = (
    pair("mmap_lock", "ml", "kmutex", "rwsem", kernel=False),
    Fault(
        "vfork_flock",
        ("vf-*",),
        (cycle(("vf-parent", "vf-child"), "vfork", "flock"),),
        guest=("vfork_flock",),
        stuck=(Stuck("vfork", ("vf-parent",), ("task vf-child its child", "task vf-parent")),),
    ),
    Fault(
        "core_dump",
        ("cd-*",),
        (cycle(("cd-holder", "cd-dumper", "cd-stuck"), "flock", "coredump", "kmutex"),),
        allowed=(Expect("chain"),),
        guest=("core_dump",),
        unsure=True,
        notes="which thread has the file locked is not recorded",
    ),
)

ALL = (*KERNEL, *GUEST)

# A CPU that never schedules holds up the grace period; nobody can tell that it never will.
GRACE = (
    Fault(
        "grace_period",
        ("gp-*",),
        allowed=(Expect("chain"),),
        kernel=("grace_period",),
        stuck=(
            Stuck("rcu", ("gp-waiter",), ("task gp-spinner running",)),
            Stuck("mutex", ("gp-victim",), ("task gp-waiter", "task gp-spinner running")),
        ),
    ),
)

# Locks of all kinds change hands all the time; a chain may stand for a moment.
STORM = (quiet("quiet_storm", "storm-*", "kworker", allowed=(Expect("chain"),)),)
