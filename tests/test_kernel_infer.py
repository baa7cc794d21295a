"""Holders that kernels do not record: what the code and stacks of the lab's tasks tell of them,
what that rests on, and what is refused where memory is damaged or code is missing."""

import functools
import random
import sys

import pytest

if sys.version_info < (3, 11):
    pytest.skip("drgn is installed for Python 3.11 and newer", allow_module_level=True)

from altered_kernel import AlteredKernel
from drgn_kernel import DrgnKernel
from kernel_dumps import opened, report_of
from lab.dumps import dump

from faultkit.graph import WaitGraph
from faultkit.infer.flow import Tracer
from faultkit.kernel.code import KernelCode
from faultkit.kernel.functions import SPIN
from faultkit.kernel.registers import CALLEE_SAVED, frames_with_registers
from faultkit.kernel.snapshot import KernelSnapshot
from faultkit.kernel.space import KernelSpace
from faultkit.kernel.system import System
from faultkit.kernel.unrecorded import fill_holders
from faultkit.model import INFERRED
from faultkit.target import ReadError

KERNELS = (
    "6.1",
    *(pytest.param(name, marks=pytest.mark.matrix) for name in ("5.10", "6.12", "7")),
)
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


def seen(kernel):
    """What each task waits for, by the task's name, inference included."""
    snapshot = KernelSnapshot(System(kernel))
    snapshot.settle()
    fill_holders(snapshot)
    return {str(task.name): wait for task, wait in snapshot.waits.items()}, snapshot


@functools.cache
def waits_of(boot, kernel="6.1"):
    return seen(opened(boot, kernel))[0]


def cycles(snapshot):
    graph = WaitGraph(snapshot.waits, snapshot.tasks)
    return {frozenset(str(wait.task.name) for wait in cycle) for cycle in graph.cycles()}


def holders(waits, name):
    return sorted(str(task.name) for task in waits[name].holders)


@every_kernel
def test_registers_are_those_that_drgn_unwinds(kernel):
    """Independently: drgn goes by call frame information, we by what the prologues pushed."""
    host = opened("inferred", kernel)
    system = System(host)
    compared = 0
    for task in system.tasks:
        if not task.tid:
            continue
        trace = [f for f in host.program.stack_trace(host._struct(task)) if not f.is_inline]
        for ours, theirs in zip(frames_with_registers(system, task), trace):
            assert (ours.address, ours.sp) == (theirs.pc, theirs.sp)
            known = theirs.registers()
            for name in CALLEE_SAVED:
                if name in known and name in (ours.registers or {}):
                    assert ours.registers[name] == known[name], f"{name} of {ours}"
                    compared += 1
    assert compared > 1000


@every_kernel
@pytest.mark.parametrize(
    "waiter, expected",
    [
        ("rh-writer", ["rh-reader"]),
        ("rc-writer", ["rc-1", "rc-2"]),
        ("rp-writer", []),
        ("sl-wanter", ["sl-taker"]),
        ("ch-waits", ["ch-ends"]),
        ("po-writer", ["po-reader"]),
    ],
)
def test_holders(kernel, waiter, expected):
    wait = waits_of("inferred", kernel)[waiter]
    assert sorted(str(task.name) for task in wait.holders) == expected
    if expected:
        assert wait.confidence == INFERRED and wait.missing is None
        for holder in wait.holders:
            assert any(line.startswith(f"task {holder.tid}: ") for line in wait.evidence)
    else:
        assert wait.missing


@every_kernel
def test_who_gave_it_back_by_helpers_is_not_named(kernel):
    """By helpers of helpers, by jumps of two bytes, by what a pointer or a list leads to."""
    waits = waits_of("helpers", kernel)
    given_back = {
        *("hp-deep", "hp-deeper", "hp-jump", "hp-known", "hp-listed", "hp-pointer"),
        *("hp-visit", "hp-slots", "hp-often", "hp-moved"),
    }
    for prefix in given_back:
        wait = waits[f"{prefix}-wants"[:15]]
        assert (wait.holders, bool(wait.missing)) == ((), True), prefix
    assert holders(waits, "hr-wants") == ["hr-past"]
    assert holders(waits, "he-wants") == ["he-past"]


@every_kernel
@pytest.mark.parametrize(
    "waiter, caller",
    [
        ("dt-timer-waits", "a timer that is due calls on_timer()"),
        ("dt-else-waits", "a timer that is due calls on_timer_elsewhere()"),
        ("dt-up-waits", "a timer that is due calls on_timer_up()"),
        ("dt-precise-wait", "a timer that is due calls on_precise()"),
        ("dt-later-waits", "delayed work that is due calls on_later()"),
        ("dt-klater-waits", "delayed work that is due calls on_kthread_later()"),
        ("dt-irq-waits", "an interrupt calls on_interrupt()"),
    ],
)
def test_what_ends_without_a_task_is_no_deadlock(kernel, waiter, caller):
    wait = waits_of("helpers", kernel)[waiter]
    assert (wait.holders, wait.missing) == ((), None)
    assert f"{caller}, which ends this wait" in wait.evidence


