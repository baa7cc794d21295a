"""Spinlocks: module/spin.c."""

from .model import Expect, Fault, cycle, pair

CROSSED = (
    pair("spin_abba_irqs_off", "sh", "spinlock", confidence=""),
    pair("spin_abba", "ss", "spinlock", confidence=""),
)

OTHERS = (
    Fault(
        "spin_self",
        ("spin-self",),
        (Expect("self-deadlock", ("spin-self",), ("spinlock",), 0),),
        kernel=("spin_self",),
    ),
    Fault(
        "spin_busy",
        ("busy-*",),
        allowed=(Expect("chain", root="busy-owner"),),
        kernel=("spin_busy",),
        notes="its owner merely runs",
    ),
    Fault(
        "spin_slept",
        ("slept-*",),
        (cycle(("slept-owner", "slept-spinner"), "kmutex", "spinlock"),),
        kernel=("spin_slept",),
        notes="the owner sleeps with the spinlock, on the spinner's mutex",
    ),
)

QUEUED = (
    Fault(
        "spin_queued",
        ("sq-*",),
        (cycle(("sq-owner", "sq-0"), "spinlock", "spinlock", victims=2),),
        kernel=("spin_queued",),
        notes="three CPUs in the queue, of which sq-0 has the other lock",
    ),
)
