"""Sleeping locks of kernels: what their providers tell of the lab's dump, beyond the findings, and
what becomes of that when memory is damaged."""

import functools
import random
import sys
import time
from collections.abc import Iterator
from typing import Callable, Optional

import pytest

if sys.version_info < (3, 11):
    pytest.skip("drgn is installed for Python 3.11 and newer", allow_module_level=True)

from altered_kernel import AlteredKernel
from drgn.helpers.linux.locking import mutex_owner
from drgn_kernel import DrgnKernel
from lab.dumps import dump

from faultkit.graph import WaitGraph
from faultkit.kernel.details import name_address
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.snapshot import KernelSnapshot
from faultkit.kernel.system import System
from faultkit.kernel.waits import _completion, mutex, rwsem, semaphore
from faultkit.model import EVENT, HELD, INFERRED, PROVEN, Wait

GARBAGE = 0x6B6B_6B6B_6B6B_6B6B  # what slub_debug fills freed memory with


@functools.cache
def _kernel(boot: str) -> DrgnKernel:
    made = dump(boot)
    return DrgnKernel(str(made.vmlinux), str(made.vmcore), [str(made.module)])


@pytest.fixture(scope="module")
def kernel() -> DrgnKernel:
    return _kernel("sleeping")


@pytest.fixture
def altered(kernel: DrgnKernel) -> AlteredKernel:
    return AlteredKernel(kernel)


def _waits(kernel: DrgnKernel) -> dict[str, Wait]:
    """What each task waits for, by the task's name."""
    snapshot = KernelSnapshot(System(kernel))
    snapshot.settle()
    return {str(task.name): wait for task, wait in snapshot.waits.items()}


def _cycles(kernel: DrgnKernel) -> set[frozenset[str]]:
    snapshot = KernelSnapshot(System(kernel))
    snapshot.settle()
    cycles = WaitGraph(snapshot.waits, snapshot.tasks).cycles()
    return {frozenset(str(wait.task.name) for wait in cycle) for cycle in cycles}


def _names(wait: Wait) -> list[Optional[str]]:
    return [task.name for task in wait.holders]


def test_mutex_owners_agree_with_drgn(kernel: DrgnKernel) -> None:
    compared = 0
    for wait in _waits(kernel).values():
        if wait.lock.kind == "kmutex" and wait.holders:
            lock = kernel.program.variable("init_task")  # a kernel object, to make others from
            lock = type(lock)(kernel.program, "struct mutex *", value=wait.lock.address)
            assert mutex_owner(lock).value_() == wait.holders[0].address
            compared += 1
    assert compared > 40


def test_readers_are_counted(kernel: DrgnKernel) -> None:
    wait = _waits(kernel)["rr-w"]
    assert (wait.mode, wait.holder_count, wait.needs) == ("write", 4, HELD)
    assert wait.suspects[0].name in {f"rr-{number}" for number in range(4)}
    assert "held by 4 readers" in " ".join(wait.evidence)
    assert wait.holders or wait.missing


@pytest.mark.parametrize(
    ("reader", "writer"), [("rq-late", "rq-writer"), ("again-reader", "again-writer")]
)
def test_reader_behind_a_queued_writer(kernel: DrgnKernel, reader: str, writer: str) -> None:
    wait = _waits(kernel)[reader]
    assert (wait.mode, wait.queued, wait.confidence) == ("read", True, PROVEN)
    assert _names(wait) == [writer]


def test_percpu_readers_are_counted(kernel: DrgnKernel) -> None:
    wait = _waits(kernel)["pr-b"]
    assert (wait.lock.kind, wait.mode, wait.holder_count) == ("percpu_rwsem", "write", 1)


