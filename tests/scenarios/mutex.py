"""pthread mutexes of every kind and in every place: tests/programs/mutex.c."""

from .model import Expect, Scenario

MUTEX = "pthread_mutex"
TWO = (MUTEX, MUTEX)
GLOBALS = ("audit", "accounts+40")  # a waits for audit, b for accounts[0].lock


def _cross(scene, names=(), confidence="proven", **more):
    cycle = Expect("cycle", ("a", "b"), TWO, victims=0, names=names, confidence=confidence)
    return Scenario(f"mutex-{scene}", "mutex.c", (scene,), "found", (cycle,), **more)


def _self(scene, thread="a", names=("audit",), confidence="proven"):
    finding = Expect("self-deadlock", (thread,), (MUTEX,), 0, names=names, confidence=confidence)
    return Scenario(f"mutex-{scene}", "mutex.c", (scene,), "found", (finding,))


def _ring(n):
    members = tuple(f"r{i}" for i in range(n))
    cycle = Expect("cycle", members, (MUTEX,) * n, 0, confidence="proven")
    return Scenario(f"mutex-ring-{n}", "mutex.c", ("ring", str(n)), "found", (cycle,))


def _victims(n):
    cycle = Expect("cycle", ("a", "b"), TWO, tuple(f"v{i}" for i in range(n)), names=GLOBALS)
    return Scenario(f"mutex-victims-{n}", "mutex.c", ("victims", str(n)), "found", (cycle,))


SCENARIOS = (
    *(
        _cross(scene, GLOBALS)
        for scene in (
            "normal",
            "recursive",
            "recursive-thrice",
            "errorcheck",
            "adaptive",
            "timed",
            "clocklock",
            "robust",
            "robust-recursive",
            "robust-timed",
            "pshared",
        )
    ),
    _cross("pi", confidence=None, notes="b is parked by glibc after the kernel's EDEADLK"),
    _cross("pi-robust", confidence=None, notes="b is parked by glibc after EDEADLK"),
    _cross("pi-race", confidence=None, notes="one of them is parked, or both are"),
    _cross("static", ("plain_second", "plain_first")),
    _cross("unlocked-twice", ("plain_second", "plain_first"), notes="before: glibc does not mind"),
    _cross("static-typed", ("nested_second", "nested_first")),
    _cross("heap"),
    _cross("behind-number", ("counted+56", "counted+8")),
    _cross("stack"),
    _cross("array", ("accounts+280", "accounts+40")),
    _self("self"),
    _self("self-adaptive"),
    _self("self-pi", confidence=None),
    _self("self-single", "main", ("plain_first",)),
    _ring(3),
    _ring(12),
    _ring(60),
    _victims(20),
    _victims(200),
    Scenario(
        "mutex-joined",
        "mutex.c",
        ("joined",),
        "found",
        (Expect("cycle", ("a", "b"), TWO, ("main",), names=GLOBALS, confidence="proven"),),
    ),
    Scenario(
        "mutex-two-cycles",
        "mutex.c",
        ("two",),
        "found",
        (
            Expect("cycle", ("a", "b"), TWO, 0, names=GLOBALS),
            Expect("cycle", ("c", "d"), TWO, 0, names=("plain_second", "plain_first")),
        ),
    ),
    *(
        Scenario(
            f"mutex-processes{suffix}",
            "mutex.c",
            ("processes", robust),
            "found",
            (Expect("cycle", ("main", "child"), TWO, 0, confidence="proven"),),
            core=False,
        )
        for suffix, robust in (("", "0"), ("-robust", "1"))
    ),
)
