"""Kernel locks whose waiters sleep: module/mutex.c, rwsem.c, locks.c, work.c, pages.c, quiet.c."""

from .model import Expect, Fault, Stuck, cycle, pair, quiet

MUTEX = (
    pair("mutex_abba", "mx", "kmutex"),
    Fault(
        "mutex_ring",
        ("ring-*",),
        (cycle([f"ring-{i}" for i in range(5)], *["kmutex"] * 5, confidence="proven"),),
        kernel=("mutex_ring",),
    ),
    Fault(
        "mutex_self",
        ("self",),
        (Expect("self-deadlock", ("self",), ("kmutex",), 0, confidence="proven"),),
        kernel=("mutex_self",),
    ),
    Fault(
        "mutex_victims",
        ("vx-*", "vic-*"),
        (cycle(("vx-a", "vx-b"), "kmutex", "kmutex", victims=20, confidence="proven"),),
        kernel=("mutex_victims",),
    ),
    pair("mutex_interruptible", "mi", "kmutex"),
    pair("mutex_killable", "mk", "kmutex"),
    pair("mutex_heap", "heap", "kmutex"),
    Fault(
        "mutex_orphan",
        ("orphan-*",),
        (Expect("orphaned-lock", ("orphan-waiter",), ("kmutex",)),),
        kernel=("mutex_orphan",),
        stuck=(Stuck("orphaned-lock", ("orphan-waiter",), words="lab_orphan"),),
    ),
    Fault(
        "mutex_reused",
        ("reused-*",),
        (Expect("orphaned-lock|corrupt-lock", ("reused-waiter",), ("kmutex",)),),
        kernel=("mutex_reused",),
        notes="the owner's task_struct is a younger task's, which must not be accused",
    ),
    Fault(
        "mutex_garbage",
        ("garbage-*",),
        (Expect("corrupt-lock", ("garbage-waiter",), ("kmutex",)),),
        kernel=("mutex_garbage",),
        stuck=(Stuck("corrupt-lock", ("garbage-waiter",), words="impossible"),),
    ),
    Fault(
        "mutex_freed",
        ("freed-*",),
        (Expect("corrupt-lock|orphaned-lock", ("freed-waiter",), ("kmutex",)),),
        kernel=("mutex_freed",),
    ),
)

RWSEM = (
    pair("rwsem_writers", "rw", "rwsem"),
    pair("rwsem_reader", "rm", "kmutex", "rwsem", confidence="inferred"),
    pair("rwsem_writer", "wm", "kmutex", "rwsem"),
    pair("rwsem_killable", "rk", "rwsem"),
    Fault(
        "rwsem_queued_writer",
        ("rq-*",),
        (
            Expect(
                "cycle",
                ("rq-reader", "rq-late"),
                ("kmutex", "rwsem"),
                1,
                otherwise=Expect("cycle", ("rq-reader", "rq-late", "rq-writer"), victims=0),
            ),
        ),
        kernel=("rwsem_queued_writer",),
        notes="rq-late could read if rq-writer did not queue before it",
    ),
    Fault(
        "rwsem_read_twice",
        ("again-*",),
        (
            Expect(
                "cycle|self-deadlock",
                otherwise=Expect("cycle", ("again-reader", "again-writer"), ("rwsem", "rwsem")),
            ),
        ),
        kernel=("rwsem_read_twice",),
        notes="again-reader waits behind again-writer, which waits for it",
    ),
    Fault(
        "rwsem_readers",
        ("rr-*",),
        (cycle(("rr-3", "rr-w"), "kmutex", "rwsem", confidence="inferred"),),
        kernel=("rwsem_readers",),
        notes="four readers, one of which is blocked",
    ),
    pair("percpu_writer", "pw", "kmutex", "percpu_rwsem", confidence=""),
    pair("percpu_reader", "pr", "kmutex", "percpu_rwsem", confidence="inferred"),
)

LOCKS = (
    pair("semaphore_mutex", "sm", "kmutex", "semaphore", confidence=""),
    pair("semaphore_abba", "se", "semaphore", confidence=""),
    pair("rt_mutex_abba", "rt", "rt_mutex"),
    pair("rt_mutex_detected", "rd", "rt_mutex"),
    pair("rt_mutex_mutex", "rx", "kmutex", "rt_mutex"),
    pair("ww_mutex_abba", "ww", "ww_mutex"),
    pair("ww_mutex_context", "wc", "kmutex", "ww_mutex"),
)


def _flush(name: str, prefix: str, kind: str) -> Fault:
    members = (f"{prefix}-a", "kworker")
    stuck = Stuck("flush-work", members[:1], ("task kworker/* blocked", f"task {prefix}-a"))
    return Fault(
        name,
        (f"{prefix}-a",),
        (cycle(members, kind, "kmutex"),),
        kernel=(name,),
        stuck=(stuck,),
    )


WORK = (
    pair("completion_mutex", "co", "completion", "kmutex", confidence="inferred"),
    pair("kthread_stop_mutex", "ks", "", "kmutex"),
    _flush("flush_work", "fw", "work"),
    _flush("cancel_work", "cw", ""),
    _flush("flush_queue", "fq", "workqueue"),
    _flush("drain_queue", "dq", "workqueue"),
    Fault(
        "flush_ordered",
        ("kworker",),
        allowed=(Expect("self-deadlock|cycle", ("kworker",)),),
        kernel=("flush_ordered",),
        notes="an item flushes one that its own ordered queue runs after it",
    ),
)

PAGES = (
    Fault(
        "folio_lock",
        ("folio-*",),
        allowed=(Expect("chain"), Expect("orphaned-lock")),
        kernel=("folio_lock",),
        notes="nobody holds it that could be named",
    ),
    Fault(
        "buffer_lock",
        ("buffer-*",),
        allowed=(Expect("chain"), Expect("orphaned-lock")),
        kernel=("buffer_lock",),
        notes="nobody holds it that could be named",
    ),
    Fault(
        "folio_mutex",
        ("pm-*",),
        (Expect("cycle", ("pm-a", "pm-b"), ("kmutex", "folio"), 0, confidence="inferred"),),
        kernel=("folio_mutex",),
        allowed=(Expect("chain", root="pm-b"),),
        unsure=True,
        notes="its holder is not recorded: found only if the code is read",
    ),
)

QUIET = (
    quiet("quiet_contention", "contend-*"),
    quiet("quiet_slow_holder", "slow-*", allowed=(Expect("chain", root="slow-holder"),)),
    quiet("quiet_services", "svc-*"),
)

ALL = (*MUTEX, *RWSEM, *LOCKS, *WORK, *PAGES, *QUIET)
