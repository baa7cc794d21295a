"""Threads that took a lock and may have given it back since, `gone_...`, or have it, `has_...`;
each is named T..., and another, named without the T, wants its lock.

All of it ran many times before, so that the interpreter has its instructions specialised.
"""

import contextlib
import os
import queue
import signal
import threading
import time

signal.alarm(300)
met = threading.Semaphore(0)


def start(name, body, *arguments):
    def run():
        os.write(1, f"tid {name} {threading.get_native_id()}\n".encode())
        met.release()
        body(*arguments)

    threading.Thread(target=run, daemon=True).start()
    met.acquire()


class Warm(BaseException):
    pass


def nap():
    if warm:
        raise Warm
    napping.append(1)
    time.sleep(1000)


def register(owner):
    devices["last"] = owner


def give_back(lock):
    lock.release()


def end():
    shared.release()


class unlocked:
    def __init__(self, lock):
        self.lock = lock

    def __enter__(self):
        self.lock.release()

    def __exit__(self, *error):
        self.lock.acquire()


class Free:
    def __init__(self, lock):
        self.lock = lock

    def __call__(self):
        self.lock.release()


def call(function):
    function()


class Logged:
    def __init__(self, owner):
        self.owner = owner

    def __enter__(self):
        with self.owner.journal:
            self.owner.lines += 1

    def __exit__(self, *error):
        with self.owner.journal:
            self.owner.lines += 1


@contextlib.contextmanager
def opened_up(lock):
    lock.release()
    try:
        yield
    finally:
        lock.acquire()


@contextlib.contextmanager
def timing():
    begun = time.time()
    yield
    print(time.time() - begun)


class Device:
    def __init__(self):
        self.lock, self.journal, self.lines = threading.Lock(), threading.Lock(), 0
        self.gap, self.condition = unlocked(self.lock), threading.Condition(self.lock)
        self.child, self.free = Child(self), Free(self.lock)

    def finish(self):
        self.lock.release()

    def later(self):
        self.finish()

    def again(self):
        self.lock.acquire()

    def note(self):
        self.journal.acquire()
        self.lines += 1
        self.journal.release()

    def open(self):
        return unlocked(self.lock)

    # may not have it any more
    def gone_method(self):
        self.lock.acquire()
        self.finish()
        nap()

    def gone_deeper(self):
        self.lock.acquire()
        self.later()
        nap()

    def gone_child(self):
        self.lock.acquire()
        self.child.done()
        nap()

    def gone_unknown(self):
        self.lock.acquire()
        [self.child][0].done()
        nap()

    def gone_handed(self):
        self.lock.acquire()
        give_back(self.lock)
        nap()

    def gone_shared(self):
        shared.acquire()
        end()
        nap()

    def gone_closure(self):
        lock = self.lock

        def free():
            lock.release()

        lock.acquire()
        free()
        nap()

    def gone_bound(self):
        free = self.lock.release
        self.lock.acquire()
        free()
        nap()

    def gone_condition(self):
        self.lock.acquire()
        self.condition.release()
        nap()

    def gone_inner(self):
        self.lock.acquire()
        self.releases_and_naps()

    def releases_and_naps(self):
        self.lock.release()
        nap()

    def gone_loop(self):
        self.lock.acquire()
        for body in self.nothing, nap:
            body()
            self.finish()

    def nothing(self):
        pass

    def gone_gap(self):
        with self.lock:
            self.naps_in_gap()

    def naps_in_gap(self):
        self.lock.release()
        nap()
        self.lock.acquire()

    def gone_pair(self):
        with self.lock:
            self.naps_in_pair()

    def naps_in_pair(self):
        self.finish()
        nap()
        self.again()

    def gone_unlocked(self):
        with self.lock:
            with unlocked(self.lock):
                nap()

    def gone_unlocked_inner(self):
        with self.lock:
            self.naps_unlocked()

    def naps_unlocked(self):
        with unlocked(self.lock):
            nap()

    def gone_ready(self):
        with self.lock:
            with self.gap:
                nap()

    def gone_opened(self):
        with self.lock, opened_up(self.lock):
            nap()

    def gone_by_method(self):
        with self.lock:
            with self.open():
                nap()

    def gone_stack(self):
        with self.lock, contextlib.ExitStack() as stack:
            stack.enter_context(unlocked(self.lock))
            nap()

    def gone_registered(self):
        self.lines += 1
        self.lock.acquire()
        devices["last"] = self
        nap()

    def gone_lambda(self):
        shared_too.acquire()
        call(lambda: shared_too.release())
        nap()

    def gone_callable(self):
        self.lock.acquire()
        self.free()
        nap()

    # has it
    def has_registered(self):
        self.lock.acquire()
        self.lines += 1
        self.lines = 5
        register(self)
        nap()
        self.lock.release()

    def has_with_calls(self):
        with self.lock:
            jobs.put(1)
            event.set()
            with condition:
                condition.notify_all()
            self.note()
            nap()

    def has_by_hand(self):
        self.lock.acquire()
        jobs.put(1)
        event.set()
        self.note()
        threading.Thread(target=print, daemon=True).start()
        nap()

    def has_logged(self):
        with self.lock:
            with Logged(self), timing():
                nap()

    def has_passed_on(self):
        self.lock.acquire()
        self.naps_and_releases(self.lock)

    def naps_and_releases(self, lock):
        try:
            nap()
        finally:
            lock.release()

    def has_inner(self):
        with self.lock:
            self.naps_inner()

    def naps_inner(self):
        other.acquire()
        with unlocked(other):
            self.note()
            nap()

    def has_loop(self):
        while True:
            self.lock.acquire()
            nap()
            self.finish()


class Child:
    def __init__(self, parent):
        self.parent = parent

    def done(self):
        self.parent.finish()


def take(lock):
    with lock:
        pass


shared_too, shared, other = threading.Lock(), threading.Lock(), threading.Lock()
jobs, event, condition = queue.Queue(), threading.Event(), threading.Condition()
devices = {}
napping = []
warm = True


def warm_up(name):
    device = Device()
    try:
        getattr(device, name)()
    except (Warm, RuntimeError):
        pass
    for lock in shared, shared_too, other:
        if lock.locked():
            lock.release()


names = [name for name in dir(Device) if name.startswith(("gone_", "has_"))]
for name in names * 20:
    warm_up(name)
event, condition = threading.Event(), threading.Condition()
warm = False
devices = {}
for name in names:
    devices[name] = Device()
    start("T" + name, getattr(devices[name], name))
while len(napping) < len(names):
    time.sleep(0.01)
for name, device in devices.items():
    if name == "gone_registered":
        device.finish()
    lock = {"gone_shared": shared, "gone_lambda": shared_too}.get(name, device.lock)
    if name.startswith("gone_"):
        assert lock.acquire(timeout=5), name
    start(name, take, lock)
os.write(1, b"ready\n")
time.sleep(1000)
