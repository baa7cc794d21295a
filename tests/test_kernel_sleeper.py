"""Sleepers are seen the same whether they are read one by one or all at once, and whether their
callers are unwound or told by what other stacks taught."""

import pytest
from crash_session import Session
from drgn_kernel import DrgnKernel
from kernel_dumps import opened
from lab.dumps import dump

from faultkit.kernel import states
from faultkit.kernel.sleeper import CALLERS, ENTRIES, Sleeper, read_ahead
from faultkit.kernel.system import System, base_name
from faultkit.target import ReadError


def sleepers_of(system: System) -> list[Sleeper]:
    found = [Sleeper(system, task, system.state(task)) for task in system.tasks]
    return [
        sleeper
        for sleeper in found
        if states.may_wait(sleeper.state) and not system.on_cpu(sleeper.task)
    ]


@pytest.mark.parametrize(
    ("boot", "kernel"),
    [
        ("sleeping", "6.1"),
        ("users", "6.1"),
        ("crowd-1000", "6.1"),
        ("sleeping", "5.10"),
        ("sleeping", "7"),
    ],
)
def test_callers_are_those_of_the_back_trace(boot: str, kernel: str) -> None:
    unwound: list[int] = []

    class Counting(DrgnKernel):
        def __init__(self, original: DrgnKernel) -> None:
            self.__dict__.update(original.__dict__)

        def frames(self, task, limit=64):  # type: ignore[no-untyped-def]
            unwound.append(task.tid)
            return super().frames(task, limit)

    original = opened(boot, kernel)
    sleepers = sleepers_of(System(Counting(original)))
    assert len(sleepers) > 20
    for sleeper in sleepers:
        names = [base_name(frame.symbol or "") for frame in original.frames(sleeper.task)]
        entered = next((at for at, name in enumerate(names) if name in ENTRIES), len(names))
        said = list(sleeper.callers)
        within = min(CALLERS, entered)
        assert said[:within] == names[:within], sleeper.task
    # the others were told by what those taught
    assert len(unwound) < len(sleepers) / (10 if boot.startswith("crowd") else 1)


def test_read_at_once_is_as_read_one_by_one() -> None:
    kernel = opened("users")
    at_once, singly = System(kernel), System(kernel)
    at_once.look_ahead()
    together = sleepers_of(at_once)
    read_ahead(at_once, together)
    for one, other in zip(together, sleepers_of(singly)):
        assert "window" in one.__dict__
        assert (one.task, one.state, one.sp, one.stack) == (
            other.task, other.state, other.sp, other.stack,
        )  # fmt: skip
        assert one.window == other.window
        assert one.functions == other.functions
        assert at_once.flags(one.task) == singly.flags(other.task)


def test_a_garbage_stack_pointer_has_no_window() -> None:
    class Garbage(DrgnKernel):
        def __init__(self, original: DrgnKernel) -> None:
            self.__dict__.update(original.__dict__)

        def read_each(self, pieces):  # type: ignore[no-untyped-def]
            if pieces and pieces[0][1] == 8:  # the stack pointers
                return [None if at % 3 else b"\xff" * 8 for at in range(len(pieces))]
            return super().read_each(pieces)

    system = System(Garbage(opened("users")))
    sleepers = sleepers_of(system)
    read_ahead(system, sleepers)
    assert sleepers[0].window == b""
    assert sleepers[0].functions == ()
    assert sleepers[1].window  # what could not be read at once is asked for again


CRASH = """
import sys
from faultkit.kernel.target import Kernel
tasks = kernel.tasks()
tgid = kernel.offset("task_struct", "tgid")
assert len(tasks) > 50
for task in tasks:
    assert kernel.u32(task.address + tgid) == task.pid, task
pieces = [(task.address + at, size) for task in tasks for at, size in ((8, 3), (4000, 300))]
pieces += [(0, 8), (8, 8), (1 << 63, 8), ((1 << 64) - 4, 8), (tasks[0].address, 0)]
found = kernel.read_each(pieces)
assert found == Kernel.read_each(kernel, pieces)
assert found[-5:] == [None, None, None, None, b""], found[-5:]
data = kernel.read(tasks[5].address, 4093)
for ranges in ([(0, 1 << 20)], [(1 << 63, (1 << 64) - 1)], [(5, 5), (0, 9), (1 << 62, 1 << 64)]):
    ranges = [(start, min(end, (1 << 64) - 1)) for start, end in ranges]
    asked = [data, b"", data[:1000]], 2001, *ranges
    words = kernel.words_of_each(*asked)
    assert words[0] and words == Kernel.words_of_each(kernel, *asked)
assert kernel.words_of_each([], 8, (0, 1)) == []
print("as it should be")
"""


def test_crash_reads_at_once_as_one_by_one(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with Session(dump("users")) as crash:
        assert crash.python(tmp_path, CRASH) == "as it should be\n"


def test_the_default_says_what_it_cannot_read() -> None:
    kernel = opened("users")
    address = kernel.symbol("init_task") or 0
    assert kernel.read_each([(address, 4), (8, 4)]) == [kernel.read(address, 4), None]
    with pytest.raises(ReadError):
        kernel.read(8, 4)