@every_kernel
def test_what_may_end_without_a_task_is_no_deadlock(kernel):
    """A timer in the object calls what a pointer says; those of its neighbours say nothing."""
    wait = waits_of("helpers", kernel)["dt-hook-waits"]
    expected = "a timer that is due calls on_timer_hook(), which may end this wait"
    assert wait.holders == () and expected in wait.evidence


@every_kernel
@pytest.mark.parametrize("prefix", ["dt-nap", "dt-each"])
def test_who_may_end_it_later_is_another_that_could_act(kernel, prefix):
    """By a pointer, or as one of a list."""
    wait = waits_of("helpers", kernel)[f"{prefix}-waits"]
    assert [task.name for task in wait.holders] == [f"{prefix}-ends"] and wait.any_of
    assert f"{prefix}-naps" in [task.name for task in wait.others]


@every_kernel
def test_neighbours_in_a_slab_end_nothing_but_their_own(kernel):
    """Nor do hundreds of tasks that only sleep in system calls keep it open."""
    waits = waits_of("slabs", kernel)
    assert holders(waits, "sn-waits") == ["sn-ends"] and not waits["sn-waits"].others
    assert [task.name for task in waits["so-waits"].others] == ["so-rests"]


@every_kernel
@pytest.mark.parametrize("prefix", ["sp", "sh", "sa", "sk", "sx", "st", "sc", "si"])
def test_who_looks_through_a_list_may_end_what_is_on_it(kernel, prefix):
    """A list in a variable, and one in an object that it has a pointer to; an array, a hash table,
    an xarray, a tree, a per-CPU variable; and one that rests until it is woken."""
    wait = waits_of("slabs", kernel)[f"{prefix}-waits"]
    assert [task.name for task in wait.holders] == [f"{prefix}-ends"]
    assert [task.name for task in wait.others] == [f"{prefix}-polls"]


@every_kernel
def test_what_is_due_may_end_what_is_on_its_list(kernel):
    wait = waits_of("slabs", kernel)["se-waits"]
    assert wait.holders == ()
    assert "delayed work that is due calls expire(), which may end this wait" in wait.evidence


@every_kernel
def test_timers_that_end_other_waits_change_nothing(kernel):
    assert holders(waits_of("helpers", kernel), "dc-waits") == ["dc-ends"]


def test_where_timers_are_lacking_nobody_is_named():
    """One of them may end the wait: whoever would do so, too, may not be needed."""
    altered = AlteredKernel(opened("helpers"))
    altered.put(altered.per_cpu(altered.symbol("timer_bases") or 0, 1), None)
    waits, snapshot = seen(altered)
    assert waits["dc-waits"].holders == () and "timers" in (waits["dc-waits"].missing or "")
    assert not any("dt-timer-waits" in members for members in cycles(snapshot))


@every_kernel
def test_who_keeps_a_work_item_waiting_holds_what_that_completes(kernel):
    wait = waits_of("helpers", kernel)["dw-waits"]
    (worker,) = wait.holders
    assert worker.name.startswith("kworker/") and "a work item, on_work()," in wait.evidence[-1]


@every_kernel
def test_so_does_who_keeps_a_kthread_worker_s_item_waiting(kernel):
    """Itself, even."""
    waits = waits_of("helpers", kernel)
    assert holders(waits, "dk-waits") == ["dk-worker"]
    assert holders(waits, "ds-worker") == ["ds-worker"]
    assert "a kthread_worker's item, on_kthread_item()," in waits["ds-worker"].evidence[-1]


def test_evidence_names_the_function_and_the_line():
    wait = waits_of("inferred")["rh-writer"]
    assert any(
        "helped_reader() calls begin_reading, which calls down_read on it at infer.c:" in line
        and "no release between" in line
        for line in wait.evidence
    )


def test_readers_fit_the_lock_s_count():
    """With one reader less by the lock's own count, two tasks look like holders of one: neither
    is named."""
    altered = AlteredKernel(opened("inferred"))
    address = waits_of("inferred")["rc-writer"].lock.address
    offset = altered.offset("rw_semaphore", "count")
    count = altered.u64(address + offset)
    altered.put(address + offset, count - 0x100)
    waits, _ = seen(altered)
    assert waits["rc-writer"].holders == ()
    assert "look like holders" in waits["rc-writer"].missing


