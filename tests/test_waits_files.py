"""Waits for file locks: who holds them, by what the kernel says."""

import os
import signal
import subprocess
import time

import pytest
from blocking import blocked, pids, programs, wait_of

from faultkit import waits
from faultkit.model import HELD, INFERRED, OUTSIDE, PROVEN
from faultkit.procfs.locks import END
from faultkit.procfs.status import sees_all_processes

FLOCK, FCNTL = 73, 72

HOLD_FLOCK = """
f = open(sys.argv[1], "r+"); fcntl.flock(f, int(sys.argv[2]))
READY
signal.pause()
"""
WANT_FLOCK = """
f = open(sys.argv[1], "r+")
READY
fcntl.flock(f, int(sys.argv[2]))
"""
HOLD_POSIX = """
f = open(sys.argv[1], "r+"); fcntl.lockf(f, int(sys.argv[2]), int(sys.argv[4]), int(sys.argv[3]))
READY
signal.pause()
"""
WANT_POSIX = HOLD_POSIX.replace("READY", "").replace("f = open", "READY\nf = open")
HOLD_OFD = """
f = open(sys.argv[1], "r+")
fcntl.fcntl(f, 37, struct.pack("hhqqi4x", 1, 0, int(sys.argv[2]), int(sys.argv[3]), 0))
READY
signal.pause()
"""
WANT_OFD = HOLD_OFD.replace("READY", "").replace("f = open", "READY\nf = open").replace("37", "38")


@pytest.fixture
def run():
    with programs() as started:
        yield started


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.lock"
    path.write_bytes(b"x" * 100)
    return path


def test_flock_names_the_holder(run, path):
    holder = run.start(HOLD_FLOCK, path, 2)
    wait = wait_of(run.start(WANT_FLOCK, path, 1), FLOCK)
    assert (wait.lock.kind, wait.lock.name, wait.mode) == ("flock", str(path), "read")
    assert (wait.needs, wait.confidence, pids(wait.holders)) == (HELD, PROVEN, {holder.pid})
    assert f"FLOCK WRITE held by pid {holder.pid}" in wait.evidence[0]


def test_flock_key_is_the_same_from_both_sides_of_a_link(run, path):
    other = path.with_name("b.lock")
    os.link(path, other)
    holder = run.start(HOLD_FLOCK, path, 2)
    one = wait_of(run.start(WANT_FLOCK, path, 2), FLOCK)
    two = wait_of(run.start(WANT_FLOCK, other, 2), FLOCK)
    assert one.lock.key == two.lock.key
    assert pids(two.holders) == {holder.pid}


def test_flock_readers_must_all_let_go(run, path):
    readers = {run.start(HOLD_FLOCK, path, 1).pid for _ in range(2)}
    wait = wait_of(run.start(WANT_FLOCK, path, 2), FLOCK)
    assert pids(wait.holders) == readers
    assert not wait.any_of
    assert wait.mode == "write"


def test_flock_inherited_from_a_process_that_is_gone(run, path):
    heir = run.start(
        """
        f = open(sys.argv[1], "r+"); fcntl.flock(f, 2)
        if os.fork():
            os._exit(0)
        while os.getppid() == int(sys.argv[2]): pass
        time.sleep(0.1)
        print("ready", os.getpid(), flush=True)
        signal.pause()
        """,
        path,
        -1,
    )
    pid = int(heir.words[0])
    try:
        heir.wait()
        waiting = blocked(run.start(WANT_FLOCK, path, 2), FLOCK)
        wait = waits.recognise(waiting)
        assert pids(wait.holders) == {pid}
        assert any(f"taken by pid {heir.pid}, now gone" in line for line in wait.evidence)
        assert not waiting.world.limits  # nothing was left unseen
    finally:
        os.kill(pid, signal.SIGKILL)


def test_flock_by_a_second_open_is_a_self_deadlock(run, path):
    program = run.start(
        """
        a = open(sys.argv[1], "r+"); b = open(sys.argv[1], "r+"); fcntl.flock(a, 2)
        READY
        fcntl.flock(b, 2)
        """,
        path,
    )
    wait = wait_of(program, FLOCK)
    assert wait.holders == (wait.task,)
    assert wait.confidence == PROVEN


def test_flock_of_a_process_with_threads_leaves_candidates(run, path):
    holder = run.start(
        """
        f = open(sys.argv[1], "r+"); fcntl.flock(f, 2)
        threading.Thread(target=signal.pause).start()
        READY
        signal.pause()
        """,
        path,
    )
    wait = wait_of(run.start(WANT_FLOCK, path, 2), FLOCK)
    assert wait.holders == ()
    assert wait.any_of
    assert pids(wait.candidates) == {holder.pid} and len(wait.candidates) == 2
    assert f"held by process {holder.pid} (thread unknown)" in wait.evidence


def test_flock_that_nobody_holds_any_more_may_go_on(run, path):
    """A stopped waiter whose lock has become free is not stuck; in a container, somebody outside
    may hold it."""
    holder = run.start(HOLD_FLOCK, path, 2)
    waiter = run.start(WANT_FLOCK, path, 2)
    seen = blocked(waiter, FLOCK)
    waiter.send_signal(signal.SIGSTOP)
    holder.kill()
    holder.wait()
    wait = waits.recognise(seen)
    assert (wait.needs, wait.holders) == (OUTSIDE if sees_all_processes() else HELD, ())


