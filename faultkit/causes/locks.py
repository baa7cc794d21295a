"""The kernel's sleeping locks: which one, by who takes it, and who may hold it.

No lock names its holder in /proc.  /proc/PID/stack even leaves out the locks' own functions
(kernel/stacktrace.c, stack_trace_consume_entry_nosched()), so that its first line is who takes the
lock.  So a holder is inferred: a task of the same process, or on the same file system, that is
blocked itself and not by this lock; or it is what the kernel's hung-task detector said."""

from __future__ import annotations

import os
from collections.abc import Sequence

from faultkit.causes import GENERIC, Explanation, is_sleep
from faultkit.causes._lock_names import LOCKS, MMAP, LockName
from faultkit.causes.chain import mount_link, resource_of, task_link
from faultkit.causes.recorded import with_wait
from faultkit.causes.view import Blocked, OpenFile, View
from faultkit.findings import UNNAMED
from faultkit.model import INFERRED, PROVEN, Resource, Wait
from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


CAUSE = "lock"
CALLERS = frozenset(LOCKS)
FUNCTIONS = frozenset(
    """
    __mutex_lock __mutex_lock_slowpath mutex_lock mutex_lock_killable mutex_lock_io
    mutex_lock_nested __mutex_lock_common __mutex_lock_killable_slowpath __ww_mutex_lock
    __ww_mutex_lock_slowpath ww_mutex_lock
    rwsem_down_read_slowpath rwsem_down_write_slowpath rwsem_down_read_failed
    rwsem_down_write_failed rwsem_down_read_failed_killable rwsem_down_write_failed_killable
    down_read down_write down_read_killable down_write_killable call_rwsem_down_read_failed
    call_rwsem_down_write_failed rwbase_read_lock rwbase_write_lock __rwbase_read_lock
    percpu_rwsem_wait __percpu_down_read percpu_down_write
    rt_mutex_slowlock __rt_mutex_slowlock rt_mutex_slowlock_block rt_mutex_lock rtlock_slowlock
    rtlock_slowlock_locked rt_spin_lock rt_mutex_schedule
    __down __down_common down __down_killable down_killable __down_timeout down_timeout
    """.split()
)
PRIORITY = GENERIC + 10
MOST_HOLDERS = 4


class _Lock(NamedTuple):
    """What the stack tells: the lock's kind, its name if the caller is known, the caller."""

    kind: str
    name: LockName | None
    caller: str


def explain(blocked: Blocked, view: View) -> Explanation | None:
    """Waits for a lock: its kind and name, and who may hold it."""
    lock = _lock(blocked.functions)
    if lock is None:
        return None
    wait = view.wait(blocked)
    if wait is not None and wait.lock.address is not None:
        return _recorded(blocked, view, lock, wait)
    name = lock.name.words if lock.name else f"a {lock.kind} that {lock.caller}() takes"
    resource = resource_of(view, blocked)
    scope: Any = None
    if lock.name is MMAP:
        name = f"mmap_lock of process {blocked.task.pid}"
        scope = blocked.task.pid
        resource = Resource()
    elif lock.name is not None and lock.name.of_file:
        scope = locked = locked_path(view.file(blocked))
        if locked is not None:
            name = lock.name.words.replace("a file or directory", locked)
    holders, evidence, confidence = _holders(blocked, view, lock)
    links = [task_link(view, holder.task) for holder in holders]
    if not links and lock.name is not None and lock.name.of_file:
        file = view.file(blocked)
        if file is not None and file.mount is not None:
            links = [mount_link(file.mount)]
    return Explanation(
        f"waits for {name}",
        (lock.kind, name, scope),
        resource._replace(lock=name),
        tuple(links[:1] if holders else links),
        "" if holders else _advice(lock, view),
        evidence,
        confidence,
        lock.kind,
    )


def _recorded(blocked: Blocked, view: View, lock: _Lock, wait: Wait) -> Explanation:
    """By the lock itself: which one it is, and who has it."""
    address = wait.lock.address or 0
    own = view.name_of(wait.lock)
    known = lock.name.words if lock.name else None
    if lock.name is MMAP:
        known = f"mmap_lock of process {blocked.task.pid}"
    kind = _KINDS.get(wait.lock.kind, wait.lock.kind)
    more = f" ({own})" if own and lock.name is not MMAP else ""
    name = f"{known or kind} at {address:#x}{more}"
    if not known and own and UNNAMED not in own:
        name = f"the {kind} {own}"
    how = f", to {wait.mode}" if wait.mode in ("read", "write") else ""
    resource = Resource() if lock.name is MMAP else resource_of(view, blocked)
    found = Explanation(
        f"waits for {name}{how}",
        (kind, wait.lock.identity),
        resource._replace(lock=name),
        evidence=wait.evidence,
        confidence=wait.confidence,
        cause=kind,
        next="" if wait.holders else _advice(lock, view),
    )
    return with_wait(found, view, wait)


