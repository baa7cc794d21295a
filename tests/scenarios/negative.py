"""What waits and is no deadlock: tests/programs/negative.c and posts.c."""

from .model import Expect, Scenario

NO_DESCRIPTORS = "not-found|inconclusive"  # a core does not tell what a descriptor is


def _none(name, program="negative.c", **more):
    return Scenario(f"negative-{name}", program, (name,), "not-found", **more)


SCENARIOS = (
    _none("alone"),
    _none("condvar-pool"),
    _none("joined-pool", notes="main joins a worker of an idle pool"),
    _none("sigwait-pool"),
    _none("semaphore-pool"),
    _none("contention", moving=True),
    _none("sleepy-contention", moving=True),
    _none("ordered-contention", moving=True),
    _none("readers-and-writers", moving=True),
    _none("timed-waits", moving=True),
    _none("producers-and-consumers", moving=True),
    _none("late-at-barrier", moving=True),
    _none("busy-holder", moving=True),
    _none("holder-sleeps", notes="nanosleep with the mutex held"),
    _none("accepting-turns", notes="the mutex is held while it waits for a client"),
    _none("working-turns", notes="another mutex is held while it waits for a job"),
    _none("other-process-sleeps", core=False, notes="the holder of a shared mutex is elsewhere"),
    Scenario(
        "negative-hand-counter",
        "negative.c",
        ("hand-counter",),
        "inconclusive",
        notes="the word and a counter look like a mutex and its owner",
    ),
    _none("timer-posts", "posts.c", notes="by a thread of the C library's own"),
    _none("queue-posts", "posts.c", core_verdict=NO_DESCRIPTORS),
    _none("late-thread-posts", "posts.c"),
    _none("jumper-posts", "posts.c", notes="where a longjmp() leads"),
    Scenario(
        "negative-process-signals",
        "posts.c",
        ("process-signals",),
        "inconclusive",
        (Expect("chain", root="main"),),
        core=False,
        notes="the other process sleeps",
    ),
    _none("process-arrives", "posts.c", core=False),
    _none("waiter-cancelled", "posts.c", notes="its clean-up handler gives up the mutex"),
    Scenario(
        "negative-handler-posts",
        "posts.c",
        ("handler-posts",),
        "inconclusive",
        (Expect("chain", root="main"),),
        core=False,
        notes="whoever sends the signal ends it; a core tells of no handlers",
    ),
    _none("idle-loop", core_verdict=NO_DESCRIPTORS),
    _none("busy-loop", moving=True, core_verdict=NO_DESCRIPTORS),
)
