"""Which faults share a machine."""

from dataclasses import replace

from . import dstate, events, helpers, inferred, oops, signals, sleeping, spinning, users
from .model import Boot, Expect, Fault, cycle

_SPIN = "isolcpus=1-5"
# Without it a kernel that sees a hypervisor does not queue for spinlocks.
_REAL = "hypervisor=off"

_CROWDED = Fault(
    "mutex_victims",
    ("vx-*", "vic-*"),
    (cycle(("vx-a", "vx-b"), "kmutex", "kmutex", victims=48, confidence="proven"),),
    kernel=("mutex_victims",),
)
# makedumpfile 1.7.8 leaves out what 7.x needs: crash does not open what is left.
_FILTERABLE = ("5.10", "6.1", "6.12")
# What a filtered dump still shows; the C library's locks are in user pages, which are gone.
_FILTERED = (
    *sleeping.MUTEX,
    *(fault for fault in users.FILES if fault.name in ("flock_abba", "ofd_abba")),
    *(
        replace(fault, unsure=True, notes="its word is in a user page")
        for fault in users.FUTEXES
        if fault.name in ("user_mutex", "user_mutex_shared")
    ),
)
# Of an incomplete dump nothing can be demanded, but that no cycle is made up.
_TRUNCATED = tuple(
    replace(fault, unsure=True, allowed=(*fault.allowed, Expect("chain")))
    for fault in sleeping.MUTEX
)

BOOTS = {
    boot.name: boot
    for boot in (
        Boot("sleeping", sleeping.ALL),
        Boot("events", events.ALL),
        Boot("grace", events.GRACE, cpus=3),
        Boot("storm", events.STORM, cpus=4),
        Boot("users", users.ALL),
        Boot("quiet", sleeping.QUIET),
        Boot("spin-crossed", spinning.CROSSED, cpus=6, cpu=_REAL, append=_SPIN),
        Boot("spin-others", spinning.OTHERS, cpus=6, cpu=_REAL, append=_SPIN),
        Boot("spin-queued", spinning.QUEUED, cpus=6, cpu=_REAL, append=_SPIN),
        Boot("spin-crossed-virtual", spinning.CROSSED, cpus=6, append=_SPIN),
        Boot("spin-others-virtual", spinning.OTHERS, cpus=6, append=_SPIN),
        Boot(
            "spin-panic",
            spinning.CROSSED[1:],
            cpus=6,
            cpu=_REAL,
            append=f"{_SPIN} softlockup_panic=1 watchdog_thresh=3",
            panics=True,
        ),
        Boot("inferred", inferred.SLEEPING),
        Boot("spin-inferred", inferred.SPINNING, cpus=6, cpu=_REAL, append=_SPIN),
        Boot("spin-inferred-virtual", inferred.SPINNING, cpus=6, append=_SPIN),
        Boot("spin-irq", inferred.INTERRUPTED, cpus=4, cpu=_REAL, append=_SPIN),
        Boot("spin-hot", inferred.HOT, cpus=4, cpu=_REAL),
        Boot("crowd-1000", (_CROWDED,), memory=512, count=48, crowd=850),
        Boot("crowd-4000", (_CROWDED,), memory=1024, count=48, crowd=3850),
        Boot("stuck", dstate.STUCK, program="dstate"),
        Boot("busy", dstate.BUSY, program="dstate"),
        Boot("signals", signals.ALL, program="signals"),
        Boot("signals-hard", signals.HARD, program="sighard"),
        Boot("crowd-blocked", dstate.WAITERS, memory=1024, count=48, program="dstate", crowd=3750),
        Boot("oops", oops.NULL, append="oops=panic", panics=True, program="oops"),
        Boot("helpers", helpers.QUIETLY, program="helpers"),
        Boot(
            "read-again",
            helpers.READ_AGAIN,
            cpus=3,
            cpu=_REAL,
            append="isolcpus=1-2",
            program="helpers",
        ),
        Boot(
            "slabs",
            helpers.SLABS,
            cpus=3,
            memory=384,
            cpu=_REAL,
            append="isolcpus=1-2",
            program="slabs",
            crowd=450,
        ),
        Boot("filtered", _FILTERED, append="nokaslr", form="filtered", kernels=_FILTERABLE),
        Boot("truncated", _TRUNCATED, append="nokaslr", form="truncated", kernels=_FILTERABLE),
        Boot("users-lzo", users.ALL, append="nokaslr", form="lzo", kernels=_FILTERABLE),
        Boot(
            "crowd-4000-lzo",
            (_CROWDED,),
            memory=1024,
            count=48,
            crowd=3850,
            append="nokaslr",
            form="lzo",
            kernels=("6.1",),
        ),
    )
}


def find(name: str) -> Boot:
    """The boot of that name, or one for the fault of that name alone; KeyError."""
    if name in BOOTS:
        return BOOTS[name]
    for boot in BOOTS.values():
        for fault in boot.faults:
            if fault.name == name:
                return replace(boot, name=name, faults=(fault,))
    raise KeyError(name)
