"""Readers of /proc: what they make of real descriptors, and of lines that make no sense."""

import fcntl
import os
import select
import socket
import struct

import pytest

from faultkit.procfs import borrow, fds, locks, sockets, status, sysvipc


def test_lock_lines_of_both_files():
    held = locks.parse_lock("1: POSIX  ADVISORY  WRITE 359 00:13:11691 5 EOF")
    assert held == locks.FileLock("POSIX", "write", 359, (0, 0x13), 11691, 5, locks.END)
    assert locks.parse_lock("lock:\t1: POSIX  ADVISORY  WRITE 359 00:13:11691 5 EOF") == held
    waiting = locks.parse_lock("2: -> FLOCK  ADVISORY  READ 7 fe:01:9 0 EOF")
    assert (waiting.blocked, waiting.kind, waiting.device) == (True, "FLOCK", (0xFE, 1))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1:",
        "lock:",
        "1: POSIX ADVISORY WRITE x 00:13:1 0 EOF",
        "1: LEASE  ACTIVE UNLCK 1 0:1:2 0 9",
        "1: POSIX ADVISORY WRITE 1 <none>:0 0 EOF",
        "\x00" * 40,
    ],
)
def test_lines_that_are_no_locks(line):
    assert locks.parse_lock(line) is None


def test_conflicts_need_an_overlap_and_a_writer():
    lock = locks.FileLock("POSIX", "read", 1, (0, 0), 1, 10, 19)
    assert lock.conflicts("write", 19, 30)
    assert not lock.conflicts("write", 20, 30)
    assert not lock.conflicts("write", 0, 9)
    assert not lock.conflicts("read", 0, locks.END)


def test_own_locks_are_in_fdinfo_and_in_the_table(tmp_path):
    with open(tmp_path / "f", "w+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        info = fds.fdinfo(os.getpid(), file.fileno())
        device, inode, _ = fds.file_identity(os.getpid(), file.fileno())
        assert [lock.kind for lock in info.locks] == ["FLOCK"]
        assert info.locks[0].file == (device, inode)
        assert info.locks[0] in locks.all_locks()
        assert info.reads and info.writes


def test_epoll_sets_and_their_inodes():
    a, b = socket.socketpair()
    with select.epoll() as epoll:
        epoll.register(a, select.EPOLLIN)
        (watched,) = fds.fdinfo(os.getpid(), epoll.fileno()).watched
        assert watched.fd == a.fileno()
        assert watched.events & select.EPOLLIN
        assert watched.inode in (None, os.fstat(a.fileno()).st_ino)
    a.close()
    b.close()


def test_same_description_is_that_of_a_duplicate(tmp_path):
    path = tmp_path / "f"
    path.touch()
    one, two = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    copy = os.dup(one)
    pid = os.getpid()
    assert fds.same_description(pid, one, pid, copy) is True
    assert fds.same_description(pid, one, pid, two) is False
    for fd in (one, two, copy):
        os.close(fd)


def test_unix_sockets_know_their_peers(tmp_path):
    a, b = socket.socketpair()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "s"))
    table = sockets.unix_sockets()
    first, second = (table[os.fstat(s.fileno()).st_ino] for s in (a, b))
    assert (first.peer, second.peer) == (second.inode, first.inode)
    listening = table[os.fstat(server.fileno()).st_ino]
    assert listening.state == sockets.LISTEN
    assert listening.pending == (os.fstat(client.fileno()).st_ino,)
    assert listening.name.rstrip(b"\0") == str(tmp_path / "s").encode()
    for each in (a, b, server, client):
        each.close()


def test_tcp_lines():
    line = "0: 0100007F:1F90 0200007F:A03E 01 00000003:00000005 00:00000000 00000000 0 0 4242 1"
    assert sockets.parse_tcp(line) == sockets.TcpSocket(
        (b"\x7f\0\0\1", 8080), (b"\x7f\0\0\2", 0xA03E), 1, 3, 5, 4242
    )
    mapped = line.replace("0100007F", "0000000000000000FFFF00000100007F")
    assert sockets.parse_tcp(mapped).local == (b"\x7f\0\0\1", 8080)
    for bad in ("", "sl local_address", line.replace("0100007F", "01"), line[:40]):
        assert sockets.parse_tcp(bad) is None


def test_semaphores_and_their_last_user():
    import ctypes

    libc = ctypes.CDLL(None)
    semid = libc.semget(0, 1, 0o1600)
    try:
        assert libc.semop(semid, struct.pack("HhH", 0, 1, 0), 1) == 0
        assert sysvipc.semaphore(semid, 0) == sysvipc.Semaphore(1, os.getpid(), 0, 0)
        assert sysvipc.semaphore_keys()[semid] == 0
        assert sysvipc.semaphore(semid, 7) is None
    finally:
        libc.semctl(semid, 0, 0)
    assert sysvipc.semaphore(semid, 0) is None


def test_what_is_gone_is_told_as_such():
    gone = 1 << 22
    assert status.status(gone) == {}
    assert status.is_dead(gone)
    assert status.children(gone) == []
    assert fds.fdinfo(gone, 0) is None
    assert fds.link(gone, 0) is None
    assert fds.mounts(gone) == {}
    assert sockets.tcp_sockets(gone) == []


def test_a_zombie_is_dead_and_a_child():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert child in status.children(os.getpid())
    assert status.is_dead(child)
    os.waitpid(child, 0)
    assert not status.is_dead(os.getpid())


def test_switches_stand_still_while_a_thread_sleeps():
    import subprocess
    import time

    child = subprocess.Popen(["sleep", "60"])
    try:
        while status.state(child.pid) != "S":
            time.sleep(0.01)
        time.sleep(0.05)
        before = status.switches(child.pid, child.pid)
        time.sleep(0.1)
        assert status.switches(child.pid, child.pid) == before
    finally:
        child.kill()
        child.wait()
    own = status.switches(os.getpid(), os.getpid())
    time.sleep(0.01)
    assert status.switches(os.getpid(), os.getpid()) > own


def test_readiness_is_that_of_the_kernel():
    r, w = os.pipe()
    pid = os.getpid()
    assert borrow.readiness(pid, r, False).ready is False
    assert borrow.readiness(pid, w, True).ready is True
    os.write(w, b"x")
    assert borrow.readiness(pid, r, False).ready is True
    assert os.read(r, 2) == b"x", "asking has read something"
    os.close(r)
    os.close(w)
    assert borrow.readiness(pid, 4000, False) == borrow.UNKNOWN
