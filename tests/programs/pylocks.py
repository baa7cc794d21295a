"""Deadlocks of CPython's locks, run as PYTHON pylocks.py SCENARIO.  Python 3.6 and newer.

The scene's own meeting points are plain counters that are slept on; main pauses in the end, so
that it wants the GIL no more.
"""

import ctypes
import os
import queue
import selectors
import signal
import sys
import threading
import time

SCENE_SECONDS = 300
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_PTRACER = 1, 15, 0x59616D61
SYS_GETTID = 186

libc = ctypes.CDLL(None, use_errno=True)
held = []  # one entry for each who holds what it is to hold
go = []


def say(line):
    os.write(1, line.encode())


def name(text):
    """Names the calling thread and tells the harness its ids."""
    libc.prctl(PR_SET_NAME, text.encode(), 0, 0, 0)
    say("tid %s %d %d\n" % (text, libc.syscall(SYS_GETTID), os.getpid()))


def mortal():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
    signal.alarm(SCENE_SECONDS)


def doze_until(done):
    while not done():
        time.sleep(0.001)


def hold():
    """I hold what I am to hold; returns when everybody may go and block."""
    held.append(1)
    doze_until(lambda: go)


def start(holders):
    doze_until(lambda: len(held) >= holders)
    say("ready\n")
    go.append(1)


def idle():
    while True:
        signal.pause()


def thread(text, body, *arguments):
    def run():
        name(text)
        body(*arguments)

    fresh = threading.Thread(target=run, name=text, daemon=True)
    fresh.start()
    return fresh


def cross(body, one, other):
    thread("a", body, one, other)
    thread("b", body, other, one)
    start(2)
    idle()


def nested(first, second):
    with first:
        hold()
        with second:
            pass


def acquired(first, second):
    first.acquire()
    try:
        hold()
        second.acquire()
        second.release()
    finally:
        first.release()


def play_with():
    cross(nested, threading.Lock(), threading.Lock())


def play_acquire():
    cross(acquired, threading.Lock(), threading.Lock())


class Account:
    """Locks that are attributes, taken by hand; and what is done before, and not done."""

    def __init__(self, other=None):
        self.name, self.spare, self.lock, self.other = "", threading.Lock(), threading.Lock(), other

    def transfer(self, other):
        self.lock.acquire()
        hold()
        other.lock.acquire()
        other.lock.release()
        self.lock.release()

    def spare_first(self, other, never=False):
        self.spare.acquire()
        self.spare.release()
        if never:
            other.lock.acquire()
        self.lock.acquire()
        hold()
        other.spare.acquire()


audit, archive = threading.Lock(), threading.Lock()


def play_attributes():
    def body(first, second):
        first.transfer(second)

    cross(body, Account(), Account())


def play_globals():
    def audit_first():
        audit.acquire()
        hold()
        archive.acquire()

    def archive_first():
        archive.acquire()
        hold()
        audit.acquire()

    thread("a", audit_first)
    thread("b", archive_first)
    start(2)
    idle()


def take(lock):
    lock.acquire()


def play_given_back():
    """Not a deadlock: a and b gave back what they took, or never took it; c has what they want,
    from a function that has returned, and sleeps."""
    one, other = Account(), Account()

    def sleeper():
        take(one.spare)
        take(other.spare)
        hold()
        while True:
            time.sleep(3600)

    first, second = Account(), Account()
    first.lock, second.lock = one.lock, other.lock

    def body(mine, others):
        mine.spare_first(others)

    thread("a", body, first, one)
    thread("b", body, second, other)
    doze_until(lambda: len(held) >= 2)
    thread("c", sleeper)
    start(3)
    idle()


def play_handed_over():
    """Not a deadlock: a took by hand what it then had given back by another function, and c has
    it; b, who wants it, has what a wants."""
    one, other = Account(), threading.Lock()

    def give_back(lock):
        lock.release()

    def hands_over():
        one.lock.acquire()
        give_back(one.lock)
        hold()
        with other:
            pass

    def sleeper():
        take(one.lock)
        hold()
        while True:
            time.sleep(3600)

    def wants():
        with other:
            hold()
            with one.lock:
                pass

    thread("a", hands_over)
    doze_until(lambda: held)
    thread("b", wants)
    thread("c", sleeper)
    start(3)
    idle()