@pytest.mark.parametrize(
    ("boot", "task", "kind", "holder"),
    [
        ("sleeping", "ks-a", "kthread_stop", "ks-b"),
        ("sleeping", "fw-a", "work", "kworker"),
        ("sleeping", "cw-a", "work", "kworker"),
        ("sleeping", "fq-a", "workqueue", "kworker"),
        ("sleeping", "dq-a", "workqueue", "kworker"),
        ("events", "kp-a", "kthread_park", "kp-b"),
        ("events", "kw-a", "kthread_work", "kw-worker"),
        ("events", "hb-a", "work", "kworker"),
        ("events", "tf-first", "workqueue", "kworker"),
        ("events", "tf-second", "workqueue", "tf-first"),
        ("events", "um-a", "usermode-helper", "kworker"),
        ("events", "cd-dumper", "coredump", "cd-stuck"),
        ("grace", "gp-waiter", "rcu", "gp-spinner"),
    ],
)
def test_who_has_to_act(boot: str, task: str, kind: str, holder: str) -> None:
    wait = _waits(_kernel(boot))[task]
    assert (wait.lock.kind, wait.needs) == (kind, EVENT)
    assert wait.confidence == (INFERRED if kind == "rcu" else PROVEN)
    assert [str(name).split("/")[0] for name in _names(wait)] == [holder]


def test_address_spaces_are_named() -> None:
    wait = _waits(_kernel("events"))["ml-b"]
    assert (wait.lock.kind, _names(wait)) == ("rwsem", ["ml-a"])
    assert wait.lock.name == f"mmap_lock of {wait.task.pid} mmap_lock"


def test_a_lock_on_a_kernel_stack_is_named() -> None:
    kernel = _kernel("helpers")
    wait = _waits(kernel)["os-self"]
    name = name_address(System(kernel), wait.lock.address or 0)
    assert name == f"stack of {wait.task.tid} os-self"


def test_a_frozen_file_system_is_named() -> None:
    wait = _waits(_kernel("users"))["frozen-create"]
    assert (wait.lock.kind, wait.lock.name, wait.needs) == ("frozen-fs", "ram0", EVENT)


def test_semaphores_name_no_holder_of_their_own(kernel: DrgnKernel) -> None:
    system = System(kernel)
    snapshot = KernelSnapshot(system)
    for task, sleeper in snapshot.sleepers.items():
        if task.name == "se-a":
            wait = semaphore.recognise(sleeper)
            assert wait is not None and not wait.holders and wait.missing and wait.any_of
            return
    pytest.fail("no task se-a")


def _mutex(altered: AlteredKernel) -> tuple[int, str]:
    address = _waits(altered)["mx-a"].lock.address
    assert address is not None
    return address, "mx-a"


def _rwsem(altered: AlteredKernel) -> tuple[int, str]:
    address = _waits(altered)["rw-a"].lock.address
    assert address is not None
    return address, "rw-a"


def _semaphore(altered: AlteredKernel) -> tuple[int, str]:
    address = _waits(altered)["se-a"].lock.address
    assert address is not None
    return address, "se-a"


Place = Callable[[AlteredKernel], tuple[int, str]]
CORRUPT, ORPHANED = "corrupt-lock", "orphaned-lock"


@pytest.mark.parametrize(
    ("place", "type_name", "member", "values", "fault"),
    [
        (_mutex, "mutex", "owner", (GARBAGE,), CORRUPT),
        (_mutex, "mutex", "owner", (0x4141_4141_4141_4141,), CORRUPT),
        (_mutex, "mutex", "owner", (0xFFFF_FFFF_FFFF_FFF9,), CORRUPT),
        (_mutex, "mutex", "owner", (0,), CORRUPT),
        (_mutex, "mutex", "wait_list", (0, 0), CORRUPT),
        (_mutex, "mutex", "wait_list", (GARBAGE, GARBAGE), CORRUPT),
        (_rwsem, "rw_semaphore", "owner", (GARBAGE,), CORRUPT),
        (_rwsem, "rw_semaphore", "count", (GARBAGE,), CORRUPT),
        (_rwsem, "rw_semaphore", "count", (0,), CORRUPT),
        (_rwsem, "rw_semaphore", "wait_list", (GARBAGE, GARBAGE), CORRUPT),
        (_semaphore, "semaphore", "wait_list", (GARBAGE, GARBAGE), CORRUPT),
        (_semaphore, "semaphore", "lock", (3 << 32,), CORRUPT),  # its count is behind that
    ],
)
def test_overwritten_locks(
    altered: AlteredKernel,
    place: Place,
    type_name: str,
    member: str,
    values: tuple[int, ...],
    fault: str,
) -> None:
    address, task = place(altered)
    offset = altered.offset(type_name, member)
    assert offset is not None
    altered.put(address + offset, *values)
    wait = _waits(altered)[task]
    assert (wait.fault, wait.holders) == (fault, ()), wait
    assert wait.fault_detail
    assert wait.lock.address == address


