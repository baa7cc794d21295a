"""glibc's pthread_rwlock_t (also behind std::shared_mutex): the writer is recorded, readers are
only counted (nptl/pthread_rwlock_common.c)."""

from __future__ import annotations

from faultkit.layouts.glibc import (
    READERS,
    WRITERS_FUTEX,
    WRPHASE_FUTEX,
    RwLock,
    read_rwlock,
)
from faultkit.model import Lock, Wait
from faultkit.target import ReadError
from faultkit.waits import _futex
from faultkit.waits._owner import held_by
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 20

FUTEX_USED, RWAITING = 2, 4


def recognise(blocked: Blocked) -> Wait | None:
    """A wait for a rwlock, as reader or writer, by the word it sleeps on."""
    call = _futex.parse(blocked)
    if call is None or not call.is_glibc_bitset:  # else a lock of others, of neighbouring words
        return None
    for word, mode_of, sleeps_on in (
        (WRPHASE_FUTEX, _mode_at_wrphase, FUTEX_USED),
        (WRITERS_FUTEX, _mode_at_writers, FUTEX_USED),
        (READERS, _mode_at_readers, RWAITING),
    ):
        address = call.uaddr - word
        if address & 7 or not call.value & sleeps_on:
            continue
        try:
            rwlock = read_rwlock(blocked.process, address)
        except ReadError:
            continue
        if not rwlock.plausible or rwlock.shared == int(call.private):
            continue
        mode = mode_of(rwlock, call.value)
        if mode is not None:
            return _wait(blocked, call, address, rwlock, mode, word)
    return None


def _mode_at_wrphase(rwlock: RwLock, value: int) -> str | None:
    """Readers sleep here while writers have their phase, the first writer while readers do."""
    if value == FUTEX_USED | 1 and rwlock.write_phase and rwlock.wrphase_futex == value:
        return "read"
    if value == FUTEX_USED and rwlock.write_locked and rwlock.wrphase_futex == value:
        return "write"
    return None


def _mode_at_writers(rwlock: RwLock, value: int) -> str | None:
    """Writers sleep here while another writer holds the lock or is first in line; only a lock
    that prefers writers counts them (prefer_writer in __pthread_rwlock_wrlock_full)."""
    counted = rwlock.writers or not rwlock.flags
    if value == FUTEX_USED | 1 and rwlock.writers_futex == value and counted:
        return "write"
    return None


def _mode_at_readers(rwlock: RwLock, value: int) -> str | None:
    """Readers of a lock that prefers writers sleep here, behind a writer in line."""
    if value == rwlock.readers and value & RWAITING and rwlock.write_locked and rwlock.flags:
        return "read"
    return None


def _wait(
    blocked: Blocked, call: _futex.FutexCall, address: int, rwlock: RwLock, mode: str, word: int
) -> Wait:
    lock = Lock("rwlock", address, key=_futex.lock_key(blocked, address, call.private))
    if rwlock.cur_writer:
        return held_by(
            blocked,
            lock,
            rwlock.cur_writer,
            call.private,
            mode=mode,
            timed=call.timed,
            evidence=(f"rwlock's cur_writer is {rwlock.cur_writer}",),
        )
    wait = Wait(blocked.task, lock, mode=mode, timed=call.timed)
    count = rwlock.reader_count
    if word != WRPHASE_FUTEX:
        count -= int(word == READERS)
        return wait.but(
            queued=True, evidence=("queues behind a writer that waits for the same rwlock",)
        )
    if rwlock.write_phase:
        return wait.but(changing=True, missing="the rwlock changes hands just now; look again")
    if count == 0:
        return wait.but(
            fault="lost-wakeup", fault_detail="no reader and no writer holds the rwlock"
        )
    return wait.but(
        candidates=blocked.world.members(blocked.process),
        holder_count=count,
        evidence=(f"rwlock counts {count} reader{'s' * (count != 1)} that hold it",),
        missing="glibc counts a rwlock's readers but does not record who they are",
    )