def test_posix_lock_counts_conflicting_ranges_only(run, path):
    run.start(HOLD_POSIX, path, 2, 0, 10)
    holder = run.start(HOLD_POSIX, path, 2, 20, 10)
    wait = wait_of(run.start(WANT_POSIX, path, 2, 15, 10), FCNTL)
    assert (wait.lock.kind, wait.needs, wait.confidence) == ("posix_lock", HELD, PROVEN)
    assert pids(wait.holders) == {holder.pid}
    assert wait.lock.name == f"{path} [20..29]"


def test_posix_read_locks_do_not_conflict_with_a_reader(run, path):
    run.start(HOLD_POSIX, path, 1, 0, 10)
    writer = run.start(HOLD_POSIX, path, 2, 50, 0)
    wait = wait_of(run.start(WANT_POSIX, path, 1, 0, 0), FCNTL)
    assert pids(wait.holders) == {writer.pid}
    assert wait.mode == "read"


@pytest.mark.parametrize("whence,start", [(1, 5), (2, -95)])
def test_posix_lock_relative_to_the_position_or_the_end(run, path, whence, start):
    run.start(HOLD_POSIX, path, 2, 0, 5)
    holder = run.start(HOLD_POSIX, path, 2, 6, 1)
    waiter = run.start(
        """
        f = open(sys.argv[1], "r+")
        READY
        fcntl.lockf(f, fcntl.LOCK_EX, 5, int(sys.argv[3]), int(sys.argv[2]))
        """,
        path,
        whence,
        start,
    )
    assert pids(wait_of(waiter, FCNTL).holders) == {holder.pid}


def test_ofd_lock_held_by_another_description(run, path):
    holder = run.start(HOLD_OFD, path, 0, 0)
    wait = wait_of(run.start(WANT_OFD, path, 3, 4), FCNTL)
    assert (wait.lock.kind, wait.needs) == ("ofd_lock", HELD)
    assert pids(wait.holders) == {holder.pid}


def test_posix_and_ofd_locks_conflict(run, path):
    holder = run.start(HOLD_OFD, path, 0, 0)
    wait = wait_of(run.start(WANT_POSIX, path, 2, 0, 0), FCNTL)
    assert pids(wait.holders) == {holder.pid}
    assert wait.lock.key[0] == "ofd_lock"


def test_ofd_upgrade_is_not_kept_by_its_own_read_lock(run, path):
    """Two descriptions hold a read lock, one of them inherited by a child; the upgrade waits
    for the other one only."""
    holder = run.start(HOLD_OFD.replace('"hhqqi4x", 1', '"hhqqi4x", 0'), path, 0, 0)
    waiter = run.start(
        """
        f = open(sys.argv[1], "r+")
        fcntl.fcntl(f, 37, struct.pack("hhqqi4x", 0, 0, 0, 0, 0))
        child = os.fork()
        if child == 0:
            signal.pause()
        print("ready", child, flush=True)
        fcntl.fcntl(f, 38, struct.pack("hhqqi4x", 1, 0, 0, 0, 0))
        """,
        path,
    )
    try:
        assert pids(wait_of(waiter, FCNTL).holders) == {holder.pid}
    finally:
        os.kill(int(waiter.words[0]), signal.SIGKILL)


def test_flock_cycle_is_followed_from_either_side(run, tmp_path):
    names = [tmp_path / "a", tmp_path / "b"]
    for name in names:
        name.touch()
    code = """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    a = open(sys.argv[1], "r+"); b = open(sys.argv[2], "r+"); fcntl.flock(a, 2)
    READY
    signal.sigwait([signal.SIGUSR1])
    fcntl.flock(b, 2)
    """
    one, two = run.start(code, *names), run.start(code, *reversed(names))
    for program in (one, two):
        program.send_signal(signal.SIGUSR1)
    assert pids(wait_of(one, FLOCK).holders) == {two.pid}
    assert pids(wait_of(two, FLOCK).holders) == {one.pid}


def test_a_vanished_waiter_gives_no_traceback(run, path):
    run.start(HOLD_FLOCK, path, 2)
    waiter = run.start(WANT_FLOCK, path, 2)
    seen = blocked(waiter, FLOCK)
    waiter.kill()
    waiter.wait()
    wait = waits.recognise(seen)
    assert wait.missing is not None and wait.holders == ()


def test_flock_in_a_core_says_what_is_missing(run, path):
    run.start(HOLD_FLOCK, path, 2)
    seen = blocked(run.start(WANT_FLOCK, path, 2), FLOCK)
    seen.process.live = False
    wait = waits.recognise(seen)
    assert (wait.lock.kind, wait.lock.name, wait.needs) == ("flock", "fd 3", HELD)
    assert "not in a core" in wait.missing


def test_flock_seen_while_gdb_holds_the_waiter(run, path):
    """Under a stop the kernel has withdrawn the request from /proc/locks."""
    holder = run.start(HOLD_FLOCK, path, 2)
    waiter = run.start(WANT_FLOCK, path, 2)
    seen = blocked(waiter, FLOCK)
    gdb = subprocess.Popen(
        ["gdb", "-nx", "-batch", "-p", str(waiter.pid), "-ex", "shell sleep 20"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with open(f"/proc/{waiter.pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "t":
                    break
            time.sleep(0.05)
        else:
            pytest.fail("gdb did not stop it")
        wait = waits.recognise(seen)
        assert (wait.needs, pids(wait.holders)) == (HELD, {holder.pid})
    finally:
        gdb.terminate()
        gdb.wait()


def test_inferred_is_never_said_of_a_recorded_lock(run, path):
    holder = run.start(HOLD_POSIX, path, 2, 0, 0)
    wait = wait_of(run.start(WANT_POSIX, path, 2, 0, 0), FCNTL)
    assert wait.confidence != INFERRED
    assert wait.lock.key[2:] == (0, END)
    assert pids(wait.holders) == {holder.pid}
