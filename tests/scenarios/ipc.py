"""Waits that lead from one process into another: tests/programs/ipc_*.c.

p1 is the process that is asked about; the others have to be followed to.  A core holds one
process and nothing of the kernel's, so cores are left out.
"""

import os

from .model import Expect, Scenario

# PROC_PID_INIT_INO, include/linux/proc_ns.h: a machine's own pid namespace
IN_A_CONTAINER = os.readlink("/proc/self/ns/pid") != "pid:[4026531836]"

VARIANTS = ("dbg", "stripped", "static")
FILES, STREAMS, SHARED, MIXED = (
    f"ipc_{part}.c" for part in ("files", "streams", "shared", "mixed")
)
PAIR = ("p1", "p2")


def _scenario(program, scene, verdict, findings=(), **more):
    more.setdefault("variants", VARIANTS)
    return Scenario(f"ipc-{scene}", program, (scene,), verdict, findings, core=False, **more)


def _cycle(program, scene, *kinds, members=PAIR, victims=0, confidence=None, type="cycle", **more):
    cycle = Expect(type, members, kinds, victims, confidence=confidence)
    return _scenario(program, scene, "found", (cycle,), **more)


def _both(program, scene, kind, **more):
    return _cycle(program, scene, kind, kind, **more)


def _idle(program, scene, verdict="not-found", **more):
    return _scenario(program, scene, verdict, **more)


_FILE_LOCKS = (
    _both(FILES, "flock", "flock", confidence="proven"),
    _both(FILES, "flock-shared", "flock", confidence="proven"),
    _both(
        FILES,
        "flock-readers",
        "flock",
        victims=None,
        notes="p2 and p3 read-hold what p1 wants: p1 is in a cycle with either",
        members=(),
    ),
    _both(FILES, "flock-sleeping-reader", "flock", notes="p1 needs p2 and p3; p3 only sleeps"),
    _both(FILES, "flock-inherited", "flock", notes="/proc/locks names the taker, which is gone"),
    _scenario(
        FILES,
        "flock-threads",
        "found",
        (Expect("cycle|self-deadlock"),),
        notes="the kernel knows the process only; that all its threads are blocked is proof",
    ),
    _cycle(
        FILES,
        "flock-twice",
        "flock",
        members=("twice",),
        victims=1,
        confidence="inferred",
        variants=("dbg",),
        type="self-deadlock",
        notes="the kernel knows the process only; without debug information main may be it, too",
    ),
    _idle(FILES, "flock-threads-sleeper"),
    _both(FILES, "ofd", "ofd_lock", notes="/proc/locks says pid -1"),
    _both(FILES, "ofd-ranges", "ofd_lock", notes="two byte ranges of one file"),
    _cycle(FILES, "ofd-flock", "flock", "ofd_lock"),
    _cycle(FILES, "posix-flock", "flock", "posix_lock", confidence="proven"),
    _cycle(FILES, "posix-pipe", "pipe", "posix_lock"),
    _both(
        FILES,
        "posix-ring",
        "posix_lock",
        members=tuple(f"p{i}" for i in range(1, 14)),
        notes="the kernel's own search for a deadlock gives up after ten steps",
    ),
    _idle(FILES, "flock-sleeper"),
    _scenario(
        FILES,
        "flock-stopped",
        "found",
        (Expect("chain", ("p1",), root="p2"),),
        notes="who holds it was stopped by a signal, as by a shell's ^Z",
    ),
)

_STREAMS = (
    _both(STREAMS, "pipe", "pipe"),
    _both(STREAMS, "pipe-open", "pipe", notes="each also keeps the writing end of what it reads"),
    _both(STREAMS, "pipe-full", "pipe"),
    _cycle(STREAMS, "pipe-ring", "pipe", "pipe", "pipe", members=("p1", "p3", "p2")),
    _both(STREAMS, "fifo", "pipe", confidence="inferred", notes="it has a name: others may come"),
    _cycle(STREAMS, "pidfd", "pidfd", "pipe"),
    _idle(STREAMS, "idle-fifo", notes="it keeps both ends open, so as not to see the end"),
    _idle(STREAMS, "idle-self-pipe", notes="its signal handlers write to it"),
    _both(STREAMS, "unix-pair", "unix_socket"),
    _both(STREAMS, "unix-pair-open", "unix_socket", notes="each also keeps the other's side"),
    _both(STREAMS, "unix-dgram", "unix_socket"),
    _both(STREAMS, "unix-seqpacket", "unix_socket"),
    _both(STREAMS, "unix-full", "unix_socket"),
    _both(STREAMS, "unix-named", "unix_socket"),
    _both(STREAMS, "tcp4", "tcp_socket"),
    _both(STREAMS, "tcp6", "tcp_socket"),
    _both(STREAMS, "tcp-full", "tcp_socket"),
    _cycle(STREAMS, "child", "child", "pipe"),
    _idle(STREAMS, "supervisor", "inconclusive", notes="its signal handler writes to the child"),
    _idle(STREAMS, "idle-accept"),
    _idle(STREAMS, "idle-epoll"),
    _idle(STREAMS, "idle-poll", notes="the client waits, the server watches others too"),
    _idle(STREAMS, "idle-prompt", notes="the client reads a terminal"),
    _idle(STREAMS, "idle-pipeline", notes="sh waits for cat | cat | cat, fed by one that sleeps"),
)

