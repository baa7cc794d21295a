"""Locks that record no holder, taken in objects, through helpers and by interrupts:
module/infer.c."""

from .model import Expect, Fault, cycle, quiet

SLEEPING = (
    Fault(
        "reader_helped",
        ("rh-*",),
        (cycle(("rh-reader", "rh-writer"), "kmutex", "rwsem", confidence="inferred"),),
        kernel=("reader_helped",),
    ),
    quiet("reader_calm", "rc-*"),
    quiet("reader_past", "rp-*"),
    Fault(
        "semaphore_objects",
        ("sl-*",),
        (
            cycle(
                ("sl-taker", "sl-wanter"),
                "kmutex",
                "semaphore",
                victims=("sl-later",),
                confidence="inferred",
            ),
        ),
        kernel=("semaphore_objects",),
        notes="sl-later would give the semaphore back, too, but only after it has taken it",
    ),
    Fault(
        "completion_helped",
        ("ch-*",),
        (cycle(("ch-waits", "ch-ends"), "completion", "kmutex", confidence="inferred"),),
        kernel=("completion_helped",),
    ),
    Fault(
        "percpu_objects",
        ("po-*",),
        (cycle(("po-reader", "po-writer"), "kmutex", "percpu_rwsem", confidence="inferred"),),
        kernel=("percpu_objects",),
    ),
)

SPINNING = (
    Fault(
        "spin_objects",
        ("so-*",),
        (Expect("cycle", ("so-a", "so-b"), ("spinlock", "spinlock"), confidence="inferred"),),
        kernel=("spin_objects",),
    ),
    Fault(
        "rwlock_cross",
        ("rl-*",),
        (
            Expect(
                "cycle", ("rl-reader", "rl-writer"), ("spinlock", "rwlock_t"), confidence="inferred"
            ),
        ),
        kernel=("rwlock_cross",),
    ),
)

INTERRUPTED = (
    Fault(
        "spin_irq",
        ("irq-holder",),
        (Expect("self-deadlock", ("irq-holder",), ("spinlock",), confidence="inferred"),),
        kernel=("spin_irq",),
        notes="a timer's handler spins for what the code that it came upon holds",
    ),
)

HOT = (quiet("spin_hot", "hot-*"),)
