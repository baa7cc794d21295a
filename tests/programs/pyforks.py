"""Locks of CPython in processes of one thread, run as PYTHON pyforks.py SCENARIO."""

import os
import signal
import threading

from pylocks import doze_until, hold, idle, main, mortal, name, say, start, thread

lock = threading.Lock()
taken = []


def keep():
    with lock:
        taken.append(1)
        threading.Event().wait()


def play_forked():
    """A child of fork() that wants a lock which another thread of its parent has."""
    threading.Thread(target=keep, daemon=True).start()
    doze_until(lambda: taken)
    child = os.fork()
    if child == 0:
        mortal()
        name("child")
        say("note target %d\n" % os.getpid())
        say("ready\n")
        lock.acquire()
        os._exit(0)
    idle()


def play_signalled():
    """Not a deadlock: a signal handler lets go of the lock."""
    signal.signal(signal.SIGUSR1, lambda *_: lock.release())
    lock.acquire()
    say("ready\n")
    wait_for_signal()


def wait_for_signal():
    lock.acquire()


def play_inside():
    """Every thread waits for a lock, that one of them took where it can't be seen any more."""
    take()
    for i in range(2):
        thread("w%d" % i, want)
    start(2)
    lock.acquire()


def take():
    lock.acquire()


def want():
    hold()
    lock.acquire()


main(globals())
