"""What a diagnosis costs grows with the threads of a process, not with their square, whatever they
wait for: counted in calls, which no busy machine changes."""

import sys

import pytest
from bench.measuring import crowd

from faultkit.analyzers.deadlock import analyze
from faultkit.procfs.process import ProcProcess

FEW, MANY = 100, 400
MOST_GROWTH = 1.15 * MANY / FEW

RESTS = (
    *("condvar", "queue", "condvars", "semaphores", "read", "poll", "epoll", "sockets", "accept"),
    *("files", "file", "children", "joins", "chain", "pairs", "rwlocks", "barriers", "sleep"),
)


def calls(pid):
    """How many functions a diagnosis calls, ours and the interpreter's; it finds the cycle."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        report = analyze([ProcProcess(pid)], {"name": "test", "version": None})
    finally:
        sys.setprofile(None)
    assert report.verdict == "found"
    return count


@pytest.mark.parametrize("rest", RESTS)
def test_cost_is_linear(rest):
    found = []
    for threads in (FEW, FEW, MANY):  # the first imports
        with crowd(threads, rest) as pid:
            found.append(calls(pid))
    assert found[2] <= MOST_GROWTH * found[1]
