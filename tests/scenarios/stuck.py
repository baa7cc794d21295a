"""Stuck without a cycle: tests/programs/stuck.c."""

from .model import Expect, Scenario

MUTEX = "pthread_mutex"
V2, V3, V20 = (tuple(f"v{i}" for i in range(n)) for n in (2, 3, 20))


def _scene(name, *argv, finding, verdict="found", **more):
    return Scenario(f"stuck-{name}", "stuck.c", argv or (name,), verdict, (finding,), **more)


SCENARIOS = (
    _scene("corrupt-owner", "corrupt", "owner", finding=Expect("corrupt-lock", V3, (MUTEX,))),
    _scene("corrupt-kind", "corrupt", "kind", finding=Expect("corrupt-lock", V3, (MUTEX,))),
    _scene("corrupt-all", "corrupt", "all", finding=Expect("corrupt-lock", V3)),
    _scene(
        "exited",
        finding=Expect("orphaned-lock", V2, (MUTEX,), confidence="proven"),
        core_verdict="found|inconclusive",
    ),
    *(
        _scene(
            f"exited-inheriting-{desk}",
            "exited-inheriting",
            desk,
            finding=Expect("orphaned-lock", ("v0", "keeper"), (MUTEX,), confidence="proven"),
            notes="v0 is parked by glibc after ESRCH; what it holds, the keeper wants",
        )
        for desk in ("one", "all")
    ),
    _scene(
        "forked",
        finding=Expect("orphaned-lock", ("child",), (MUTEX,)),
        core_verdict="found|inconclusive",
        notes="the owner is a thread of the parent, the mutex is not shared",
    ),
    _scene(
        "reused-elsewhere",
        finding=Expect("orphaned-lock", V2, (MUTEX,)),
        core_verdict="found|inconclusive",
        notes="a process that has nothing to do with it has the owner's tid",
    ),
    _scene(
        "reused-here",
        finding=Expect("orphaned-lock|chain", V2),
        verdict="found|not-found|inconclusive",
        notes="a younger thread has the owner's tid; nothing proves it, and it is no cycle",
    ),
    _scene("lost-mutex", finding=Expect("lost-wakeup", V2, (MUTEX,)), healed=True),
    _scene("lost-semaphore", finding=Expect("lost-wakeup", V2, ("semaphore",)), healed=True),
    _scene(
        "chain-pipe",
        "chain",
        "pipe",
        finding=Expect("chain", V20, root="root"),
        core_verdict="found|inconclusive",
        notes="a core does not tell what a file descriptor is",
    ),
    _scene("chain-accept", "chain", "accept", finding=Expect("chain", V20, root="root")),
    _scene("chain-condvar", "chain", "condvar", finding=Expect("chain", V20, root="root")),
    _scene("chain-own-condvar", "chain", "own-condvar", finding=Expect("chain", V20, root="root")),
    _scene("chain-own-once", "chain", "own-once", finding=Expect("chain", V20, root="root")),
    _scene(
        "chain-either",
        finding=Expect("chain", V20, root="root"),
        notes="one function, by an argument: these are no workers who take turns",
    ),
    _scene(
        "chain-child",
        "chain",
        "child",
        finding=Expect(
            "chain", V20, root="root", otherwise=Expect("chain", ("root", *V20), root="child")
        ),
        core_verdict="found|inconclusive",
        notes="the root is the child's parent, or the child itself",
    ),
)