def test_code_that_can_t_be_read_names_nobody():
    """A dump without the module's pages: who holds its locks can't be told, and is not guessed."""
    host = opened("inferred")
    system = System(host)
    task = next(task for task in system.tasks if task.name == "rh-reader")
    pages = {
        frame.address & ~0xFFF
        for frame in frames_with_registers(system, task)
        if frame.module == "faultlab"
    }
    assert pages

    class WithoutModule(AlteredKernel):
        def read(self, address, size):
            if any(page - size < address < page + 0x1000 for page in pages):
                raise ReadError(address, size)
            return super().read(address, size)

    waits, snapshot = seen(WithoutModule(host))
    assert waits["rh-writer"].holders == ()
    assert not cycles(snapshot) & {frozenset(("rh-reader", "rh-writer"))}


class Ignorant(DrgnKernel):
    """A host without any symbol of modules, which leaves their frames out: crash --no_modules."""

    def frames(self, task, limit=64):
        return tuple(f for f in super().frames(task, limit) if f.module is None and f.symbol)


@every_kernel
@pytest.mark.parametrize("boot", ["inferred", "spin-inferred"])
def test_modules_that_the_host_does_not_know(kernel, boot):
    """Their symbols are in the kernel's memory, and their frames on the stacks."""
    made = dump(boot, kernel)
    host = Ignorant(str(made.vmlinux), str(made.vmcore))
    assert cycles(seen(host)[1]) == cycles(seen(opened(boot, kernel))[1])


def test_symbols_of_modules_are_those_of_their_files():
    made = dump("inferred")
    ours = System(DrgnKernel(str(made.vmlinux), str(made.vmcore)))
    program = opened("inferred").program
    for name in ("often_reader", "count_all", "lab_gate", "lab_twice"):
        found = ours.symbol_at(program.symbol(name).address)
        assert found == (name, 0, "faultlab")
    start, end = ours.function_bounds(program.symbol("often_reader").address + 5)
    assert (start, end - start) == (
        program.symbol("often_reader").address,
        program.symbol("often_reader").size,
    )


@pytest.mark.parametrize("member", ["kallsyms", "list", "mem"])
def test_a_module_list_of_garbage(member):
    made = dump("inferred")
    host = DrgnKernel(str(made.vmlinux), str(made.vmcore))
    head = host.symbol("modules")
    first = host.u64(head) - host.offset("module", "list")
    offset = host.offset("module", member)
    if offset is None:
        offset = host.offset("module", "core_layout")
    for value in (0, 1 << 63, head, first, 0x6B6B_6B6B_6B6B_6B6B, None):
        altered = AlteredKernel(host)
        altered.put(first + offset, value, value)
        _, snapshot = seen(altered)
        assert cycles(snapshot) <= cycles(seen(opened("inferred"))[1])


def test_stacks_of_garbage():
    """Whatever stacks and code hold, there is no traceback and no cycle that was not played."""
    host = opened("inferred")
    played = cycles(seen(host)[1])
    assert len(played) == 4
    stacks = [System(host).stack_base(task) for task in host.tasks() if task.tid]
    for seed in range(3):
        chance = random.Random(seed)
        altered = AlteredKernel(host)
        for base in stacks:
            for _ in range(60):
                at = base + 0x4000 - 8 * chance.randrange(1, 160)
                altered.put(at, chance.choice((0, chance.getrandbits(64), base + 0x3F00, None)))
        _, snapshot = seen(altered)
        assert cycles(snapshot) <= played


def test_nothing_is_unwound_where_no_lock_lacks_a_holder(monkeypatch):
    """4,000 tasks cost what the waits cost, when all of them are told by the locks themselves."""
    unwound = []
    real = DrgnKernel.frames
    monkeypatch.setattr(
        DrgnKernel, "frames", lambda self, task, limit=64: unwound.append(task) or real(self, task)
    )
    host = opened("crowd-1000")
    report = report_of(host)
    assert len(host.tasks()) > 900
    assert [finding.type for finding in report.findings] == ["cycle"]
    assert len(unwound) < 100


def test_a_lock_given_back_by_another_name_is_not_surely_held():
    """hrtimer_start_range_ns() unlocks what it reads anew from the timer: who has called it does
    not have the lock."""
    space = KernelSpace(System(opened("quiet")))
    code = KernelCode(space)
    code.begin()
    walk = Tracer(code, SPIN).walk(code.function(space.kernel.symbol("do_nanosleep")))
    assert walk.at_return is not None
    assert not [held for held in walk.at_return.held.values() if held.sure]
