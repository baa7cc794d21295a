"""The CPUs of a kernel: whose tasks spin there for a lock."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.kernel.system import System, base_name
from faultkit.model import Frame, Task, Wait
from faultkit.target import FaultkitError

# kernel/locking/{qspinlock,qrwlock}.c
SPINS = frozenset(
    ("native_queued_spin_lock_slowpath", "queued_spin_lock_slowpath")
    + ("__pv_queued_spin_lock_slowpath", "pv_queued_spin_lock_slowpath")
)
READS, WRITES = "queued_read_lock_slowpath", "queued_write_lock_slowpath"
SLOW_PATHS = SPINS | {READS, WRITES}


def spinners(system: System) -> dict[Task, Wait]:
    """What the tasks that are on a CPU spin for; those that spin for nothing are left out."""
    waits = {}
    for cpu, task in system.running.items():
        try:
            if not _may_spin(system, cpu, task):
                continue
            if innermost(system.frames(task)) is None:
                continue
            from faultkit.kernel.spinlocks import recognise  # it reads code: few need it

            wait = recognise(system, cpu, task)
        except FaultkitError:
            continue
        if wait is not None:
            waits[task] = wait
    return waits


def innermost(frames: Sequence[Frame]) -> int | None:
    """The position of the innermost slow path.  What lies inside of it is an interrupt's code, or
    halts the CPU until it is kicked: the task goes on only with the lock."""
    for position, frame in enumerate(frames):
        if base_name(frame.symbol or "") in SLOW_PATHS:
            return position
    return None


def _may_spin(system: System, cpu: int, task: Task) -> bool:
    """False if the CPU runs a program, or its registers and its task's stack have no trace of a
    slow path: most need no back trace.  Interrupts and exceptions with stacks of their own do."""
    registers = system.kernel.registers(cpu)
    pc, sp = registers.get("rip"), registers.get("rsp")
    if pc is None or sp is None:
        return True
    if not pc >> 63:
        return False
    base = system.stack_base(task)
    end = base + system.thread_size
    if not base <= sp < end or sp & 7:
        return True
    words = system.kernel.words(sp, (end - sp) // 8)
    return not SLOW_PATHS.isdisjoint(system.function(word) for word in (pc, *words) if word >> 63)