@pytest.mark.parametrize(
    ("place", "type_name", "words"),
    [(_mutex, "mutex", ("owner",)), (_rwsem, "rw_semaphore", ("count", "owner"))],
)
def test_a_lock_whose_waiters_are_being_changed_is_not_overwritten(
    altered: AlteredKernel, place: Place, type_name: str, words: tuple[str, ...]
) -> None:
    """While somebody has its wait_lock, the list and the flag may differ."""
    address, task = place(altered)
    for word in words:
        altered.put(address + (altered.offset(type_name, word) or 0), 0)
    wait_lock = address + (altered.offset(type_name, "wait_lock") or 0)
    altered.put(wait_lock & ~7, altered.u64(wait_lock & ~7) | 1 << 8 * (wait_lock & 7))
    wait = _waits(altered)[task]
    assert (wait.changing, wait.holders) == (True, ())
    assert wait.fault != CORRUPT


@pytest.mark.parametrize("place", [_mutex, _rwsem, _semaphore])
def test_locks_that_the_dump_lacks_are_unknown(altered: AlteredKernel, place: Place) -> None:
    address, task = place(altered)
    for at in range(0, 48, 8):
        altered.put(address + at, None)
    wait = _waits(altered)[task]
    assert (wait.fault, wait.holders, wait.needs) == (None, (), HELD)
    assert wait.missing


def test_words_of_an_earlier_call_are_no_damaged_lock(altered: AlteredKernel) -> None:
    """What looks like a waiter struct, but lies in no frame that waits for a mutex."""
    address, name = _mutex(altered)
    system = System(altered)
    task = next(task for task in system.tasks if task.name == name)
    other = next(task for task in system.tasks if task.name == "kthreadd")
    left_over = Sleeper(system, task, 0).sp + 8  # registers that the scheduler keeps
    elsewhere = (other.address or 0) + 256
    altered.put(left_over, elsewhere, elsewhere, task.address)
    for at in range(0, 48, 8):
        altered.put(address + at, None)
    wait = _waits(altered)[name]
    assert (wait.fault, wait.holders, wait.needs) == (None, (), HELD), wait
    assert wait.missing


def test_words_of_an_earlier_call_do_not_hide_the_waiter(altered: AlteredKernel) -> None:
    """They link to the waiter struct, and to the lock, neither of which links back."""
    name = "co-a"
    system = System(altered)
    task = next(task for task in system.tasks if task.name == name)
    sleeper = Sleeper(system, task, 0)
    kind = _completion.QUEUE
    links = altered.offset(kind.waiter, kind.links) or 0
    places = [waiter + links for waiter in sleeper.waiter_structs(kind.waiter, kind.task)]
    (node,) = [at for at in places if altered.u64(altered.u64(at) + 8) == at]
    altered.put(sleeper.sp + 8, task.address, node, altered.u64(node + 8))
    wait = _waits(altered)[name]
    assert (wait.lock.kind, wait.fault) == ("completion", None)


def test_an_owner_that_the_dump_lacks_is_unknown(altered: AlteredKernel) -> None:
    address, task = _mutex(altered)
    unmapped = 0xFFFF_8000_1234_5600
    altered.put(address + (altered.offset("mutex", "owner") or 0), unmapped | 1)
    wait = _waits(altered)[task]
    assert (wait.fault, wait.holders) == (None, ())
    assert wait.missing and "lacks" in wait.missing


