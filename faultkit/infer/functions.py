"""What functions do to locks, by name: the one table of acquire, release and event functions.

Names are the exported ones of glibc (nptl/), musl (src/thread/), C11 and libstdc++; leading
underscores and versions are dropped before the table is asked.  Rust's are matched by the path
inside their mangled name (library/std/src/sys/sync).
"""

from __future__ import annotations

import re

from faultkit.model import EVENT as EVENT_NEEDED
from faultkit.model import HELD
from faultkit.record import NamedTuple

ACQUIRE = "acquire"  # holds the lock when it returns
TRY = "try"  # holds the lock when it returned 0 (or, if the role says so, anything else)
RELEASE = "release"
EVENT = "event"  # ends somebody's wait: post, signal, arrive
WAIT = "wait"  # gives the mutex in `argument` back while it waits, and holds it afterwards; or
# waits on the condition variable in `argument`: nothing that it does inside is an event

# Families of locks
RWLOCK, SEMAPHORE, MUTEX = "rwlock", "semaphore", "mutex"
RUST, BARRIER, CONDITION, ONCE, FILE = "rust", "barrier", "condition", "once", "file"
GUARD = "guard"  # of a C++ static local variable
COUNTER = "counter"  # a word that waiters watch: std::latch, semaphores of C++20, atomics


class Role(NamedTuple):
    """What a function does, to the lock that it gets in the register `argument`; `nonzero` if
    what it returns is true, not zero, when an attempt succeeded."""

    what: str
    argument: str = "rdi"
    nonzero: bool = False


def _roles(what: str, names: str, argument: str = "rdi") -> dict[str, Role]:
    return {name: Role(what, argument) for name in names.split()}


_CONDITION_WAITS = (
    "pthread_cond_wait pthread_cond_timedwait pthread_cond_clockwait cnd_wait cnd_timedwait"
)

_TABLE: dict[str, dict[str, Role]] = {
    RWLOCK: {
        **_roles(
            ACQUIRE,
            "pthread_rwlock_rdlock pthread_rwlock_wrlock "
            "ZStL23__glibcxx_rwlock_rdlockP16pthread_rwlock_t "  # without optimisation it asks
            "ZStL23__glibcxx_rwlock_wrlockP16pthread_rwlock_t",  # if there are threads at all
        ),
        **_roles(
            TRY,
            "pthread_rwlock_tryrdlock pthread_rwlock_trywrlock pthread_rwlock_timedrdlock "
            "pthread_rwlock_timedwrlock pthread_rwlock_clockrdlock pthread_rwlock_clockwrlock",
        ),
        **_roles(RELEASE, "pthread_rwlock_unlock"),
    },
    SEMAPHORE: {
        **_roles(ACQUIRE, "sem_wait new_sem_wait"),
        **_roles(TRY, "sem_trywait new_sem_trywait sem_timedwait sem_clockwait"),
        **_roles(RELEASE, "sem_post new_sem_post"),
    },
    MUTEX: {
        **_roles(ACQUIRE, "pthread_mutex_lock mtx_lock ZL20__gthread_mutex_lockP15pthread_mutex_t"),
        **_roles(
            TRY,
            "pthread_mutex_trylock pthread_mutex_timedlock pthread_mutex_clocklock mtx_trylock "
            "mtx_timedlock",
        ),
        **_roles(RELEASE, "pthread_mutex_unlock mtx_unlock"),
        **_roles(WAIT, _CONDITION_WAITS, "rsi"),
    },
    BARRIER: _roles(EVENT, "pthread_barrier_wait"),
    CONDITION: {
        **_roles(
            EVENT,
            "pthread_cond_signal pthread_cond_broadcast cnd_signal cnd_broadcast "
            "ZNSt18condition_variable10notify_oneEv ZNSt18condition_variable10notify_allEv",
        ),
        **_roles(WAIT, _CONDITION_WAITS),
    },
    ONCE: _roles(ACQUIRE, "pthread_once call_once"),
    GUARD: {
        "cxa_guard_acquire": Role(TRY, nonzero=True),
        **_roles(RELEASE, "cxa_guard_release cxa_guard_abort"),
    },
    FILE: {**_roles(ACQUIRE, "flock lockf lockf64 fcntl fcntl64"), **_roles(RELEASE, "close")},
    RUST: {},
}