_KINDS = {"kmutex": "mutex", "ww_mutex": "mutex", "percpu_rwsem": "percpu-rwsem"}
_KINDS["rt_mutex"] = "rt-mutex"


def _lock(functions: Sequence[str]) -> _Lock | None:
    kind = next((_kind(name) for name in functions[:NEAR_LOCK] if name in FUNCTIONS), None)
    callers = [name for name in functions if not is_sleep(name) and name not in FUNCTIONS]
    if not callers:
        return _Lock(kind, None, "?") if kind else None
    caller = next((name for name in callers[:3] if name in LOCKS), None) if kind else callers[0]
    known = LOCKS.get(caller or "")
    if known is None or (kind == "percpu-rwsem") > (known.kind == "percpu-rwsem"):
        return _Lock(kind, None, callers[0]) if kind else None
    return _Lock(kind or known.kind, known, caller or "")


NEAR_LOCK = 6  # frames from the top in which the lock's own functions are


def _kind(function: str) -> str:
    if "mutex" in function and not function.startswith(("rt_", "__rt_")):
        return "mutex"
    if "percpu" in function:
        return "percpu-rwsem"
    if function.startswith(("rt", "__rt")):
        return "rt-mutex"
    if "read" in function or "write" in function:
        return "rwsem"
    return "semaphore"


def _holders(
    blocked: Blocked, view: View, lock: _Lock
) -> tuple[list[Blocked], tuple[str, ...], str]:
    """(who holds it, why we say so, confidence)."""
    named = view.lock_owner(blocked.task)
    if named is not None:
        owner, said = named
        found = view.find(owner.pid, owner.tid) or Blocked(owner)
        return [found], (said,), INFERRED  # "likely": it was read without the lock's own lock
    if lock.name is MMAP:
        return (
            [
                other
                for other in view.threads(blocked.task.pid)
                if other.task != blocked.task and _holds_mmap(other)
            ][:MOST_HOLDERS],
            ("it is blocked in a system call or page fault that takes the same mmap_lock",),
            INFERRED,
        )
    if lock.name is None or not lock.name.holders:
        return [], (), PROVEN
    suspects = []
    near = []
    file = view.file(blocked)
    locked = locked_path(file)
    for other in view.others():
        if other.task == blocked.task or not lock.name.holders.intersection(other.functions):
            continue
        theirs = _lock(other.functions)
        if theirs is not None and theirs.name is lock.name and _waits_for_lock(other):
            continue  # it queues as well
        if lock.name.of_file:
            theirs_file = view.file(other)
            if not _on_same_file_system(file, theirs_file):
                continue
            if locked is not None and theirs_file is not None and theirs_file.path is not None:
                if locked in (theirs_file.path, os.path.dirname(theirs_file.path)):
                    near.append(other)
                continue
        suspects.append(other)
    suspects = near or suspects
    suspects.sort(key=lambda other: -(other.seconds or 0.0))
    return (
        suspects[:MOST_HOLDERS],
        ("it is blocked inside of code that holds such a lock, on the same file system",)
        if suspects and lock.name.of_file
        else ("it is blocked inside of code that holds this lock",)
        if suspects
        else (),
        INFERRED if suspects else PROVEN,
    )


def locked_path(file: OpenFile | None) -> str | None:
    """The path of what a call locks: the file that is open, or the directory that holds the name;
    None if it is not known."""
    if file is None or file.path is None:
        return None
    return file.path if file.fd is not None else os.path.dirname(file.path)


def _waits_for_lock(other: Blocked) -> bool:
    """Whether the task waits for a lock itself, by the same reading of its stack."""
    for name in other.functions:
        if name in FUNCTIONS:
            return True
        if not is_sleep(name):
            return name in LOCKS
    return False


def _holds_mmap(other: Blocked) -> bool:
    if other.task.state not in ("D", "S"):
        return False
    lock = _lock(other.functions)
    if lock is not None and lock.name is MMAP and _waits_for_lock(other):
        return False
    return bool(MMAP.holders.intersection(other.functions))


def _on_same_file_system(mine: object, theirs: object) -> bool:
    """Whether two files are on one file system; True where either is unknown."""
    my_mount, their_mount = getattr(mine, "mount", None), getattr(theirs, "mount", None)
    if my_mount is None or their_mount is None:
        return True
    return bool(my_mount.device == their_mount.device)


def _advice(lock: _Lock, view: View) -> str:
    advice = lock.name.advice if lock.name else ""
    if not view.live:
        return advice or "who holds it is not recorded: see which task's stack is inside of it"
    where = "in the kernel log (echo d > /proc/sysrq-trigger needs lockdep)"
    advice = advice or f"who holds it is not recorded here: see hung-task reports {where}"
    return f"{advice}; a dump tells: faultkit in crash"
