"""glibc's pthread_once, also under std::call_once: the running thread leaves a clean-up record."""

from __future__ import annotations

from faultkit.model import INFERRED, Lock, Task, Wait
from faultkit.waits._callers import innermost_functions
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import WAIT, lock_key, parse
from faultkit.waits._stack import call_before, is_code, threads_with_word, words
from faultkit.world import Blocked

PRIORITY = 16

IN_PROGRESS, DONE = 1, 2  # the low bits; above them is the fork generation
ARMED = 1  # __do_it of the record
SPILLED = 4  # words of the same frame, at most, that compilers put below the record
NEAR = 1 << 12  # bytes of text: one source file


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in __pthread_once_slow (nptl/pthread_once.c).

    A barrier in its second round sleeps on the same value: it takes the function's name or a
    thread with the record to be sure.
    """
    call = parse(blocked)
    if call is None or call.operation != WAIT or not call.private or call.timed:
        return None
    if call.value & 3 != IN_PROGRESS or call.value >> 2 > 1 << 20 or call.now != call.value:
        return None
    runners = _runners(blocked, call.uaddr)
    if not runners and not any("pthread_once" in name for name in innermost_functions(blocked, 3)):
        return None
    wait = Wait(
        blocked.task,
        Lock(
            "once",
            call.uaddr,
            _name(blocked, call.uaddr),
            lock_key(blocked, call.uaddr, call.private),
        ),
        confidence=INFERRED,
        evidence=("pthread_once: its initialisation is running",),
    )
    if len(runners) != 1:
        return wait.but(
            candidates=runners or blocked.world.members(blocked.process),
            missing="pthread_once does not record which thread runs the initialisation",
        )
    found = (
        f"thread {runners[0].tid} is inside the initialisation: pthread_once's clean-up record "
        "for it is on that thread's stack"
    )
    return wait.but(holders=runners, evidence=(*wait.evidence, found))


def _runners(blocked: Blocked, control: int) -> tuple[Task, ...]:
    """The threads with a record {clear_once_control, once_control...} on their stacks, and
    below it the return address that a thread inside __pthread_once_slow has."""
    name = f"once {blocked.process.pid} {control:#x}"
    known: tuple[Task, ...] | None = blocked.world.cache.get(name)
    if known is None:
        runners = []
        for task, stack, at in threads_with_word(blocked, control):
            if task not in runners and _is_record(blocked, stack, at):
                runners.append(task)
        known = blocked.world.cache[name] = tuple(runners)
    return known


def _is_record(blocked: Blocked, stack: bytes, at: int) -> bool:
    """struct __pthread_cleanup_frame at `at` - 8: {routine, arg, int do_it, ...}; before 2.34
    struct _pthread_cleanup_buffer: {routine, arg, int, prev}, where prev is null or such a
    record.  Below it, or below what else the frame holds, lies the return address of the
    initialiser's call, into the routine's own source file."""
    if at < 16 or at + 24 > len(stack):
        return False
    routine, _, do_it, prev = words(stack[at - 8 : at + 24])
    if not is_code(blocked.process, routine):
        return False
    below = words(stack[max(0, at - 16 - 8 * SPILLED) : at - 8])
    if not any(
        abs(word - routine) < NEAR and call_before(blocked.process, word) for word in below
    ):
        return False
    if do_it & 0xFFFFFFFF == ARMED or prev == 0:
        return True
    return is_code(blocked.process, blocked.process.u64(prev))


def _name(blocked: Blocked, control: int) -> str | None:
    symbol = blocked.process.symbol(control)
    return symbol[0] if symbol is not None and symbol[1] == 0 else None
