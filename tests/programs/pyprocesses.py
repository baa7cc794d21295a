"""Locks of CPython's multiprocessing, run as PYTHON pyprocesses.py SCENARIO."""

import multiprocessing
import os
import signal
import threading
import time

from pylocks import SCENE_SECONDS, doze_until, main, mortal, name, say


def play_processes():
    """Two processes and two multiprocessing.Locks."""
    context = multiprocessing.get_context("fork")
    one, other = context.Lock(), context.Lock()
    arrived = [os.pipe() for _ in range(2)]

    def meet(me):
        os.write(arrived[me][1], b"x")
        os.read(arrived[1 - me][0], 1)

    child = os.fork()
    if child == 0:
        mortal()
        name("p2")
        other.acquire()
        meet(1)
        one.acquire()
        os._exit(0)
    name("p1")
    one.acquire()
    meet(0)
    say("ready\n")
    other.acquire()


def processes(make):
    """a and b, forked processes, each take one of two locks and then want the other's; main waits
    for a."""
    context = multiprocessing.get_context("fork")
    one, other = getattr(context, make)(), getattr(context, make)()
    hold_on = context.Value("i", 0, lock=False)

    def run(text, first, second):
        mortal()
        name(text)
        first.acquire()
        hold_on.value += 1
        doze_until(lambda: hold_on.value > 99)
        second.acquire()

    started = []
    for text, first, second in (("a", one, other), ("b", other, one)):
        started.append(context.Process(target=run, args=(text, first, second), daemon=True))
        started[-1].start()
        doze_until(lambda: hold_on.value == len(started))
    say("ready\n")
    hold_on.value = 100
    started[0].join()


def play_mp_lock():
    processes("Lock")


def play_mp_rlock():
    processes("RLock")


def play_mp_gate():
    """Not a deadlock: a process takes the lock again, which its parent will release."""
    context = multiprocessing.get_context("fork")
    gate = context.Lock()

    def run():
        mortal()
        name("a")
        gate.acquire()
        say("ready\n")
        gate.acquire()

    context.Process(target=run, daemon=True).start()
    time.sleep(SCENE_SECONDS)
    gate.release()


def play_workers():
    """Not a deadlock: processes without work, and a main thread that waits for SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    pool = multiprocessing.get_context("fork").Pool(3)
    pool.map(abs, range(9))
    say("ready\n")
    ended.wait()


def play_workers_forever():
    """The same with a main thread that only Ctrl-C is to end."""
    pool = multiprocessing.get_context("fork").Pool(3)
    pool.map(abs, range(9))
    say("ready\n")
    threading.Event().wait()


if __name__ == "__main__":
    main(globals(), naming_itself="processes")
