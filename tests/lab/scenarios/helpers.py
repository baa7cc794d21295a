"""Locks given back and completed by helpers of helpers, a rwlock_t read again behind a writer, and
a program's lock on a stack: guests/helpers.  Neighbours in a slab, and a spinlock that is slept
with: guests/slabs."""

from .model import Expect, Fault, cycle

# A timer or an interrupt ends their waits, besides who waits for them.  Those of dt-nap and dt-each
# a task ends that only sleeps for a time: not even a chain.
NOT_STUCK = (
    *("dt-timer-waits", "dt-else-waits", "dt-up-waits", "dt-precise-wait", "dt-later-waits"),
    *("dt-irq-waits", "dt-hook-waits", "dt-work-waits", "dt-klater-waits"),
)

QUIETLY = (
    Fault(
        "helpers",
        ("hp-*", "hr-*", "he-*", "os-self", "dt-*", "dc-*", "dw-*", "dk-*", "ds-*"),
        (
            cycle(("hr-past", "hr-wants"), "kmutex", "rwsem", confidence="inferred"),
            cycle(("he-past", "he-wants"), "kmutex", "completion", confidence="inferred"),
            cycle(("dc-ends", "dc-waits"), "kmutex", "completion", confidence="inferred"),
            cycle(("kworker", "dw-waits"), "kmutex", "completion", confidence="inferred"),
            cycle(("dk-worker", "dk-waits"), "kmutex", "completion", confidence="inferred"),
            Expect("self-deadlock", ("ds-worker",), ("completion",), 0, confidence="inferred"),
            *(Expect("chain", root=name) for name in NOT_STUCK),
            Expect("self-deadlock", ("os-self",), ("kmutex",), 0, confidence="proven"),
        ),
        guest=("helpers",),
        notes="whoever took a lock and gave it back (hp-*-past) keeps nobody waiting",
    ),
    Fault(
        "stack_mutex",
        ("lm-*",),
        (cycle(("lm-lender", "lm-borrower"), "pthread_mutex", "pthread_mutex"),),
        guest=("stack_mutex",),
    ),
)

READ_AGAIN = (
    Fault(
        "read_again",
        ("ra-*",),
        (Expect("cycle", ("ra-reader", "ra-writer"), ("rwlock_t", "rwlock_t")),),
        guest=("read_again",),
    ),
)

SLABS = (
    Fault(
        "slabs",
        ("sn-*", "sb-*", "so-*", "sp-*", "sh-*", "se-*", "nap-*")
        + ("sa-*", "sk-*", "sx-*", "st-*", "sc-*", "si-*"),
        (
            cycle(("sn-ends", "sn-waits"), "kmutex", "completion", confidence="inferred"),
            Expect("chain", root="se-waits", victims=1),
        ),
        guest=("slabs",),
        allowed=(Expect("chain", root="si-waits", victims=1),),
        notes="who rests beside a request (sb) can't end it, who does so in it (so-rests) may, "
        "as may who looks through a list, a table or a tree from time to time (sp, sh, sa, sk, sx, "
        "st, sc: not even a chain), or who does so when it is woken (si)",
    ),
)
