"""Locks given back and completed by helpers of helpers, a rwlock_t read again behind a writer, and
a program's lock on a stack: guests/helpers."""

from .model import Expect, Fault, cycle

QUIETLY = (
    Fault(
        "helpers",
        ("hp-*", "hr-*", "he-*", "os-self"),
        (
            cycle(("hr-past", "hr-wants"), "kmutex", "rwsem", confidence="inferred"),
            cycle(("he-past", "he-wants"), "kmutex", "completion", confidence="inferred"),
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
