"""Spinlocks and rwlock_ts that CPUs spin for: from the CPUs' registers and stacks.

Nothing that a dump holds lists these waits.  A CPU whose back trace leads to a lock's slow path
spins; which lock it is the slow path's own registers tell, or the call that led to it.  It is
taken for one only if the lock's word says that it is locked and, where the kernel queues, that
this CPU is in the queue.
"""

from __future__ import annotations

from faultkit.infer.flow import Tracer
from faultkit.infer.frames import live_frames
from faultkit.infer.values import unknown
from faultkit.kernel.code import KernelCode
from faultkit.kernel.cpus import READS, SPINS, WRITES, innermost
from faultkit.kernel.functions import SPIN
from faultkit.kernel.objects import is_kernel_pointer, need, unsigned
from faultkit.kernel.space import KernelSpace
from faultkit.kernel.system import System, base_name
from faultkit.model import Frame, Lock, Task, Wait
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

CALLERS = 6  # frames outside of the slow path that may tell what it was passed

# include/asm-generic/qspinlock_types.h, for fewer than 16384 CPUs (x86 has at most 8192)
LOCKED, SLOW = 1, 3  # the locked byte; 3 where the owner has to kick a CPU that was halted
PENDING = 0x100
TAIL_INDEX, TAIL_CPU = 16, 18  # shifts
NODES = 4  # of one CPU: task, softirq, interrupt, NMI
# include/asm-generic/qrwlock_types.h
W_LOCKED, W_WAITING, READER_SHIFT = 0xFF, 0x100, 9


class _Found(NamedTuple):
    """The slow path that a CPU is in, and the address that it was given."""

    function: str
    address: int
    how: str


def recognise(system: System, cpu: int, task: Task) -> Wait | None:
    """What a task that is on a CPU spins for, by its back trace; None where the lock's own state
    does not prove it.  Raises FaultkitError."""
    space, code = _code_of(system)
    frames = space.frames(task)
    position = innermost(frames)
    if position is None:
        return None
    frames = frames[position:]
    code.begin()
    found = _argument(space, code, frames)
    if found is None:
        system.limit(
            f"CPU {cpu} spins in {base_name(frames[0].symbol or '')}, and for which lock can't be "
            f"told; look at its registers (bt -c {cpu})"
        )
        return None
    outer = base_name(frames[1].symbol or "") if len(frames) > 1 else ""
    if found.function in SPINS and outer in (READS, WRITES):
        # it queues for the right to wait for a rwlock_t
        address = found.address - need(system.kernel, "qrwlock", "wait_lock")
        found = found._replace(function=outer, address=address)
        ahead = _ahead(system, cpu, address)
        if ahead is not None:
            return _queued(system, cpu, task, found, ahead)
        return _rwlock_wait(system, cpu, task, found)
    if found.function in SPINS:
        return _spinlock_wait(system, cpu, task, found)
    return _rwlock_wait(system, cpu, task, found)


def _code_of(system: System) -> tuple[KernelSpace, KernelCode]:
    """What was read of the kernel's code serves every CPU."""
    known: tuple[KernelSpace, KernelCode] | None = system.cache.get("spinning code")
    if known is None:
        space = KernelSpace(system)
        known = system.cache["spinning code"] = space, KernelCode(space)
    return known


def _argument(space: KernelSpace, code: KernelCode, frames: tuple[Frame, ...]) -> _Found | None:
    """What the slow path (the first frame) has as its first argument: it keeps it in a register,
    or its caller's code tells."""
    tracer = Tracer(code, SPIN)
    live = live_frames(space, code, tracer, frames[: CALLERS + 1])
    if not live or live[-1].frame != frames[0]:
        return None
    address = live[-1].resolve(unknown("entry", "rdi"))
    if address is None or not is_kernel_pointer(address) or address & 3:
        return None
    function = base_name(frames[0].symbol or "")
    return _Found(function, address, f"{function}() has its address")


def _spinlock_wait(system: System, cpu: int, task: Task, found: _Found) -> Wait | None:
    """The wait for a qspinlock whose word proves it."""
    address = found.address
    word = system.kernel.u32(address)
    standing = standing_in_queue(system, cpu, address, word)
    if standing is None:
        return None
    wait = Wait(
        task,
        Lock("spinlock", address, key=("kernel", address)),
        holder_count=1,
        evidence=(f"CPU {cpu} spins: {found.how}, its word is {word:#x}, {standing}",),
        missing="a spinlock's holder is not recorded: look for the CPU whose code took it",
    )
    owner = _debug_owner(system, address)
    if owner is not None:
        evidence = (*wait.evidence, "its owner field names the holder (CONFIG_DEBUG_SPINLOCK)")
        return wait.but(holders=(owner,), evidence=evidence, missing=None)
    return wait


