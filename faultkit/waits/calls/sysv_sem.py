"""System V semaphores: the kernel records which process last changed each one, not who holds
it.  With a value of 0 the last change was most often the one that took it: inferred."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from faultkit.model import EVENT, HELD, INFERRED, Lock, Wait
from faultkit.procfs.sysvipc import Semaphore
from faultkit.waits._ipc import IN_A_CORE, process_owners, signed, unknown_holder
from faultkit.world import Blocked

SEMOP, SEMTIMEDOP = 65, 220
SYSCALLS = frozenset({SEMOP, SEMTIMEDOP})
PRIORITY = 50
SEMBUF = struct.Struct("<Hhh")  # sem_num, sem_op, sem_flg
MOST_OPERATIONS = 1024


def recognise(blocked: Blocked) -> Wait | None:
    """The wait of a task in semop() or semtimedop()."""
    semid = signed(blocked.call.args[0])
    count = blocked.call.args[2] & 0xFFFFFFFF
    timed = blocked.call.nr == SEMTIMEDOP and blocked.call.args[3] != 0
    if not 0 < count <= MOST_OPERATIONS:
        return None
    machine = blocked.machine
    operations = machine.semaphore_operations(blocked.task) if machine is not None else None
    if operations is None:
        data = blocked.process.read(blocked.call.args[1], SEMBUF.size * count)
        operations = [(number, op) for number, op, _ in SEMBUF.iter_unpack(data)]
    if machine is None:
        lock = Lock("sysv_sem", name=f"sysv sem id {semid}[{operations[0][0]}]")
        return unknown_holder(blocked, lock, IN_A_CORE, timed=timed)
    if not machine.is_visible(blocked.task.pid, "ipc"):
        lock = Lock("sysv_sem", name=f"sysv sem id {semid}[{operations[0][0]}]")
        missing = (
            f"the semaphores of process {blocked.task.pid} are in another IPC namespace; run "
            f"`nsenter -t {blocked.task.pid} -i gdb -p {blocked.task.pid}`"
        )
        return unknown_holder(blocked, lock, missing, timed=timed)
    return _wait(blocked, semid, operations, timed)


def _wait(
    blocked: Blocked, semid: int, operations: Sequence[tuple[int, int]], timed: bool
) -> Wait | None:
    machine, pid = blocked.world.machine, blocked.task.pid
    key = machine.semaphore_key(pid, semid)
    known = f"{key:#x}" if key else f"id {semid}"
    values: dict[int, int] = {}
    for number, op in operations:  # as perform_atomic_semop in ipc/sem.c goes through them
        found = machine.semaphore(pid, semid, number)
        lock = Lock(
            "sysv_sem",
            name=f"sysv sem {known}[{number}]",
            key=("sysv_sem", machine.namespace(pid, "ipc"), semid, number),
        )
        if found is None:
            missing = f"{lock.name} can't be read; {machine.remedy}"
            return unknown_holder(blocked, lock, missing, timed=timed)
        value = values.get(number, found.value)
        if (op == 0 and value != 0) or value + op < 0:
            return _blocked_on(blocked, lock, found, op, timed)
        values[number] = value + op
    return None  # every operation could go on now: it is about to return


def _blocked_on(
    blocked: Blocked, lock: Lock, found: Semaphore, op: int, timed: bool
) -> Wait | None:
    task = blocked.task
    state = (
        f"value {found.value}, wanted {'zero' if op == 0 else -op}; "
        f"{found.waiters + found.zero_waiters} waiters"
    )
    wait = Wait(
        task,
        lock,
        needs=EVENT if op == 0 else HELD,
        confidence=INFERRED,
        any_of=True,
        timed=timed,
    )
    last = found.last_pid
    if op == 0 or found.value != 0 or last in (0, task.pid) or blocked.world.machine.is_dead(last):
        last_seen = f"last semop by pid {last}" if last else "nobody has used it yet"
        return wait.but(
            evidence=(f"{last_seen}; {state}",),
            missing=f"{lock.name} does not record who holds it; look at the code that uses it",
        )
    owners = process_owners(blocked.world, [last])
    return wait.but(
        holders=owners.holders,
        candidates=owners.candidates,
        evidence=(f"last semop by pid {last}; {state}", *owners.evidence),
    )
