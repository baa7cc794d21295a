"""The C++ standard library's locks: tests/programs/locks.cc."""

from .model import Expect, Scenario

PAIR = ("a", "b")
MUTEX, RWLOCK = "pthread_mutex", "rwlock"


def _scenario(scene, verdict, *findings, **more):
    return Scenario(f"cxx-{scene}", "locks.cc", (scene,), verdict, findings, **more)


def _proven(scene, *kinds, members=PAIR, type="cycle", names=()):
    finding = Expect(type, members, kinds, 0, confidence="proven", names=names)
    return _scenario(scene, "found", finding)


def _inferred(scene, *kinds, **more):
    """The lock does not record who holds it: found by inference, or said to be unknown."""
    finding = Expect("cycle", PAIR, kinds, 0, confidence="inferred")
    return _scenario(scene, "found|inconclusive", finding, **more)


def _nobody(scene, *findings, verdict="found|inconclusive|not-found", **more):
    return _scenario(scene, verdict, *findings, **more)


# Where nothing tells who is to end a's wait, that b queues behind a is all there is to say.
EITHER = Expect("cycle", PAIR, otherwise=Expect("chain", ("b",), root="a"))

SCENARIOS = (
    *(_proven(scene, MUTEX, MUTEX) for scene in ("mutex", "unique-lock", "scoped-lock")),
    *(_proven(scene, MUTEX, MUTEX) for scene in ("timed", "recursive", "recursive-timed")),
    _proven("self", MUTEX, members=("a",), type="self-deadlock"),
    _proven("shared-writers", RWLOCK, RWLOCK),
    _proven("shared-mixed", RWLOCK, RWLOCK),
    _proven("shared-timed-writers", RWLOCK, RWLOCK),
    _proven("shared-timed-readers", RWLOCK, RWLOCK),
    _inferred("shared-readers", RWLOCK, RWLOCK),
    _inferred("once", "once", "once"),
    *(
        _scenario(scene, "found", Expect(type, members, kinds, victims, confidence="inferred"))
        for scene, type, members, kinds, victims in (
            ("static", "cycle", PAIR, ("cxa_guard", "cxa_guard"), 0),
            ("static-self", "self-deadlock", ("a",), ("cxa_guard",), ("v0", "v1", "v2")),
            ("static-mutex", "cycle", PAIR, (MUTEX, "cxa_guard"), 0),
        )
    ),
    _scenario("static-sleeper", "not-found", notes="the initialiser sleeps"),
    _proven("join", "join", MUTEX),
    _proven("async", "join", MUTEX),
    _nobody("promise", EITHER, notes="nothing records who is to keep a promise"),
    _scenario("pool", "not-found"),
    _scenario("pool-any", "not-found"),
    *(
        _scenario(scene, "found", Expect("cycle", PAIR, ("futex",) * 2, 0, confidence="inferred"))
        for scene in ("binary-semaphore", "counting-semaphore", "latch")
    ),
    _scenario("semaphore-pool", "not-found", core_verdict="not-found|inconclusive"),
    _scenario(
        "latch-of-two",
        "found",
        Expect("cycle", (), ("futex", MUTEX), 1, confidence="inferred"),
        notes="its word is 2, as a contended lock's",
    ),
    _scenario("latch-sleeper", "not-found"),
    _scenario("caught", "not-found", notes="c sleeps, and tells a in its catch clause"),
    _nobody("barrier", EITHER, notes="the waits of all barriers share a pool"),
)