_NO_OWNER = "its lock records no owner: who took it is inferred, or it stays unknown"

_SHARED = (
    _scenario(
        SHARED,
        "sysv",
        "found|inconclusive",
        (Expect("cycle", PAIR, ("sysv_sem",) * 2, confidence="inferred"),),
        notes="only sempid tells who was there last",
    ),
    _scenario(
        SHARED,
        "sysv-undo",
        "found|inconclusive",
        (Expect("cycle", PAIR, ("sysv_sem",) * 2, confidence="inferred"),),
        notes="only sempid tells who was there last",
    ),
    *(
        _scenario(
            SHARED,
            scene,
            "found|inconclusive",
            (Expect("cycle", PAIR, ("semaphore",) * 2, confidence="inferred"),),
            notes=_NO_OWNER,
        )
        for scene in ("sem-named", "sem-anon", "sem-file")
    ),
    _idle(SHARED, "idle-sem-named", "not-found|inconclusive", notes="clients may open and post it"),
    _both(SHARED, "mutex-anon", "pthread_mutex", confidence="proven"),
    _both(SHARED, "mutex-file", "pthread_mutex", confidence="proven"),
    _both(SHARED, "mutex-robust", "pthread_mutex", confidence="proven"),
    _both(SHARED, "mutex-pi", "pthread_mutex", notes="p2 is parked by glibc after EDEADLK"),
    _both(SHARED, "rwlock-file", "rwlock", confidence="proven"),
    _both(
        SHARED,
        "by-hand",
        "futex",
        confidence="inferred",
        notes="the word holds the owner's tid, and FUTEX_WAITERS",
    ),
    _scenario(
        SHARED, "mutex-dead-owner", "found", (Expect("orphaned-lock", ("p1",), ("pthread_mutex",)),)
    ),
    _scenario(
        SHARED,
        "mutex-zombie-owner",
        "found",
        (Expect("orphaned-lock", ("p1",), ("pthread_mutex",)),),
        notes="the owner still has a directory in /proc, in state Z",
    ),
    _idle(SHARED, "mutex-sleeper"),
    _both(SHARED, "namespaces", "pthread_mutex", notes="p2 is in a pid namespace of its own"),
    _idle(
        SHARED,
        "namespaces-alike",
        "inconclusive",
        notes="the waiter and the holder, who sleeps, are pid 1, each in its own namespace",
    ),
    Scenario(
        "ipc-namespaces-own-id",
        SHARED,
        ("namespaces-own-id",),
        "inconclusive",
        variants=VARIANTS,
        notes="the holder, who sleeps, has the waiter's pid in its own namespace",
    ),
    _idle(
        SHARED,
        "namespaces-other-id",
        notes="the holder, who sleeps, has the pid of one that does not map the lock",
    ),
    _scenario(
        SHARED,
        "namespaces-dead-owner",
        "inconclusive" if IN_A_CONTAINER else "found",  # where the owner may be outside of it
        () if IN_A_CONTAINER else (Expect("orphaned-lock", ("p1",), ("pthread_mutex",)),),
    ),
)

_COULD_ANSWER = "another thread of the server may still answer: nothing is proven"

_MIXED = (
    _cycle(
        MIXED,
        "mutex-flock-pipe",
        "flock",
        "pipe",
        members=("a", "p2"),
        victims=("p1", "b"),
        notes="b, who would write to the pipe, waits for a's mutex; a itself could write, too",
    ),
    _idle(MIXED, "mutex-flock-pipe-sleeper", notes="p1's main thread could write to the pipe"),
    _scenario(MIXED, "mutex-flock-posix", "found", (Expect("cycle"),)),
    _cycle(
        MIXED,
        "server",
        "unix_socket",
        "unix_socket",
        victims=None,
        notes="the server's other threads are idle: only its worker could wake them",
    ),
    _idle(MIXED, "server-accepting", "not-found|inconclusive", notes=_COULD_ANSWER),
    _idle(MIXED, "server-polling", "not-found|inconclusive", notes=_COULD_ANSWER),
)

SCENARIOS = (*_FILE_LOCKS, *_STREAMS, *_SHARED, *_MIXED)
