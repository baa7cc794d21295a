"""CPython's locks.  FAULTKIT_PYTHONS may name more interpreters, separated by colons."""

import os
import struct
import sys
from pathlib import Path

import pytest
from lang_waits import play

from faultkit.infer.code import MAX_INSTRUCTIONS, code_of
from faultkit.infer.functions import SEMAPHORE as SEMAPHORE_FAMILY
from faultkit.infer.trace import Tracing
from faultkit.layouts.cpython import PythonMemory
from faultkit.layouts.pydict import attribute_is
from faultkit.model import EVENT, HELD, INFERRED, PROVEN
from faultkit.procfs.process import ProcProcess
from faultkit.target import ReadError
from faultkit.world import World

PYTHONS = sorted(
    {
        os.path.realpath(path)
        for path in [sys.executable, "/usr/bin/python3"]
        + os.environ.get("FAULTKIT_PYTHONS", "").split(":")
        if path and os.access(path, os.X_OK)
    }
)

SOURCE = """
import os, queue, signal, threading, time

signal.alarm(300)
met = threading.Semaphore(0)

def start(name, body, *arguments):
    def run():
        os.write(1, f"tid {name} {threading.get_native_id()}\\n".encode())
        met.release()
        body(*arguments)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    met.acquire()
    return thread

def cross(first, second):
    for _ in range(1):
        with first:
            time.sleep(0.3)
            try:
                with second:  # the line that both are in
                    pass
            finally:
                pass

def cross_by_hand(first, second):
    first.acquire()
    time.sleep(0.3)
    second.acquire()

def hold(lock):
    with lock:
        time.sleep(1000)

def take(lock):
    with lock:
        pass

def twice(lock):
    with lock:
        with lock:
            pass

def let_go(lock, other):
    with lock:
        lock.release()
        time.sleep(1000)

def stale(first, second):
    with first:
        pass
    second.acquire()

a, b, c, alone = (threading.Lock() for _ in range(4))
ra, rb, left = (threading.RLock() for _ in range(3))
nobody, given, used = (threading.Lock() for _ in range(3))
nobody.acquire()
jobs, simple, full = queue.Queue(), queue.SimpleQueue(), queue.Queue()
condition = threading.Condition(threading.Lock())
start("A", cross, a, b)
start("B", cross, b, a)
start("RA", cross_by_hand, ra, rb)
start("RB", cross_by_hand, rb, ra)
start("SELF", twice, alone)
start("HAND", nobody.acquire)
start("TIMED", lambda: nobody.acquire(timeout=1000))
start("JOBS", jobs.get)
start("SIMPLE", simple.get)
start("EVENT", threading.Event().wait)
start("HOLDS", hold, full.mutex)
start("HOLDS2", hold, condition)
start("LETGO", let_go, given, None)
start("STALE", stale, used, nobody)
time.sleep(0.2)
given.acquire()
used.acquire()
start("PUT", full.put, 1)
start("COND", take, condition)
start("GIVEN", take, given)
start("USED", take, used)
idler = start("IDLER", time.sleep, 1000)
start("JOIN", idler.join)
os.write(1, b"ready\\n")
time.sleep(1000)
"""
LINE = next(number for number, line in enumerate(SOURCE.splitlines(), 1) if "both are in" in line)


@pytest.fixture(scope="module", params=PYTHONS, ids=lambda path: Path(path).name)
def scene(request, tmp_path_factory):
    program = tmp_path_factory.mktemp("python") / "transfer.py"
    program.write_text(SOURCE)
    with play(request.param, program) as playing:
        yield playing


def test_cycle_of_locks_in_with_blocks(scene):
    for waiter, holder in (("A", "B"), ("B", "A")):
        wait = scene.wait_of(waiter, "python_lock")
        assert (wait.needs, wait.confidence) == (HELD, INFERRED)
        assert scene.holders(wait) == [holder]
        assert wait.evidence[0] == f"in transfer.py:{LINE} cross()"
        assert wait.evidence[-1].endswith(f"in transfer.py:{LINE} cross()")


def test_rlock_records_its_owner(scene):
    for waiter, holder in (("RA", "RB"), ("RB", "RA")):
        wait = scene.wait_of(waiter, "python_rlock")
        assert scene.holders(wait) == [holder]
        assert wait.confidence == PROVEN


def test_lock_taken_twice(scene):
    assert scene.holders(scene.wait_of("SELF", "python_lock")) == ["SELF"]


@pytest.mark.parametrize("name", ["HAND", "TIMED", "STALE"])
def test_lock_acquired_by_hand_has_no_known_owner(scene, name):
    wait = scene.wait_of(name, "python_lock")
    assert (wait.needs, wait.holders) == (HELD, ())
    assert "records no owner" in str(wait.missing)
    assert wait.timed == (name == "TIMED")


