"""What the kernel's functions do to locks, by name: acquire, release and event functions.

From include/linux/{spinlock_api_smp,rwlock_api_smp,rwsem,semaphore,percpu-rwsem,completion}.h.
What is a macro or inlined there appears as the function that it calls.
"""

from __future__ import annotations

from faultkit.infer.functions import (
    ACQUIRE,
    CONDITION,
    EVENT,
    RELEASE,
    RWLOCK,
    SEMAPHORE,
    TRY,
    Role,
)

SPIN, PERCPU = "spinlock", "percpu rwsem"  # besides the families that userspace has too

# Kind of a Lock -> family of functions
FAMILIES = {
    "spinlock": SPIN,
    "rwlock_t": RWLOCK,
    "rwsem": RWLOCK,
    "percpu_rwsem": PERCPU,
    "semaphore": SEMAPHORE,
    "completion": CONDITION,
}


def _roles(what: str, names: str, argument: str = "rdi", nonzero: bool = False) -> dict[str, Role]:
    return {name: Role(what, argument, nonzero) for name in names.split()}


def _variants(name: str) -> str:
    return " ".join(f"{name}{ending}" for ending in ("", "_irq", "_irqsave", "_irqrestore", "_bh"))


_TABLE: dict[str, dict[str, Role]] = {
    SPIN: {
        **_roles(ACQUIRE, _variants("_raw_spin_lock")),
        **_roles(ACQUIRE, "_raw_spin_lock_nested _raw_spin_lock_irqsave_nested"),
        **_roles(ACQUIRE, "_raw_spin_lock_nest_lock"),
        **_roles(TRY, "_raw_spin_trylock _raw_spin_trylock_bh", nonzero=True),
        **_roles(TRY, "_atomic_dec_and_lock _atomic_dec_and_lock_irqsave", "rsi", nonzero=True),
        **_roles(TRY, "_atomic_dec_and_raw_lock _atomic_dec_and_raw_lock_irqsave", "rsi", True),
        **_roles(TRY, "refcount_dec_and_lock refcount_dec_and_lock_irqsave", "rsi", nonzero=True),
        **_roles(RELEASE, _variants("_raw_spin_unlock")),
        # what an inlined unlock calls where the kernel runs on a hypervisor
        **_roles(RELEASE, "__raw_callee_save___pv_queued_spin_unlock"),
        **_roles(RELEASE, "__raw_callee_save___native_queued_spin_unlock"),
    },
    RWLOCK: {
        **_roles(ACQUIRE, _variants("_raw_read_lock")),
        **_roles(ACQUIRE, _variants("_raw_write_lock")),
        **_roles(ACQUIRE, "_raw_write_lock_nested"),
        **_roles(TRY, "_raw_read_trylock _raw_write_trylock", nonzero=True),
        **_roles(RELEASE, _variants("_raw_read_unlock")),
        **_roles(RELEASE, _variants("_raw_write_unlock")),
        **_roles(ACQUIRE, "down_read down_read_nested down_read_non_owner"),
        **_roles(ACQUIRE, "down_write down_write_nested _down_write_nest_lock"),
        **_roles(TRY, "down_read_interruptible down_read_killable down_read_killable_nested"),
        **_roles(TRY, "down_write_killable down_write_killable_nested"),
        **_roles(TRY, "down_read_trylock down_write_trylock", nonzero=True),
        **_roles(RELEASE, "up_read up_read_non_owner up_write"),
    },
    SEMAPHORE: {
        **_roles(ACQUIRE, "down"),
        **_roles(TRY, "down_interruptible down_killable down_timeout down_trylock"),
        **_roles(RELEASE, "up"),
    },
    PERCPU: {
        # inlined, but for the slow paths: see KernelCode.inline_role
        **_roles(ACQUIRE, "percpu_down_read __percpu_down_read percpu_down_write"),
        **_roles(RELEASE, "percpu_up_read __percpu_up_read percpu_up_write"),
    },
    CONDITION: _roles(
        EVENT,
        "complete complete_all complete_on_current_cpu complete_and_exit "
        "kthread_complete_and_exit swake_up_locked",
    ),
}


def kernel_role_of(name: str, family: str) -> Role | None:
    """What the function called `name` does to locks of this family, or None."""
    return _TABLE.get(family, {}).get(name)


def names_of(family: str) -> tuple[str, ...]:
    """The functions that do something to locks of this family, or that what is inlined calls."""
    inlined = ("rcuwait_wake_up",) if family == PERCPU else ()  # by percpu_up_read()
    return (*_TABLE.get(family, ()), *inlined)
