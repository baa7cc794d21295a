"""What a snapshot puts right once all tasks are in view: waits that the kernel refused."""

import pytest

from faultkit.model import INFERRED, PROVEN, Lock, Task, Wait
from faultkit.snapshot import Snapshot
from faultkit.world import World

PARKED, KEEPER, OTHER = (Task(1, tid) for tid in (11, 12, 13))


def wait(task, *holders, address=0x1000, **fields):
    lock = Lock("pthread_mutex", address, key=("private", 1, address or task.tid))
    return Wait(task, lock, holders=holders, **fields)


def refused(address, *holders):
    return wait(PARKED, *holders, address=address, inherits=True, refused=True)


def settled(*waits):
    """What the first task's wait comes to among these."""
    snapshot = Snapshot(World([]))
    snapshot.waits = {wait.task: wait for wait in waits}
    snapshot.settle()
    return snapshot.waits[PARKED]


@pytest.mark.parametrize("inherits", [True, False])
def test_a_refused_mutex_closes_a_cycle_of_inheriting_ones(inherits):
    """The kernel follows no others: EDEADLK never comes of a cycle through them."""
    step = wait(OTHER, PARKED, address=0x3000, inherits=inherits)
    found = settled(
        refused(0x1000, KEEPER), wait(KEEPER, OTHER, address=0x2000, inherits=True), step
    )
    assert found.holders == ((KEEPER,) if inherits else ())
    assert bool(found.missing) is not inherits


def test_the_owner_of_a_refused_mutex_waits():
    assert settled(refused(0x1000, KEEPER)).missing
    assert settled(refused(0x1000, PARKED)).holders == (PARKED,)


@pytest.mark.parametrize("inherits", [True, False])
def test_an_untold_mutex_is_told_by_who_waits_with_inheritance(inherits):
    found = settled(refused(None), wait(KEEPER, PARKED, inherits=inherits))
    assert found.holders == ((KEEPER,) if inherits else ())
    assert found.confidence == (INFERRED if inherits else PROVEN)


@pytest.mark.parametrize("inherits", [True, False])
def test_an_untold_mutex_may_be_that_of_any_thread_of_the_chain(inherits):
    """Of three that close a cycle, the one that waits for the refused thread is the last."""
    chain = wait(OTHER, KEEPER, address=0x3000, inherits=inherits)
    found = settled(refused(None), wait(KEEPER, PARKED, inherits=True), chain)
    assert found.holders == (() if inherits else (KEEPER,))


def test_an_untold_mutex_whose_owner_may_have_exited_is_left_open():
    parked = refused(None).but(refused=False, missing="which mutex could not be told")
    assert settled(parked, wait(KEEPER, PARKED, inherits=True)) == parked