class Unlocked:
    """Lets go of a lock for a while."""

    def __init__(self, lock):
        self.lock = lock

    def __enter__(self):
        self.lock.release()

    def __exit__(self, *error):
        self.lock.acquire()


def play_unlocked():
    """Not a deadlock: a is inside `with` on b's lock, but lets go of it meanwhile; c has it."""
    one, other = threading.Lock(), threading.Lock()

    def waits_unlocked():
        with Unlocked(one):
            hold()
            with other:
                pass

    def lets_go():
        with one:
            waits_unlocked()

    def sleeper():
        take(one)
        hold()
        while True:
            time.sleep(3600)

    def wants():
        with other:
            hold()
            with one:
                pass

    thread("a", lets_go)
    doze_until(lambda: held)
    thread("b", wants)
    thread("c", sleeper)
    start(3)
    idle()


def play_gate():
    """Not a deadlock: locks that stand for events, released by whoever brings them about."""
    one, other = threading.Lock(), threading.Lock()

    def opener():
        hold()
        while True:
            time.sleep(3600)
            one.release()
            other.release()

    def closes_and_waits():
        one.acquire()
        other.acquire()
        hold()
        one.acquire()

    def waits():
        hold()
        other.acquire()

    thread("a", closes_and_waits)
    doze_until(lambda: held)
    thread("b", waits)
    thread("c", opener)
    start(3)
    idle()


def play_by_hand_twice():
    """a takes again what it took by hand, and would have given back."""
    lock = threading.Lock()

    def twice():
        lock.acquire()
        hold()
        lock.acquire()
        lock.release()
        lock.release()

    thread("a", twice)
    start(1)
    idle()


def play_never_taken():
    """Not a deadlock: a's code takes b's lock on a way that it did not go; c has it."""
    one, other = Account(), Account()

    def sleeper():
        take(other.lock)
        hold()
        while True:
            time.sleep(3600)

    def wants():
        one.spare.acquire()
        hold()
        other.lock.acquire()

    def never():
        if len(held) > 1000:
            other.lock.acquire()
        hold()
        one.spare.acquire()

    thread("c", sleeper)
    thread("b", wants)
    thread("a", never)
    start(3)
    idle()


def play_timed():
    def body(first, second):
        with first:
            hold()
            second.acquire(timeout=3600)

    cross(body, threading.Lock(), threading.Lock())


def play_rlock():
    def body(first, second):
        with first, first:
            hold()
            with second:
                pass

    cross(body, threading.RLock(), threading.RLock())


def play_self():
    lock = threading.Lock()
    thread("a", nested, lock, lock)
    start(1)
    idle()


def play_join():
    """a holds the lock and joins b, which wants it."""
    lock = threading.Lock()

    def wait_for_lock():
        hold()
        with lock:
            pass

    def hold_and_join():
        with lock:
            b = thread("b", wait_for_lock)
            hold()
            b.join()

    thread("a", hold_and_join)
    start(2)
    idle()


def play_gil():
    """a waits for a C mutex without giving up the GIL; b holds the mutex and wants the GIL."""
    mutex = ctypes.create_string_buffer(64)
    keeps_gil = ctypes.PyDLL(None)

    def in_c():
        hold()
        keeps_gil.pthread_mutex_lock(mutex)

    def in_python():
        libc.pthread_mutex_lock(mutex)
        hold()
        while True:
            time.sleep(0.001)

    thread("b", in_python)
    doze_until(lambda: held)
    thread("a", in_c)
    start(2)
    idle()


