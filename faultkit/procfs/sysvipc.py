"""System V semaphores and message queues, of our own IPC namespace."""

from __future__ import annotations

from faultkit.procfs.process import read_proc
from faultkit.record import NamedTuple

GETPID, GETVAL, GETNCNT, GETZCNT = 11, 12, 14, 15  # include/uapi/linux/sem.h


class Semaphore(NamedTuple):
    """One semaphore of a set.  `last_pid` is the process that last changed it, 0 if none."""

    value: int
    last_pid: int
    waiters: int
    zero_waiters: int


class MessageQueue(NamedTuple):
    """One queue; the pids are 0 where nobody has sent or received yet."""

    key: int
    messages: int
    last_sender: int
    last_receiver: int


def semaphore_keys() -> dict[int, int]:
    """The keys of all semaphore sets (IPC_PRIVATE is 0), by semid."""
    return {row["semid"]: row["key"] for row in _table("/proc/sysvipc/sem")}


def message_queues() -> dict[int, MessageQueue]:
    """All message queues, by msqid."""
    return {
        row["msqid"]: MessageQueue(row["key"], row["qnum"], row["lspid"], row["lrpid"])
        for row in _table("/proc/sysvipc/msg")
    }


def semaphore(semid: int, number: int) -> Semaphore | None:
    """The semaphore's state by semctl(2); None if it is gone or not ours to read."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        answers = [libc.semctl(semid, number, command) for command in (GETVAL, GETPID, GETNCNT)]
        answers.append(libc.semctl(semid, number, GETZCNT))
    except (ImportError, OSError, AttributeError):
        return None
    return None if min(answers) < 0 else Semaphore(*answers)


def _table(path: str) -> list[dict[str, int]]:
    try:
        lines = read_proc(path, 1 << 24).decode("ascii", "replace").splitlines()
    except OSError:
        return []
    names = lines[0].split() if lines else []
    rows = []
    for line in lines[1:]:
        try:
            rows.append(dict(zip(names, map(int, line.split()))))
        except ValueError:
            continue
    return [row for row in rows if len(row) == len(names)]
