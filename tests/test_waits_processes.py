"""Waits for System V IPC, children, timers and signals."""

import os
import signal
import subprocess

import pytest
from blocking import blocked, pids, programs, wait_of

from faultkit import waits
from faultkit.model import EVENT, HELD, INFERRED, OUTSIDE, PROVEN

SEMOP, SEMTIMEDOP, MSGRCV, MSGSND, WAIT4, WAITID = 65, 220, 70, 69, 61, 247
SLEEPS = (35, 230)

IPC = """
libc = ctypes.CDLL(None, use_errno=True)
class Sembuf(ctypes.Structure):
    _fields_ = [("num", ctypes.c_ushort), ("op", ctypes.c_short), ("flg", ctypes.c_short)]
def semop(semid, *ops):
    array = (Sembuf * len(ops))(*[Sembuf(n, op, 0) for n, op in ops])
    assert libc.semop(semid, array, len(ops)) == 0, ctypes.get_errno()
def semtimedop(semid, number, op):
    array = (Sembuf * 1)(Sembuf(number, op, 0))
    libc.semtimedop(semid, array, 1, (ctypes.c_long * 2)(100, 0))
semid = int(sys.argv[1])
"""
SETVAL, IPC_RMID = 16, 0


@pytest.fixture
def run():
    with programs() as started:
        yield started


@pytest.fixture
def libc():
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def semid(libc):
    """Two semaphores of value 1."""
    semid = libc.semget(0, 2, 0o1600)
    assert semid >= 0
    for number in range(2):
        assert libc.semctl(semid, number, SETVAL, 1) == 0
    yield semid
    libc.semctl(semid, 0, IPC_RMID)


@pytest.fixture
def queue(libc):
    msqid = libc.msgget(0, 0o1600)
    assert msqid >= 0
    yield msqid
    libc.msgctl(msqid, IPC_RMID, 0)


def test_semaphore_was_last_taken_by(run, semid):
    holder = run.start(IPC + "semop(semid, (1, -1))\nREADY\nsignal.pause()", semid)
    wait = wait_of(
        run.start(IPC + "READY\nsemop(semid, (0, -1), (1, -1))", semid), SEMOP, SEMTIMEDOP
    )
    assert (wait.lock.kind, wait.needs, wait.confidence) == ("sysv_sem", HELD, INFERRED)
    assert wait.lock.name == f"sysv sem id {semid}[1]"
    assert pids(wait.holders) == {holder.pid}
    assert wait.evidence[0] == f"last semop by pid {holder.pid}; value 0, wanted 1; 1 waiters"


def test_semaphore_taken_by_itself_or_by_the_dead_is_unknown(run, semid):
    code = IPC + "semop(semid, (0, -1))\nREADY\nsemop(semid, (0, -1))"
    wait = wait_of(run.start(code, semid), SEMOP, SEMTIMEDOP)
    assert (wait.holders, wait.candidates) == ((), None)
    assert "does not record" in wait.missing
    dead = run.start(IPC + "semop(semid, (1, -1))\nREADY", semid)
    dead.wait()
    wait = wait_of(run.start(IPC + "READY\nsemop(semid, (1, -1))", semid), SEMOP, SEMTIMEDOP)
    assert (wait.holders, wait.candidates) == ((), None)


def test_semaphore_of_a_threaded_process_leaves_candidates(run, semid):
    threads = "threading.Thread(target=signal.pause).start()\n"
    holder = run.start(IPC + "semop(semid, (1, -1))\n" + threads + "READY", semid)
    wait = wait_of(run.start(IPC + "READY\nsemop(semid, (1, -1))", semid), SEMOP, SEMTIMEDOP)
    assert wait.holders == ()
    assert len(wait.candidates) == 2 and pids(wait.candidates) == {holder.pid}


def test_semaphore_waited_for_to_be_zero_and_with_a_timeout(run, semid):
    wait = wait_of(run.start(IPC + "READY\nsemop(semid, (1, 0))", semid), SEMOP, SEMTIMEDOP)
    assert (wait.needs, wait.holders, wait.timed) == (EVENT, (), False)
    code = IPC + "semop(semid, (0, -1))\nREADY\nsemtimedop(semid, 0, -1)"
    assert wait_of(run.start(code, semid), SEMTIMEDOP).timed