def _debug_owner(system: System, address: int) -> Task | None:
    offset = system.kernel.offset("raw_spinlock", "owner")
    if offset is None:
        return None
    try:
        return system.by_address.get(system.kernel.u64(address + offset))
    except FaultkitError:
        return None


def standing_in_queue(system: System, cpu: int, address: int, word: int) -> str | None:
    """Where the CPU stands among those who want a qspinlock, by the lock's word; None if the word
    does not have it waiting: it is free, or it changes hands at this moment.

    On a hypervisor without paravirtual spinlocks nobody queues (virt_spin_lock() in
    arch/x86/include/asm/qspinlock.h): the word is 1, and all who want it test and set it.
    """
    locked, pending, tail = word & 0xFF, word & 0xFF00, word >> TAIL_INDEX
    if locked not in (LOCKED, SLOW) or pending not in (0, PENDING):
        return None
    if not tail:
        return "locked, and it is next" if pending else "locked"
    last = (word >> TAIL_CPU) - 1
    if last not in system.running:
        return None
    mine = _nodes(system, cpu)
    if not mine:
        return "locked, and it is next" if pending else None
    goal = _node(system, last, tail & 3)
    for node in mine:
        for _ in range(NODES * len(system.running)):
            if node == goal:
                return f"locked, and it is in the queue, whose last is CPU {last}"
            node = system.kernel.u64(node + need(system.kernel, "mcs_spinlock", "next"))
            if not is_kernel_pointer(node):
                break
    return "locked, and it is next" if pending else None


def _nodes(system: System, cpu: int) -> list[int]:
    """The CPU's places in queues, that of its innermost wait first."""
    count = unsigned(system.kernel, _node(system, cpu, 0), "mcs_spinlock", "count")
    return [_node(system, cpu, index) for index in range(min(count, NODES))][::-1]


def _node(system: System, cpu: int, index: int) -> int:
    """A CPU's mcs_spinlock of that nesting.  The array was named mcs_nodes until 0fa809ca7f81
    ("locking/pvqspinlock: Extend node size when pvqspinlock is configured", 4.20)."""
    kernel = system.kernel
    array = kernel.symbol("qnodes")
    if array is not None:
        size = kernel.size("qnode")
    else:
        array, size = kernel.symbol("mcs_nodes"), kernel.size("mcs_spinlock")
    if array is None or not size:
        raise FaultkitError("this kernel has no queue of spinlock waiters")
    return kernel.per_cpu(array, cpu) + index * size


def _ahead(system: System, cpu: int, address: int) -> Task | None:
    """The task that is the first to wait for a rwlock_t, and keeps all others in the queue for
    `wait_lock` until it has the lock: readers, too, that the lock's own readers would not keep out
    (queued_read_lock_slowpath(), kernel/locking/qrwlock.c).  None if it is on no other CPU."""
    space, code = _code_of(system)
    for other, task in system.running.items():
        frames = space.frames(task) if other != cpu and task.tid else ()
        position = innermost(frames)
        if position is None or base_name(frames[position].symbol or "") in SPINS:
            continue
        found = _argument(space, code, frames[position:])
        if found is not None and found.address == address:
            return task
    return None


def _queued(system: System, cpu: int, task: Task, found: _Found, ahead: Task) -> Wait:
    """The wait of one that queues behind another for a rwlock_t."""
    count = system.kernel.u32(found.address + need(system.kernel, "qrwlock", "cnts"))
    return Wait(
        task,
        Lock("rwlock_t", found.address, key=("kernel", found.address)),
        mode="read" if found.function == READS else "write",
        queued=True,
        holders=(ahead,),
        evidence=(
            f"CPU {cpu} spins: {found.how}, its count is {count:#x}; CPU {ahead.cpu} waits for it "
            "and comes first, which keeps it out",
        ),
    )


def _rwlock_wait(system: System, cpu: int, task: Task, found: _Found) -> Wait | None:
    """The wait for a rwlock_t whose count proves it: held by a writer, or by readers."""
    address = found.address
    count = system.kernel.u32(address + need(system.kernel, "qrwlock", "cnts"))
    mode = "read" if found.function == READS else "write"
    readers, writer = count >> READER_SHIFT, count & 0xFF
    if writer not in (0, W_LOCKED):
        return None
    if mode == "read" and writer:
        readers -= 1  # it counts itself already
    if not writer and (mode == "read" or not readers):
        return None  # it is being let in
    held = "a writer" if writer else f"{readers} reader{'s' if readers > 1 else ''}"
    return Wait(
        task,
        Lock("rwlock_t", address, key=("kernel", address)),
        mode=mode,
        holder_count=1 if writer else readers,
        evidence=(f"CPU {cpu} spins: {found.how}, its count is {count:#x}, held by {held}",),
        missing="a rwlock_t's holders are not recorded: look for CPUs whose code took it",
    )
