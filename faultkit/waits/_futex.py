"""The futex system call's arguments, and the identity of the word they name."""

from __future__ import annotations

from faultkit.model import Task
from faultkit.record import NamedTuple
from faultkit.target import ReadError
from faultkit.waits._restart import RESTART_SYSCALL, polls
from faultkit.world import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


FUTEX = 202
FUTEX_WAITV = 449

# include/uapi/linux/futex.h
WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2 = 0, 6, 9, 11, 13
WAITING = frozenset((WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2))
RESTARTED = frozenset((WAIT, WAIT_BITSET))  # kernel/futex/waitwake.c: if they have a timeout
PRIVATE, CLOCK_REALTIME = 128, 256

LARGEST = 64  # bytes of an object to either side of its futex, that providers look at
SMALL = 300  # below it, states and counters are likelier than thread ids

REFUSED = "refused"  # first in the key of a lock that is only known to have been refused

SYSCALLS = frozenset((FUTEX, RESTART_SYSCALL))


class FutexCall(NamedTuple):
    """A blocked futex call: `operation` without its flags, `value` the 32 bits expected at
    `uaddr`; `now` is the word there at present, None where memory can't be read."""

    uaddr: int
    operation: int
    private: bool
    realtime: bool
    value: int
    timed: bool
    now: int | None

    @property
    def can_be_glibc(self) -> bool:
        """Not FUTEX_WAIT_BITSET on the monotonic clock without a timeout: glibc passes
        FUTEX_CLOCK_REALTIME unless a monotonic deadline is given; Rust and CPython do so."""
        return self.operation != WAIT_BITSET or self.realtime or self.timed

    @property
    def is_glibc_bitset(self) -> bool:
        """FUTEX_WAIT_BITSET as glibc's rwlocks and semaphores call it, with a timeout or not
        (futex_abstimed_wait, 2.25 to 2.41); locks that others write use FUTEX_WAIT."""
        return self.operation == WAIT_BITSET and self.can_be_glibc


def parse(blocked: Blocked) -> FutexCall | None:
    """The futex call that the task is blocked in, or None (kernel/futex/syscalls.c, do_futex).

    A score of providers ask one after the other: they all get the same picture, read once."""
    world = blocked.world
    if world.parsed[0] is not blocked:
        world.parsed = (blocked, _parse(blocked))
    call: FutexCall | None = world.parsed[1]
    return call


def _parse(blocked: Blocked) -> FutexCall | None:
    call = blocked.call
    if call.nr not in SYSCALLS or len(call.args) < 4:
        return None
    uaddr, operation, value, timeout = call.args[:4]
    operation &= 0xFFFFFFFF
    command = operation & ~(PRIVATE | CLOCK_REALTIME)
    if command not in WAITING or uaddr == 0 or uaddr & 3 or operation > 0x1FF:
        return None
    if call.nr == RESTART_SYSCALL and (command not in RESTARTED or not timeout or polls(blocked)):
        return None
    blocked.process.hold(uaddr, LARGEST)
    try:
        now: int | None = blocked.process.u32(uaddr)
    except ReadError:
        now = None
    return FutexCall(
        uaddr,
        command,
        bool(operation & PRIVATE),
        bool(operation & CLOCK_REALTIME),
        value & 0xFFFFFFFF,
        timeout != 0,
        now,
    )


def lock_key(blocked: Blocked, address: int, private: bool) -> tuple[Any, ...]:
    """Equal for two tasks exactly if they mean the same lock: the address within one process,
    or, for a lock shared between processes, the place in the object that is mapped
    (kernel/futex/core.c, get_futex_key)."""
    if not private:
        mapping = blocked.process.mapping(address)
        if mapping is not None and mapping.shared and mapping.inode:
            place = address - mapping.start + mapping.offset
            return ("shared", mapping.device, mapping.inode, place)
    return ("private", blocked.process.pid, address)


def users(blocked: Blocked, address: int, private: bool) -> tuple[Task, ...]:
    """Whoever can reach the object at all: of all processes that map it, if others can."""
    members = blocked.world.members(blocked.process)
    mapping = None if private else blocked.process.mapping(address)
    if mapping is None or not mapping.shared:
        return members
    others = [
        task
        for process, _ in blocked.world.sharers(mapping)
        if process.pid != blocked.process.pid
        for task in process.tasks()
    ]
    return (*members, *others)
