"""System V message queues: the kernel records who last sent and who last received."""

from __future__ import annotations

from faultkit.model import EVENT, INFERRED, Lock, Wait
from faultkit.waits._ipc import IN_A_CORE, outside, signed, tasks_of
from faultkit.world import Blocked

MSGSND, MSGRCV = 69, 70
SYSCALLS = frozenset({MSGSND, MSGRCV})
PRIORITY = 50


def recognise(blocked: Blocked) -> Wait | None:
    """The wait of a task in msgrcv() or msgsnd(): EVENT by the process that last did the
    opposite, which is only the likely one; OUTSIDE where there is none, or anybody may send."""
    msqid = signed(blocked.call.args[0])
    sending = blocked.call.nr == MSGSND
    mode = "write" if sending else "read"
    name = f"sysv queue id {msqid}"
    machine = blocked.machine
    if machine is None or not machine.is_visible(blocked.task.pid, "ipc"):
        return outside(blocked, "sysv_msg", name, mode=mode, missing=IN_A_CORE)
    queue = machine.message_queue(blocked.task.pid, msqid)
    if queue is None:
        return outside(blocked, "sysv_msg", name, mode=mode)
    if queue.key:
        name = f"sysv queue {queue.key:#x}"
    if bool(queue.messages) != sending:  # it could go on, or only messages of other types came
        evidence = (f"{queue.messages} messages in the queue",)
        return outside(blocked, "sysv_msg", name, mode=mode, evidence=evidence)
    if queue.key and not sending:
        evidence = ("empty; others could send to a queue with a key",)
        return outside(blocked, "sysv_msg", name, mode=mode, evidence=evidence)
    last = queue.last_receiver if sending else queue.last_sender
    space = machine.namespace(blocked.task.pid, "ipc")
    done = "received" if sending else "sent"
    if last in (0, blocked.task.pid) or machine.is_dead(last):
        who = "nobody" if last == 0 else f"pid {last}"
        return outside(blocked, "sysv_msg", name, mode=mode, evidence=(f"last {done} by {who}",))
    return Wait(
        blocked.task,
        Lock("sysv_msg", name=name, key=("sysv_msg", space, msqid)),
        needs=EVENT,
        mode=mode,
        holders=tasks_of(blocked.world, last),
        any_of=True,
        confidence=INFERRED,
        evidence=(f"last {done} by pid {last}; {queue.messages} messages in it",),
    )