@pytest.mark.parametrize("name", ["GIVEN", "USED"])
def test_no_holder_by_a_with_block_that_let_go_or_has_ended(scene, name):
    wait = scene.wait_of(name, "python_lock")
    assert wait.holders == ()
    assert wait.missing


@pytest.mark.parametrize(("name", "holder"), [("PUT", "HOLDS"), ("COND", "HOLDS2")])
def test_condition_is_made_of_a_lock(scene, name, holder):
    assert scene.holders(scene.wait_of(name, "python_lock")) == [holder]


@pytest.mark.parametrize("name", ["JOBS", "SIMPLE", "EVENT"])
def test_idle_waits(scene, name):
    wait = scene.wait_of(name)
    assert wait.lock.kind in ("python_condition", "python_queue", "semaphore")
    assert (wait.needs, wait.holders, wait.missing, wait.fault) == (EVENT, (), None, None)


def test_join(scene):
    wait = scene.wait_of("JOIN", "python_join")
    assert wait.needs == EVENT
    assert scene.holders(wait) == ["IDLER"]


GIL = """
import ctypes, os, signal, sys, threading, time

signal.alarm(300)
libc = ctypes.PyDLL(None)  # keeps the GIL while it calls
def name(text):
    os.write(1, f"tid {text} {threading.get_native_id()}\\n".encode())
def keep():
    name("HOLDER")
    os.write(1, b"ready\\n")
    libc.sleep(60)
name("WAITER")
threading.Thread(target=keep, daemon=True).start()
while True:
    time.sleep(0.1)
"""


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: Path(path).name)
def test_gil(tmp_path, python):
    program = tmp_path / "gil.py"
    program.write_text(GIL)
    with play(python, program) as scene:
        wait = scene.wait_of("WAITER", "gil")
        assert scene.holders(wait) == ["HOLDER"]
        assert (wait.needs, wait.confidence, wait.timed) == (HELD, PROVEN, False)


SEMAPHORE = """
import multiprocessing, os, threading

lock = multiprocessing.get_context("fork").Lock()
lock.acquire()
os.write(1, f"tid main {threading.get_native_id()}\\nready\\n".encode())
lock.acquire()
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_an_interpreters_code_is_not_followed(tmp_path, python):
    program = tmp_path / "semaphore.py"
    program.write_text(SEMAPHORE)
    with play(python, program) as scene:
        wait = scene.wait_of("main", "semaphore")
        process = ProcProcess(scene.process.pid)
        world = World([process])
        trace = Tracing(world, wait, SEMAPHORE_FAMILY).trace(process, wait.task)
        assert trace is None or trace.opaque
        assert code_of(world, process).budget > MAX_INSTRUCTIONS * 9 // 10


class Memory:
    """A page of words, and what PythonMemory asks of a process."""

    def __init__(self, start=0x10000):
        self.start, self.data = start, bytearray(1 << 14)

    def put(self, address, *words):
        struct.pack_into(f"<{len(words)}Q", self.data, address - self.start, *words)
        return address

    def read(self, address, size):
        if not 0 <= address - self.start <= len(self.data) - size:
            raise ReadError(address, size)
        return bytes(self.data[address - self.start :][:size])

    def words(self, address, count):
        return struct.unpack(f"<{count}Q", self.read(address, 8 * count))

    def u64(self, address):
        return self.words(address, 1)[0]

    def kind(self, address, name, dictoffset=0):
        """A type of that name."""
        place = address - self.start
        self.data[place + 512 : place + 513 + len(name)] = name.encode() + b"\0"
        self.put(address + 24, address + 512)
        self.put(address + 288, dictoffset)
        return address

    def dictionary(self, address, kind, key, value):
        """A dictionary of to 3.10 with one entry."""
        self.put(address + 64, 1, 8, 0, 5, 1, 0, 0, key, value)
        return self.put(address, 1, kind, 1, 0, address + 64, 0)


def test_attributes_of_the_object_before_another_are_not_its_own():
    memory = Memory()
    names = {
        name: memory.kind(0x10000 + 1024 * at, name) for at, name in enumerate(("str", "dict"))
    }
    plain = memory.kind(0x11000, "Account", 16)
    key = memory.put(0x12000, 1, names["str"], 4, 0, 0)
    memory.data[0x2000 + 40 : 0x2000 + 45] = b"lock\0"
    mine = memory.dictionary(0x12100, names["dict"], key, 0x11111000)
    others = memory.dictionary(0x12200, names["dict"], key, 0x22222000)
    instance = memory.put(0x12320, 1, plain, mine)
    for before in (-32, -24):
        memory.put(instance + before, others)
    python = PythonMemory(memory)
    assert attribute_is(python, instance, "lock", 0x11111000)
    assert not attribute_is(python, instance, "lock", 0x22222000)
