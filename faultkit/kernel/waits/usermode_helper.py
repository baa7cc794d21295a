"""call_usermodehelper() (kernel/umh.c): waits for a program that the kernel has started."""

from __future__ import annotations

from faultkit.kernel.objects import need, pointer, text
from faultkit.kernel.queues import candidates
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.waits import _completion
from faultkit.kernel.workers import running
from faultkit.model import EVENT, Lock, Wait
from faultkit.target import FaultkitError

FUNCTIONS = frozenset(("call_usermodehelper_exec", "call_usermodehelper"))
PRIORITY = 34


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait for the completion that a struct subprocess_info on the stack points to.

    The kworker that runs its work starts the program and, if that is what is waited for, waits
    for the program's end; which process that is, is not recorded.
    """
    queue = _completion.waited_for(sleeper)
    if queue is None:
        return None
    kernel = sleeper.kernel
    complete = need(kernel, "subprocess_info", "complete")
    for info in candidates(sleeper):
        try:
            if kernel.u64(info + complete) != queue.lock:
                continue
            path = text(kernel, pointer(kernel, info, "subprocess_info", "path"))
        except FaultkitError:
            continue
        worker = running(sleeper.system, info + need(kernel, "subprocess_info", "work"))
        return Wait(
            sleeper.task,
            Lock("usermode-helper", info, path, ("kernel", info)),
            needs=EVENT,
            holders=(worker.task,) if worker is not None else (),
            evidence=(
                f"kworker {worker.task.tid} runs {path} for it"
                if worker is not None
                else f"{path} was started, or is about to be",
            ),
        )
    return None
