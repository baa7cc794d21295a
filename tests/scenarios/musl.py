"""musl's locks: tests/programs/muslmutex.c.

A normal mutex there records no owner (its word is EBUSY), the other kinds hold the owner's tid.
"""

from .model import Expect, Scenario

VARIANTS = ("musl", "musl-stripped", "musl-dynamic")
PAIR = ("a", "b")
MUTEX, RWLOCK = "pthread_mutex", "rwlock"


def _scenario(scene, verdict, *findings, **more):
    return Scenario(f"musl-{scene}", "muslmutex.c", (scene,), verdict, findings, VARIANTS, **more)


def _proven(scene, *kinds, **more):
    finding = Expect("cycle", PAIR, kinds, 0, confidence="proven")
    return _scenario(scene, "found", finding, **more)


def _inferred(scene, *kinds, members=PAIR, type="cycle", **more):
    finding = Expect(type, members, kinds, 0, confidence="inferred")
    return _scenario(scene, "found", finding, **more)


SCENARIOS = (
    _inferred("normal", MUTEX, MUTEX),
    _scenario(
        "crowd",
        "found",
        Expect("cycle", PAIR, (MUTEX,) * 2, tuple(f"v{i}" for i in range(100))),
    ),
    _inferred("self", MUTEX, members=("a",), type="self-deadlock"),
    *(_proven(scene, MUTEX, MUTEX) for scene in ("recursive", "errorcheck", "robust", "timed")),
    _scenario(
        "pi",
        "found",
        Expect("cycle", PAIR, (MUTEX, MUTEX), otherwise=Expect("chain", ("a",), root="b")),
        notes="b is parked by musl on its own stack after the kernel's EDEADLK",
    ),
    _inferred("writers", RWLOCK, RWLOCK),
    _inferred("readers", RWLOCK, RWLOCK),
    _scenario("semaphore", "found|inconclusive|not-found", Expect("cycle", PAIR)),
    _proven("join", "join", MUTEX),
    _inferred("once", "once", "once"),
    _scenario(
        "barrier",
        "found|inconclusive|not-found",
        Expect("cycle", PAIR, otherwise=Expect("chain", ("b",), root="a")),
        notes="a barrier does not tell who is still to come",
    ),
    _scenario(
        "forked",
        "found",
        Expect("orphaned-lock", ("child",), (MUTEX,), confidence="inferred"),
        core_verdict="found|inconclusive",
    ),
    _scenario("pool", "not-found|inconclusive"),
    _scenario("sleeper", "not-found"),
    _scenario("in-file", "inconclusive|not-found", notes="a core does not tell who shares a file"),
)