def test_an_owner_that_was_counted_down_is_overwritten(altered: AlteredKernel) -> None:
    """As a reference count would be that lies there by now."""
    address, task = _mutex(altered)
    owner = address + (altered.offset("mutex", "owner") or 0)
    altered.put(owner, altered.u64(owner) - 2)
    wait = _waits(altered)[task]
    assert (wait.fault, wait.holders) == (CORRUPT, ())
    assert "counted" in (wait.fault_detail or "")


def test_a_live_owner_that_is_not_listed_is_unknown(altered: AlteredKernel) -> None:
    """As with a debugger that does not see all tasks: nothing is broken, but something hidden."""
    everybody = altered.tasks()
    altered.tasks = lambda: [t for t in everybody if t.name != "mx-b"]  # type: ignore[method-assign]
    wait = _waits(altered)["mx-a"]
    assert (wait.fault, wait.holders) == (None, ())
    assert wait.missing and "not among the tasks" in wait.missing


def test_a_mutex_that_nobody_holds_lost_its_wake_up(altered: AlteredKernel) -> None:
    """Nothing runs in this dump, so nobody is about to hand it on."""
    address, task = _mutex(altered)
    altered.put(address + (altered.offset("mutex", "owner") or 0), 1)
    system = System(altered)
    if any(running.tid for running in system.running.values()):
        pytest.skip("some task runs in this dump")
    assert _waits(altered)[task].fault == "lost-wakeup"


def test_a_mutex_that_was_handed_to_a_waiter_is_no_self_deadlock(altered: AlteredKernel) -> None:
    address, task = _mutex(altered)
    waiter = _waits(altered)[task].task
    altered.put(address + (altered.offset("mutex", "owner") or 0), (waiter.address or 0) | 5)
    wait = _waits(altered)[task]
    assert (wait.changing, wait.holders) == (True, ())
    assert wait.fault in (None, "lost-wakeup")


def _damages(seed: int, kernel: DrgnKernel, lock: int, stack: int) -> Iterator[tuple[int, int]]:
    chance = random.Random(seed)
    pool = (0, GARBAGE, lock, lock + 8, stack & ~7, 0xDEAD_0000_0000_0100, 1, (1 << 64) - 1)
    for _ in range(chance.randint(1, 6)):
        near = lock if chance.random() < 0.5 else stack
        at = (near & ~7) + 8 * chance.randint(-2, 40)
        yield at, chance.choice(pool) if chance.random() < 0.8 else chance.getrandbits(64)


TASKS = ("mx-a", "rw-b", "se-a", "rt-a", "pw-b", "pr-b", "fw-a", "fq-a", "ks-a", "folio-0")


@pytest.mark.parametrize("name", TASKS)
def test_damage_makes_no_cycle_and_no_traceback(altered: AlteredKernel, name: str) -> None:
    """Words of a lock and of its waiter's stack are overwritten by what names no task: cycles
    may be lost, none may appear, and nothing may take long."""
    true = _cycles(altered)
    snapshot = KernelSnapshot(System(altered))
    task, sleeper = next(item for item in snapshot.sleepers.items() if item[0].name == name)
    lock = snapshot.waits[task].lock.address or sleeper.sp
    for seed in range(12):
        altered.words_over.clear()
        for at, value in _damages(seed, altered, lock, sleeper.sp):
            altered.put(at, value)
        began = time.monotonic()
        cycles = _cycles(altered)
        assert cycles <= true, f"seed {seed}"
        assert time.monotonic() - began < 20


def test_slow_path_functions_exist(kernel: DrgnKernel) -> None:
    """Each family of locks sleeps in a function of its list, by the kernel's own names."""
    for provider in (mutex, rwsem, semaphore):
        assert any(kernel.symbol(name) for name in provider.FUNCTIONS)