def test_message_queue_leads_to_the_last_sender(run, queue):
    head = "libc = ctypes.CDLL(None); q = int(sys.argv[1]); text = struct.pack('q8x', 1)\n"
    send, receive = "libc.msgsnd(q, text, 8, 0)\n", "libc.msgrcv(q, text, 8, 0, 0)\n"
    wait = wait_of(run.start(head + "READY\n" + receive, queue), MSGRCV)
    assert (wait.lock.kind, wait.needs) == ("sysv_msg", OUTSIDE)
    run.end()
    sender = run.start(head + send + "READY\nsignal.pause()", queue)
    wait = wait_of(run.start(head + receive + "READY\n" + receive, queue), MSGRCV)
    assert (wait.needs, wait.confidence, wait.any_of) == (EVENT, INFERRED, True)
    assert pids(wait.holders) == {sender.pid}


CHILD = """
child = os.fork()
if child == 0:
    threading.Thread(target=signal.pause).start()
    signal.pause()
print("ready", child, flush=True)
"""


@pytest.fixture
def orphans():
    """Children that are to be ended with their parents."""
    found = []
    yield found
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.mark.parametrize(
    "call",
    [
        "os.waitpid(child, 0)",
        "os.waitpid(-1, 0)",
        "os.waitpid(0, 0)",
        "os.waitpid(-os.getpgrp(), 0)",
        "os.waitid(os.P_PID, child, os.WEXITED)",
        "os.waitid(os.P_ALL, 0, os.WEXITED)",
        "os.waitid(3, os.pidfd_open(child), os.WEXITED)",
    ],
)
def test_wait_for_a_child(run, orphans, call):
    parent = run.start(CHILD + call)
    child = int(parent.words[0])
    orphans.append(child)
    wait = wait_of(parent, WAIT4, WAITID)
    assert (wait.lock.kind, wait.lock.name, wait.needs) == ("child", f"child {child}", EVENT)
    assert wait.any_of
    assert pids(wait.holders) == {child}


def test_wait_for_one_child_is_not_for_the_other(run, orphans):
    parent = run.start(
        """
        first, second = os.fork(), os.fork()
        if 0 in (first, second):
            signal.pause()
        print("ready", first, second, flush=True)
        os.waitpid(first, 0)
        """
    )
    orphans += map(int, parent.words)
    assert pids(wait_of(parent, WAIT4).holders) == {orphans[0]}


def test_a_stopped_child_is_told(run, orphans):
    parent = run.start(CHILD + "os.waitpid(child, 0)")
    child = int(parent.words[0])
    orphans.append(child)
    seen = blocked(parent, WAIT4)
    os.kill(child, signal.SIGSTOP)
    while True:
        with open(f"/proc/{child}/stat") as stat:
            if " T " in stat.read():
                break
    assert any("stopped by a signal" in line for line in waits.recognise(seen).evidence)


def test_vfork_parent_waits_for_its_child(tmp_path):
    source = tmp_path / "v.c"
    source.write_text(
        "#include <unistd.h>\n#include <stdio.h>\n"
        "int main(void){ if (vfork() == 0) { for (;;) pause(); } return 0; }\n"
    )
    subprocess.run(["gcc", "-o", tmp_path / "v", source], check=True)
    parent = subprocess.Popen([tmp_path / "v"])
    try:
        wait = wait_of(parent, 58, 56)
        (child,) = pids(wait.holders)
        assert (wait.lock.kind, wait.needs, wait.confidence) == ("vfork", EVENT, PROVEN)
        with open(f"/proc/{child}/status") as status:
            assert f"PPid:\t{parent.pid}\n" in status.read()
        os.kill(child, signal.SIGKILL)
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.parametrize(
    "code,numbers,kind,timed",
    [
        ("c = ctypes.CDLL(None)\nREADY\nc.sleep(100)", SLEEPS, "sleep", True),
        ("READY\nsignal.pause()", (34,), "signal", False),
        ("READY\nsignal.sigwait([signal.SIGUSR1])", (128,), "signal", False),
        ("READY\nsignal.sigtimedwait([signal.SIGUSR1], 99)", (128,), "signal", True),
        ("e = ctypes.CDLL(None).eventfd(0, 0)\nREADY\nos.read(e, 8)", (0,), "eventfd", False),
        ("m, s = os.openpty()\nREADY\nos.read(s, 8)", (0,), "terminal", False),
        ("READY\nselect.select([], [], [])", (23, 270), "signal", False),
    ],
)
def test_waits_that_may_end_by_themselves(run, code, numbers, kind, timed):
    wait = wait_of(run.start(code), *numbers)
    assert (wait.lock.kind, wait.needs, wait.timed) == (kind, OUTSIDE, timed)
    assert wait.holders == ()
