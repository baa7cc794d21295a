"""Everything else that glibc makes threads wait for: tests/programs/sync.c."""

from .model import Expect, Scenario


def _scene(name, finding, **more):
    return Scenario(f"sync-{name}", "sync.c", (name,), "found", (finding,), **more)


_ONCE = Expect(
    "cycle", ("a", "b"), ("once", "once"), 0, confidence="inferred", names=("locale", "config")
)


def _or_chain(cycle):
    """A cycle whose inferred edge may be left open: then b queues behind a."""
    chain = Expect("chain", ("b",), root="a")
    return Expect(cycle.type, cycle.members, cycle.kinds, cycle.victims, otherwise=chain)


SCENARIOS = (
    _scene(
        "join-ring",
        Expect("cycle", ("j0", "j1", "j2"), ("join",) * 3, 0, confidence="proven"),
        notes="two that join each other are told EDEADLK",
    ),
    _scene(
        "join-mutex",
        Expect(
            "cycle",
            ("main", "worker"),
            ("join", "pthread_mutex"),
            0,
            confidence="proven",
            names=(None, "accounts"),
        ),
    ),
    _scene(
        "join-state",
        Expect(
            "cycle",
            ("main", "worker"),
            ("join", "pthread_mutex"),
            0,
            confidence="proven",
            names=(None, "accounts"),
        ),
        notes="glibc after 2.42 waits for another word of the struct pthread than its tid",
    ),
    _scene("barrier", _or_chain(Expect("cycle", ("a", "b"), ("barrier", "pthread_mutex"), 0))),
    Scenario(
        "sync-barrier-short",
        "sync.c",
        ("barrier-short",),
        "inconclusive",
        notes="nobody is left to arrive; main joins one who waits",
    ),
    _scene("once", _ONCE),
    _scene("once-abreast", _ONCE),
    _scene(
        "once-self",
        Expect("self-deadlock", ("a",), ("once",), 0, confidence="inferred", names=("itself",)),
    ),
    _scene(
        "semaphores",
        Expect(
            "cycle",
            ("a", "b"),
            ("semaphore", "semaphore"),
            0,
            confidence="inferred",
            names=("right", "left"),
        ),
        notes="a semaphore records no holder",
    ),
    _scene(
        "semaphore-self",
        Expect("self-deadlock", ("a",), ("semaphore",), 0, confidence="inferred"),
    ),
    _scene(
        "permits-used-up",
        Expect("self-deadlock", (), ("semaphore",), 1, confidence="inferred"),
        notes="each needs what the other or itself has",
    ),
    Scenario(
        "sync-permit-elsewhere",
        "sync.c",
        ("permit-elsewhere",),
        "inconclusive|not-found",
        notes="who else has one can't be told, and will post it",
    ),
    Scenario(
        "sync-posts-by-pointer",
        "sync.c",
        ("posts-by-pointer",),
        "inconclusive|not-found",
        notes="one who sleeps posts it, by a tail call through a pointer in optimised builds",
    ),
    Scenario(
        "sync-posts-further-down",
        "sync.c",
        ("posts-further-down",),
        "inconclusive|not-found",
        notes="as before, in a function that it calls",
    ),
    _scene(
        "timed-semaphores",
        Expect("cycle", ("a", "b"), ("semaphore",) * 2, 0, confidence="inferred"),
        notes="both would post what they took: locks, that count as held while they are waited for",
    ),
    _scene(
        "nested-monitor",
        _or_chain(Expect("cycle", ("a", "b"), ("condvar", "pthread_mutex"), 0)),
    ),
    _scene(
        "pipeline",
        Expect("cycle", ("s0", "s2", "s1"), ("condvar",) * 3, ("v",), confidence="inferred"),
        notes="who would signal is told by the code, one event after the other",
    ),
    _scene(
        "empty-queue",
        Expect("chain", ("b", "c"), root="a"),
        variants=("static-stripped", "static", "stripped", "dbg"),
        notes="to wait as a does ends no wait, whatever a wait does to a condition variable inside",
    ),
    _scene(
        "stdio",
        Expect("cycle", ("a", "b"), ("stdio", "stdio"), 0, confidence="proven"),
        notes="_IO_lock_t records its owner's thread control block",
    ),
    _scene(
        "by-hand",
        Expect("cycle", ("a", "b"), ("futex", "futex"), 0, names=("hand_second", "hand_first")),
        notes="the word holds the owner's tid, and FUTEX_WAITERS",
    ),
    _scene(
        "three-states",
        Expect("cycle", ("a", "b"), ("futex", "futex"), 1, confidence="inferred"),
        notes="neighbours, which look like a rwlock",
    ),
    _scene(
        "own-gate",
        Expect("cycle", ("a", "b"), ("futex", "pthread_mutex"), 0, confidence="inferred"),
        variants=("dbg", "opt", "stripped", "static"),
        notes="its words look like a barrier's, which names tell apart",
    ),
    Scenario(
        "sync-malloc-in-handler",
        "sync.c",
        ("malloc-in-handler",),
        "found|inconclusive",
        (Expect("self-deadlock", ("a",), ("",), 0, confidence="inferred"),),
        notes="an arena's lock has no owner; without symbols it is any futex",
    ),
    *(
        Scenario(
            f"sync-{function}-in-handler-named",
            "sync.c",
            (f"{function}-in-handler",),
            "found",
            (Expect("self-deadlock", ("a",), ("lowlevellock",), 0, confidence="inferred"),),
            variants=("static",),
            notes="by the names of the C library's functions, which a static program has",
        )
        for function in ("malloc", "time")
    ),
)