# library/std/src/sys/sync/{mutex,rwlock}/futex.rs, in the legacy and the v0 mangling
_RUST = (
    (r"mutex\d*5?futex.{0,12}Mutex\d+lock(_contended)?(17h|E|$|B)", ACQUIRE),
    (r"mutex\d*5?futex.{0,12}Mutex\d+(unlock|wake)", RELEASE),
    (r"rwlock\d*5?futex.{0,13}RwLock\d+(read|write)(_contended)?(17h|E|$|B)", ACQUIRE),
    (r"rwlock\d*5?futex.{0,13}RwLock\d+(read_unlock|write_unlock|wake_)", RELEASE),
)


# Frames whose live call runs the initialiser of the once flag in its first argument
ONCE_RUNNERS = r"pthread_once|call_once|once.*Once.*call"


def plain_name(name: str) -> str:
    """The symbol without its version, PLT mark, glibc-internal prefixes and underscores."""
    return re.sub(r"^_*(GI_+)?", "", name.partition("@")[0])


# libstdc++'s <semaphore> and <latch>, where they are not inlined
_COUNTERS = (
    (r"^_ZNSt18counting_semaphoreI.*E7acquireEv$", Role(ACQUIRE)),
    (r"^_ZNSt18counting_semaphoreI.*E11try_acquire", Role(TRY, nonzero=True)),
    (r"^_ZNSt18counting_semaphoreI.*E7releaseEl$", Role(RELEASE)),
    (r"^_ZNSt5latch(10count_down|15arrive_and_wait)E", Role(EVENT)),
)
_PATTERNS = {
    RUST: tuple((pattern, Role(what)) for pattern, what in _RUST),
    COUNTER: _COUNTERS,
}


EVENTS = (SEMAPHORE, BARRIER, CONDITION, COUNTER)  # which are brought about, not let go of
_STARTERS = frozenset(
    "pthread_cancel "  # has clean-up handlers called, where the thread that it is for waits
    "pthread_create thrd_create fork vfork clone posix_spawn posix_spawnp system popen libc_fork "
    # in kernels
    "queue_work_on queue_delayed_work_on mod_delayed_work_on queue_rcu_work queue_work_node "
    "kthread_queue_work kthread_queue_delayed_work kthread_mod_delayed_work kthread_create_on_node "
    "tasklet_schedule tasklet_hi_schedule mod_timer timer_reduce add_timer add_timer_on "
    "hrtimer_start_range_ns call_rcu call_rcu_hurry call_srcu irq_work_queue".split()
)


def starts_another(name: str) -> bool:
    """Whether the function starts a thread or a process, ends a thread's wait, or has the kernel
    call something later: that may do anything."""
    return plain_name(name) in _STARTERS or "_M_start_thread" in name


def returns_twice(name: str) -> bool:
    """Whether the function returns once more when somebody calls longjmp()."""
    return plain_name(name) in ("setjmp", "sigsetjmp")


def interprets(name: str) -> bool:
    """Whether the function is the loop that runs a program which is not machine code: what it comes
    to call is up to that program.  (CPython's exports its name, Python/ceval.c.)"""
    return re.match(r"PyEval_EvalFrame(Default|Ex)\b", plain_name(name)) is not None


def role_of(name: str, family: str) -> Role | None:
    """What the function called `name` does to locks of this family, or None."""
    if family in _PATTERNS:
        for pattern, role in _PATTERNS[family]:
            if re.search(pattern, name):
                return role
        return None
    return _TABLE[family].get(plain_name(name))


def family_of(kind: str, needs: str = HELD) -> str | None:
    """The family of a Lock's kind, or None if nothing is known about how it is taken."""
    kind = kind.lower()
    if kind == "futex" and needs == EVENT_NEEDED:
        return COUNTER
    for word, family in (
        ("cxa_guard", GUARD),
        ("rust", RUST),
        ("futex", RUST),  # written by hand: taken inline, as Rust's are
        ("rwlock", RWLOCK),
        ("shared_mutex", RWLOCK),
        ("sem", SEMAPHORE),
        ("barrier", BARRIER),
        ("once", ONCE),
        ("cond", CONDITION),
        ("flock", FILE),
        ("file", FILE),
        ("posix", FILE),
        ("ofd", FILE),
        ("mutex", MUTEX),
    ):
        if word in kind:
            return family
    return None
