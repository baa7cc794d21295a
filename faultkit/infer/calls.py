"""What a task's live calls were passed: the objects that its frames are at work on."""

from faultkit.infer.frames import CallSite, call_sites
from faultkit.infer.functions import MUTEX
from faultkit.infer.trace import Tracing
from faultkit.model import Lock, Task, Wait
from faultkit.target import Process
from faultkit.world import World


def live_calls(world: World, process: Process, task: Task) -> list[CallSite]:
    """The task's live calls whose frames' code could be followed, innermost first."""
    trace = Tracing(world, Wait(task, Lock("pthread_mutex")), MUTEX).trace(process, task)
    if trace is None:
        return []
    return list(call_sites(trace.tracer.code, trace.live))[::-1]


def first_arguments(world: World, process: Process, task: Task) -> list[int]:
    """The first argument of every live call whose value can be told, innermost first."""
    sites = live_calls(world, process, task)
    return [site.first for site in sites if site.first is not None]
