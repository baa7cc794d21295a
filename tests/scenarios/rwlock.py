"""pthread rwlocks: tests/programs/rwlock.c."""

from .model import Expect, Scenario

RW, MUTEX = "rwlock", "pthread_mutex"


def _cross(scene, confidence, kinds=(RW, RW), names=("audit", "accounts"), **more):
    cycle = Expect("cycle", ("a", "b"), kinds, 0, names=names, confidence=confidence)
    return Scenario(f"rwlock-{scene}", "rwlock.c", (scene,), "found", (cycle,), **more)


SCENARIOS = (
    _cross("writers", "proven"),
    _cross("writers-read", "proven"),
    _cross("timed", "proven"),
    _cross("pshared", "proven"),
    _cross("with-mutex", "proven", (MUTEX, RW), ("journal", "accounts")),
    _cross("readers", "inferred", notes="readers are counted, not recorded"),
    _cross("readers-innocent", "inferred", notes="a third thread has read and released"),
    _cross("table", "inferred", names=(None, None), notes="which lock it is, is computed"),
    _cross("reader-with-mutex", "inferred", (MUTEX, RW), ("journal", "accounts")),
    Scenario(
        "rwlock-relock",
        "rwlock.c",
        ("relock",),
        "found",
        (
            Expect(
                "cycle",
                ("reader", "writer"),
                (RW, RW),
                0,
                confidence="inferred",
                names=("writer_first", "writer_first"),
            ),
        ),
        notes="reads again behind a queued writer, PREFER_WRITER_NONRECURSIVE",
    ),
    Scenario(
        "rwlock-upgrade",
        "rwlock.c",
        ("upgrade",),
        "found",
        (Expect("self-deadlock", ("a",), (RW,), 0, confidence="inferred", names=("accounts",)),),
    ),
    *(
        Scenario(
            "-".join(("rwlock-by-pointers", *way)),
            "rwlock.c",
            ("by-pointers", *way),
            "inconclusive",
            notes="who gets the object, or a list where it is kept, may give back the lock in it",
        )
        for way in ((), ("function",), ("guard",))
    ),
    Scenario(
        "rwlock-victims",
        "rwlock.c",
        ("victims", "20"),
        "found",
        (Expect("cycle", ("a", "b"), (RW, RW), tuple(f"v{i}" for i in range(20))),),
    ),
)
