"""Rust's std locks: tests/programs/guards.rs.

std's futex locks record no owner, so a holder is inferred from guards and code, or not at all.
"""

from .model import Expect, Scenario

VARIANTS = ("rust", "rust-opt", "rust-stripped")
MUTEX, RWLOCK = "rust_mutex", "rust_rwlock"


def _scenario(scene, verdict, *findings, argv=(), **more):
    return Scenario(
        f"rust-{scene}", "guards.rs", (scene, *argv), verdict, findings, VARIANTS, **more
    )


def _inferred(scene, *kinds, members=("a", "b"), type="cycle", victims=0, argv=(), **more):
    finding = Expect(type, members, kinds, victims, confidence="inferred")
    return _scenario(scene, "found", finding, argv=argv, **more)


SCENARIOS = (
    _inferred("mutex", MUTEX, MUTEX),
    _inferred("heap", MUTEX, MUTEX),
    _inferred("self", MUTEX, members=("a",), type="self-deadlock"),
    _inferred("temporary", MUTEX, members=("a",), type="self-deadlock"),
    _inferred("write-write", RWLOCK, RWLOCK),
    _inferred("read-write", RWLOCK, RWLOCK),
    _inferred("write-read", RWLOCK, RWLOCK),
    _inferred("join", "join", MUTEX, members=("main", "b")),
    _scenario(
        "message",
        "found|inconclusive|not-found",
        Expect("cycle", ("a", "b"), otherwise=Expect("chain", ("b",), root="a")),
        notes="nothing tells whose turn it is to send a message",
    ),
    _inferred("once", "once", "once"),
    _inferred("victims", MUTEX, MUTEX, victims=tuple(f"v{i}" for i in range(20)), argv=("20",)),
    _scenario("sleeper", "not-found|inconclusive", notes="a sleeps and holds what b wants"),
    _scenario("pool", "not-found"),
    _scenario("receivers", "not-found|inconclusive"),
    _scenario("contention", "not-found|inconclusive", moving=True, core=False),
)
