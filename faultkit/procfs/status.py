"""Small facts about one process from /proc/PID: its state, parents, children and namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain

from faultkit.procfs.process import read_proc
from faultkit.world import process_ids

INIT_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def status(pid: int, tid: int | None = None) -> dict[str, str]:
    """The fields of /proc/PID/status (of a thread's, with `tid`); {} if it is gone."""
    path = f"/proc/{pid}/status" if tid is None else f"/proc/{pid}/task/{tid}/status"
    try:
        text = read_proc(path).decode("utf-8", "replace")
    except OSError:
        return {}
    fields = {}
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        fields[name] = value.strip()
    return fields


def state(pid: int, tid: int | None = None) -> str | None:
    """The state's letter (R, S, D, T, t, Z...), None if the task is gone."""
    return status(pid, tid).get("State", "")[:1] or None


def switches(pid: int, tid: int) -> int | None:
    """How often the thread was taken off a processor.  The same number twice: it has not run in
    between.  None if it is gone."""
    fields = status(pid, tid)
    try:
        return int(fields["voluntary_ctxt_switches"]) + int(fields["nonvoluntary_ctxt_switches"])
    except (KeyError, ValueError):
        return None


def is_dead(pid: int) -> bool:
    """Whether nothing of the process runs any more: gone, or a zombie without threads (a dead
    leader of a process whose other threads live is a zombie too)."""
    if state(pid) not in (None, "Z", "X"):
        return False
    try:
        return len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return True


SIGKILL = 9
ENOUGH = 2  # living threads that are not being killed: who calls exit_group(2) is not marked itself


def any_alive(pid: int, known: Iterable[int] = ()) -> bool:
    """Whether any thread of the process lives, and is not just being killed; those of a killed
    process that is traced stay as zombies until the tracer has waited for them.  `known` threads
    are asked first: to list thousands takes a while."""
    living = 0
    for tid in chain(known, _tids(pid)):
        fields = status(pid, tid)
        if not _lives(fields):
            continue
        if _is_being_killed(fields):
            return False
        living += 1
        if living == ENOUGH:
            break
    return living > 0


def _tids(pid: int) -> Iterator[int]:
    try:
        yield from map(int, os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return


def _lives(fields: dict[str, str]) -> bool:
    return fields.get("State", "Z")[:1] not in ("Z", "X")


def _is_being_killed(fields: dict[str, str]) -> bool:
    """Whether SIGKILL is pending, which a group's exit leaves with each of its threads
    (kernel/signal.c, zap_other_threads): they run once more, to their end."""
    try:
        pending = [int(fields.get(name, "0"), 16) for name in ("SigPnd", "ShdPnd")]
    except ValueError:
        return False
    return any(signals & 1 << (SIGKILL - 1) for signals in pending)


def handled_signals(pid: int) -> frozenset[int] | None:
    """The signals that the process has handlers of its own for (SigCgt); None if that can't be
    told."""
    try:
        caught = int(status(pid).get("SigCgt", "0"), 16)
    except ValueError:
        return None
    return frozenset(number for number in range(1, 65) if caught >> (number - 1) & 1)


def process_group(pid: int) -> int | None:
    """The process group's id, None if the process is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def namespace(pid: int, kind: str) -> str | None:
    """The identity ("net:[4026531840]") of a namespace of the process, None if unreadable."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


def is_our_namespace(pid: int, kind: str) -> bool:
    """Whether the process shares our namespace of that kind; True where it can't be told."""
    theirs = namespace(pid, kind)
    return theirs is None or theirs == namespace(os.getpid(), kind)


def sees_all_processes() -> bool:
    """Whether our /proc shows every process of the machine: not so inside a container."""
    return namespace(os.getpid(), "pid") in (INIT_PID_NAMESPACE, None)


def inner_pid(pid: int, level_of: int) -> int:
    """The id that the process `pid` has in the pid namespace of the process `level_of`, which
    is at the same level or above it (NSpid lists the ids from our namespace inwards)."""
    level = len(status(level_of).get("NSpid", "").split())
    ids = status(pid).get("NSpid", "").split()
    if 0 < level <= len(ids):
        return int(ids[level - 1])
    return pid


def innermost_pid(pid: int) -> int:
    """The id that the process has in its own pid namespace."""
    ids = status(pid).get("NSpid", "").split()
    return int(ids[-1]) if ids else pid


def pids_like(pid: int) -> dict[int, int]:
    """The processes in the pid namespace of `pid` and below it: their ids there -> their ids
    here."""
    level = len(status(pid).get("NSpid", "").split())
    found: dict[int, int] = {}
    for other in process_ids():
        ids = status(other).get("NSpid", "").split()
        if 0 < level <= len(ids) and (
            len(ids) > level or namespace(other, "pid") == namespace(pid, "pid")
        ):
            found.setdefault(int(ids[level - 1]), other)
    return found


def children(pid: int, tid: int | None = None) -> list[int]:
    """The children of a process, or of one of its threads, in the order of their birth.

    From /proc/PID/task/TID/children; where the kernel has none (CONFIG_PROC_CHILDREN) from
    every process's PPid, which can't tell the parent's threads apart."""
    try:
        tids = [tid] if tid is not None else [int(t) for t in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []
    found: list[int] = []
    for thread in tids:
        path = f"/proc/{pid}/task/{thread}/children"
        try:
            found += [int(child) for child in read_proc(path, 1 << 22).split()]
        except FileNotFoundError:
            if os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"):
                continue  # this thread ended
            return [p for p in process_ids() if status(p).get("PPid") == str(pid)]
        except OSError:
            continue
    return found