def play_pool():
    """Not a deadlock: an executor without work."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(3)
    for i in range(3):
        pool.submit(lambda i=i: (name("w%d" % i), hold()))
    start(3)
    idle()


def play_queue():
    """Not a deadlock: threads that wait for something in a queue, and on an event."""
    work, event = queue.Queue(), threading.Event()

    def worker(wait):
        held.append(1)
        wait()

    for i, wait in enumerate((work.get, work.get, event.wait)):
        thread("w%d" % i, worker, wait)
    start(3)
    idle()


def play_turns():
    """Not a deadlock: threads of which one waits for work, and the others for their turn."""
    work, turn = queue.Queue(), threading.Lock()

    def worker():
        held.append(1)
        while True:
            with turn:
                work.get()

    for i in range(3):
        thread("w%d" % i, worker)
    start(3)
    idle()


def play_queue_in_lock():
    """a waits for something in a queue while it holds b's lock; b would put it there."""
    work, lock = queue.Queue(), threading.Lock()

    def gets():
        with lock:
            hold()
            work.get()

    def puts():
        hold()
        with lock:
            work.put(1)

    thread("a", gets)
    doze_until(lambda: held)
    thread("b", puts)
    start(2)
    idle()


def play_waits_in_lock():
    """a waits for a condition's news, whose own lock it lets go of, while it holds b's lock by
    hand; b would have news."""
    news, lock = threading.Condition(threading.Lock()), threading.Lock()

    def waits():
        lock.acquire()
        with news:
            hold()
            news.wait()
        lock.release()

    def tells():
        hold()
        with lock:
            with news:
                news.notify()

    thread("a", waits)
    doze_until(lambda: held)
    thread("b", tells)
    start(2)
    idle()


def joined(body, *several):
    """A thread for each of several tuples of arguments, whose ends the main thread waits for."""
    threads = [thread("ab"[i], body, *arguments) for i, arguments in enumerate(several)]
    start(len(threads))
    for one in threads:
        one.join()


def play_semaphores():
    """Each has the semaphore that the other wants, which nobody can tell."""
    first, second = threading.Semaphore(1), threading.BoundedSemaphore(1)
    joined(nested, (first, second), (second, first))


def play_barrier():
    """One waits at a barrier for two."""

    def waits(barrier):
        hold()
        barrier.wait()

    joined(waits, (threading.Barrier(2),))


def play_own_executor():
    """The only thread of an executor waits for what that is to do after it."""
    from concurrent.futures import ThreadPoolExecutor

    executor = ThreadPoolExecutor(1)

    def waits():
        name("a")
        hold()
        executor.submit(int).result()

    future = executor.submit(waits)
    start(1)
    future.result()


def play_busy():
    """Not a deadlock: threads that fight for the GIL and get on."""

    def count():
        hold()
        number = 0
        while True:
            number += 1

    for i in range(3):
        thread("w%d" % i, count)
    start(3)
    idle()


def play_contention():
    """Not a deadlock: threads that fight for a lock and get on."""
    lock = threading.Lock()

    def fight():
        hold()
        while True:
            with lock:
                time.sleep(0.001)

    for i in range(3):
        thread("w%d" % i, fight)
    start(3)
    idle()


def play_sleeper():
    """Not a deadlock: the holder sleeps."""
    lock = threading.Lock()

    def sleeper():
        with lock:
            hold()
            while True:
                time.sleep(3600)

    def waiter():
        hold()
        with lock:
            pass

    thread("a", sleeper)
    doze_until(lambda: held)
    thread("b", waiter)
    start(2)
    idle()


def play_loops():
    """Not a deadlock: event loops."""
    import asyncio

    def run_loop():
        loop = asyncio.new_event_loop()
        held.append(1)
        loop.run_forever()

    def select():
        selector = selectors.DefaultSelector()
        selector.register(os.pipe()[0], selectors.EVENT_READ)
        held.append(1)
        selector.select()

    thread("w0", run_loop)
    thread("w1", select)
    start(2)
    idle()


def main(scenes, naming_itself=""):
    """Plays the scenario that was asked for, one of a program's `scenes` (its globals)."""
    mortal()
    scene = sys.argv[1] if len(sys.argv) > 1 else ""
    play = scenes.get("play_" + scene)
    if play is None:
        sys.exit("usage: %s SCENARIO; no scenario %s" % (os.path.basename(sys.argv[0]), scene))
    if scene != naming_itself:
        name("main")
    play()


if __name__ == "__main__":
    main(globals())
