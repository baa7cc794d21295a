"""CPython's locks: tests/programs/py*.py, under every interpreter there is.

A Lock is a POSIX semaphore that any thread may release, and records no owner.  An RLock and
the GIL record theirs.
"""

from .model import Expect, Scenario

VARIANTS = ("python", "python3.8", "python3.9", "python3.10", "python3.12", "python3.13")
LOCK, RLOCK, PROCESS_LOCK = "python_lock", "python_rlock", "python_mp_lock"


def _scenario(scene, verdict, *findings, program="pylocks.py", **more):
    more.setdefault("variants", VARIANTS)
    return Scenario(f"python-{scene}", program, (scene,), verdict, findings, **more)


def _processes(scene, verdict, *findings, **more):
    return _scenario(scene, verdict, *findings, program="pyprocesses.py", **more)


def _inferred(scene, *kinds, members=("a", "b"), type="cycle", **more):
    finding = Expect(type, members, kinds, 0, confidence="inferred")
    return _scenario(scene, "found", finding, **more)


def _alone(scene, *findings):
    """Whether a signal handler would let go of it, a core does not tell."""
    return Scenario(
        f"python-{scene}",
        "pyforks.py",
        (scene,),
        "found" if findings else "not-found|inconclusive",
        findings,
        VARIANTS,
        core_verdict="inconclusive",
        core_findings=(),
    )


SCENARIOS = (
    _inferred("with", LOCK, LOCK),
    _inferred("acquire", LOCK, LOCK),
    _inferred("attributes", LOCK, LOCK),
    _inferred("globals", LOCK, LOCK),
    _scenario("gate", "not-found|inconclusive", notes="a lock may be released by others"),
    _inferred("by_hand_twice", LOCK, members=("a",), type="self-deadlock"),
    _scenario("given_back", "not-found|inconclusive", notes="nobody who waits holds anything"),
    _scenario("never_taken", "not-found|inconclusive", notes="not every way takes the lock"),
    _scenario("handed_over", "not-found|inconclusive", notes="another function gave it back"),
    _scenario("unlocked", "not-found|inconclusive", notes="let go of, within its `with` block"),
    _inferred("timed", LOCK, LOCK),
    _scenario(
        "rlock",
        "found|inconclusive",
        Expect("cycle", ("a", "b"), (RLOCK, RLOCK), 0),
        notes="an RLock records its owner, as a pthread_t",
    ),
    _inferred("self", LOCK, members=("a",), type="self-deadlock"),
    _scenario("join", "found|inconclusive", Expect("cycle", ("a", "b"), victims=0)),
    _scenario(
        "gil",
        "found",
        (Expect("cycle", ("a", "b"), ("pthread_mutex", "gil"), 0)),
        moving=True,
        notes="who wants the GIL looks again every 5 ms",
    ),
    _processes(
        "processes",
        "found|inconclusive",
        Expect("cycle", ("p1", "p2"), confidence="inferred"),
        core=False,
        notes="multiprocessing.Lock: a POSIX semaphore in shared memory",
    ),
    _alone("forked", Expect("orphaned-lock", ("child",), (LOCK,), confidence="inferred")),
    _alone("inside", Expect("orphaned-lock|self-deadlock", confidence="inferred")),
    _alone("signalled"),
    _scenario(
        "pool",
        "not-found|inconclusive",
        notes="a Condition's waiter waits for a lock that it took itself: no self-deadlock",
    ),
    _scenario("queue", "not-found|inconclusive", notes="as python-pool; get() and Event.wait()"),
    _scenario("turns", "not-found|inconclusive", notes="a lock is held while it waits for work"),
    _processes("workers", "not-found", core_verdict="not-found|inconclusive"),
    _processes("workers_forever", "not-found", core_verdict="not-found|inconclusive"),
    *(
        _processes(
            scene,
            "found",
            Expect("cycle", ("a", "b"), (PROCESS_LOCK, PROCESS_LOCK), 1, confidence=confidence),
            core=False,
        )
        for scene, confidence in (("mp_lock", "inferred"), ("mp_rlock", "proven"))
    ),
    _processes("mp_gate", "not-found|inconclusive", core=False),
    _scenario("queue_in_lock", "found", Expect("chain", ("b",), root="a", confidence="inferred")),
    _scenario("waits_in_lock", "found", Expect("chain", ("b",), root="a", confidence="inferred")),
    *(
        _scenario(scene, "inconclusive", notes="all sleep, and not as idle threads do")
        for scene in ("semaphores", "barrier", "own_executor")
    ),
    _scenario("sleeper", "not-found|inconclusive"),
    _scenario("loops", "not-found", core_verdict="inconclusive"),
    _scenario("busy", "not-found|inconclusive", moving=True, core=False),
    _scenario("contention", "not-found|inconclusive", moving=True, core=False),
)
