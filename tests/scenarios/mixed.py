"""Cycles of several kinds, several at once, and crowds: tests/programs/mixed.c."""

from .model import Expect, Scenario

MUTEX, RW = "pthread_mutex", "rwlock"
MUTEXES = ("audit", "accounts")

SCENARIOS = (
    Scenario(
        "mixed-join-and-two-mutexes",
        "mixed.c",
        ("join-and-two-mutexes",),
        "found",
        (
            Expect(
                "cycle",
                ("main", "w1", "w2"),
                ("join", MUTEX, MUTEX),
                0,
                confidence="proven",
                names=(None, "audit", "accounts"),
            ),
        ),
    ),
    Scenario(
        "mixed-vfork-child",
        "mixed.c",
        ("vfork-child",),
        "found",
        (
            Expect(
                "cycle",
                ("main", "a", "child"),
                ("join", "vfork", MUTEX),
                0,
                confidence="proven",
                names=(None, None, "accounts"),
            ),
        ),
        core=False,
        notes="a child of vfork() runs in its parent's memory, where main has the mutex",
    ),
    Scenario(
        "mixed-three-kinds",
        "mixed.c",
        ("three-kinds",),
        "found",
        (
            Expect(
                "cycle",
                ("a", "b", "c"),
                (RW, "semaphore", MUTEX),
                0,
                confidence="inferred",
                names=("prices", "slots", "accounts"),
            ),
        ),
    ),
    Scenario(
        "mixed-two-cycles-and-chain",
        "mixed.c",
        ("two-cycles-and-chain",),
        "found",
        (
            Expect("cycle", ("a", "b"), (MUTEX, MUTEX), 0, confidence="proven", names=MUTEXES),
            Expect("cycle", ("c", "d"), (RW, RW), 0, confidence="proven"),
            Expect("chain", tuple(f"v{i}" for i in range(5)), root="root"),
        ),
    ),
    Scenario(
        "mixed-victims-of-victims",
        "mixed.c",
        ("victims-of-victims",),
        "found",
        (Expect("cycle", ("a", "b"), (MUTEX, MUTEX), ("v0", "v1", "v2"), names=MUTEXES),),
    ),
    Scenario(
        "mixed-crowd-300",
        "mixed.c",
        ("crowd", "300"),
        "found",
        (Expect("cycle", ("a", "b"), (MUTEX, MUTEX), tuple(f"v{i}" for i in range(300))),),
    ),
)
