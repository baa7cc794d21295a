"""Whatever the arguments and the memory behind them: an answer or None, never a traceback."""

import os
import random
import struct

import pytest

from faultkit import waits
from faultkit.model import OUTSIDE, Task, Wait
from faultkit.procfs.process import ProcProcess
from faultkit.target import Syscall
from faultkit.waits.calls import (
    child,
    file_lock,
    flock,
    outside,
    pipe,
    poll,
    socket,
    sysv_msg,
    sysv_sem,
)
from faultkit.world import Blocked, World

MODULES = (child, file_lock, flock, outside, pipe, poll, socket, sysv_msg, sysv_sem)
CALLS = sorted(set().union(*(module.SYSCALLS for module in MODULES)))


class Garbage(ProcProcess):
    """This process, with memory full of random bytes."""

    def __init__(self, pid, seed):
        super().__init__(pid)
        self.random = random.Random(seed)

    def read(self, address, size):
        assert size < 1 << 17, "an unbounded read"
        return self.random.randbytes(size)


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("nr", CALLS)
def test_garbage(nr, live):
    pid = os.getpid()
    process = Garbage(pid, nr)
    process.live = live
    world = World([process])
    task = Task(pid, pid)
    chance = random.Random(nr)
    odd = [0, 1, 2, 3, 5, 7, 38, 73, 0xFFFFFFFF, (1 << 64) - 1, 1 << 63, 1 << 31, 0x7FFFFFFF]
    for _ in range(30):
        args = tuple(
            chance.choice([*odd, chance.getrandbits(64), chance.getrandbits(10)]) for _ in range(6)
        )
        wait = waits.recognise(Blocked(world, process, task, Syscall(nr, args, 0, 0)))
        assert wait is None or isinstance(wait, Wait)
        if wait is not None and not live:
            assert not wait.holders


def test_every_call_has_somebody_who_answers_last():
    process = ProcProcess(os.getpid())
    task = Task(process.pid, process.pid)
    seen = Blocked(World([process]), process, task, Syscall(219, (0,) * 6, 0, 0))
    assert {outside} == {list(waits.providers(seen))[-1]}
    wait = outside.recognise(seen)
    assert (wait.lock.kind, wait.needs, wait.timed) == ("timed", OUTSIDE, True)
    assert struct.calcsize("hh4xqqi4x") == file_lock.STRUCT_FLOCK.size
