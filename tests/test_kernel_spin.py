"""Spinlocks among CPUs: which lock a CPU spins for, what the lock's word has to say to that, and
who holds it."""

import functools
import sys

import pytest

if sys.version_info < (3, 11):
    pytest.skip("drgn is installed for Python 3.11 and newer", allow_module_level=True)

from altered_kernel import AlteredKernel
from kernel_dumps import opened, report_of

from faultkit.kernel.cpus import spinners
from faultkit.kernel.snapshot import KernelSnapshot
from faultkit.kernel.spinlocks import standing_in_queue
from faultkit.kernel.system import System
from faultkit.kernel.unrecorded import fill_holders
from faultkit.render.text import render_text

KERNELS = (
    "6.1",
    *(pytest.param(name, marks=pytest.mark.matrix) for name in ("5.10", "6.12", "7")),
)
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


def spinning(kernel):
    """What the tasks on CPUs spin for, by their names."""
    return {str(task.name): wait for task, wait in spinners(System(kernel)).items()}


def held(kernel):
    """The same with the holders that inference finds."""
    snapshot = KernelSnapshot(System(kernel))
    snapshot.settle()
    fill_holders(snapshot)
    return {str(task.name): wait for task, wait in snapshot.waits.items()}


@functools.cache
def spins_of(boot, kernel="6.1"):
    return spinning(opened(boot, kernel))


def lock_of(boot, name, kernel="6.1"):
    """The lock that a task spins for."""
    return spins_of(boot, kernel)[name].lock.address


@every_kernel
@pytest.mark.parametrize(
    "boot, task, symbol",
    [
        ("spin-crossed", "ss-a", "lab_tail_lock"),
        ("spin-crossed", "sh-b", "lab_tx_lock"),
        ("spin-crossed-virtual", "ss-b", "lab_head_lock"),
        ("spin-queued", "sq-2", "lab_queued_lock"),
        ("spin-inferred", "rl-writer", "lab_table"),
        ("spin-irq", "irq-holder", "lab_irq_lock"),
    ],
)
def test_the_lock_is_the_one_in_the_source(kernel, boot, task, symbol):
    host = opened(boot, kernel)
    assert lock_of(boot, task, kernel) == host.program[symbol].address_


@every_kernel
def test_who_queues_and_where(kernel):
    """Where the kernel queues, the word names the last CPU, and all others lead to it."""
    host = opened("spin-queued", kernel)
    system = System(host)
    lock = lock_of("spin-queued", "sq-0", kernel)
    word = host.u32(lock)
    cpus = {task.name: cpu for cpu, task in system.running.items()}
    queue = [
        name
        for name in ("sq-0", "sq-1", "sq-2")
        if standing_in_queue(system, cpus[name], lock, word)
    ]
    assert queue == ["sq-0", "sq-1", "sq-2"]
    assert (word >> 18) - 1 in [cpus[name] for name in queue]


@every_kernel
@pytest.mark.parametrize("boot", ["spin-crossed", "spin-crossed-virtual"])
def test_a_lock_freed_meanwhile_is_waited_for_by_nobody(kernel, boot):
    host = opened(boot, kernel)
    lock = lock_of(boot, "ss-a", kernel)
    altered = AlteredKernel(host)
    at = lock & ~7
    altered.put(at, host.u64(at) & ~(0xFFFF_FFFF << 8 * (lock & 7)))
    assert "ss-a" not in spinning(altered)
    assert {"ss-a", "ss-b"} not in [
        {wait.task.name for wait in finding.members} for finding in report_of(altered).findings
    ]


def test_a_word_that_contradicts_the_queue_proves_nothing():
    """The tail names a CPU that is not queued behind this one, and it is not pending."""
    host = opened("spin-queued")
    system = System(host)
    lock = lock_of("spin-queued", "sq-0")
    cpus = {task.name: cpu for cpu, task in system.running.items()}
    for word in (0, 0x02, 0x10001 | 63 << 18, 0x4001, 0xFFFF_FFFF):
        assert standing_in_queue(system, cpus["sq-0"], lock, word) is None


@every_kernel
def test_holders_by_the_arguments_that_their_code_was_given(kernel):
    """Three CPUs run the same code, and only what it was passed tells which of them took it."""
    waits = held(opened("spin-queued", kernel))
    assert [task.name for task in waits["sq-owner"].holders] == ["sq-0"]


@every_kernel
def test_a_reader_queues_behind_a_writer_that_waits(kernel):
    """The lock's readers would let it in; the writer, which comes first, does not."""
    wait = spins_of("read-again", kernel)["ra-reader"]
    assert (wait.lock.kind, wait.mode, wait.queued) == ("rwlock_t", "read", True)
    assert [str(task.name) for task in wait.holders] == ["ra-writer"]


def test_an_interrupt_spins_for_what_it_interrupted():
    report = report_of(opened("spin-irq"))
    (finding,) = report.findings
    assert finding.type == "self-deadlock"
    assert "irq_holder() calls _raw_spin_lock on it" in " ".join(finding.members[0].evidence)


def test_a_panic_s_own_frames_are_seen_through():
    """Stopped by an interrupt, or panicking in one, a CPU still spins."""
    waits = held(opened("spin-panic"))
    assert [task.name for task in waits["ss-a"].holders] == ["ss-b"]
    assert [task.name for task in waits["ss-b"].holders] == ["ss-a"]


def test_an_owner_that_sleeps_for_a_time_is_told_of():
    """It ends by itself, so no finding has it; but the CPU spins for all that time."""
    report = report_of(opened("slabs"))
    (note,) = [note for note in report.notes if "nap_lock" in note]
    assert note.startswith("1 CPU spins for spinlock nap_lock") and "forbidden" in note


def test_an_owner_that_runs_is_named_and_not_blamed():
    report = report_of(opened("spin-others"))
    assert not [f for f in report.findings if "busy" in str([w.task.name for w in f.members])]
    (note,) = [note for note in report.notes if "lab_busy_lock" in note]
    assert "and runs" in note


def test_an_owner_that_sleeps_is_told():
    waits = held(opened("spin-others"))
    assert any("which is forbidden" in line for line in waits["slept-owner"].evidence)


def test_contention_is_no_deadlock():
    report = report_of(opened("spin-hot"))
    assert report.findings == []


def test_garbage_in_registers_and_queues():
    """Locks, queue nodes and stacks that hold anything: no traceback, and no cycle but those."""
    host = opened("spin-crossed")
    plain = {frozenset(w.task.name for w in f.members) for f in report_of(host).findings}
    for name in ("ss-a", "sh-a"):
        lock = lock_of("spin-crossed", name) & ~7
        for value in (0, 1, (1 << 64) - 1, 0x6B6B_6B6B_6B6B_6B6B, lock, None):
            altered = AlteredKernel(host)
            altered.put(lock, value)
            for cpu in range(5):
                altered.put(altered.per_cpu(altered.symbol("qnodes"), cpu), value, value)
            report = report_of(altered)
            assert render_text(report, 100, False)
            found = {frozenset(w.task.name for w in f.members) for f in report.findings}
            assert found <= plain | {frozenset((name,))}
