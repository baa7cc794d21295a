"""Damaged dumps: whatever the memory of programs and of the kernel's files, sockets and mappings
holds, no traceback, no hang, and no deadlock where none was played."""

import random
import time

import pytest
from kernel_dumps import look, opened, report_of
from lab.scenarios import users

from faultkit.kernel import trees
from faultkit.kernel.target import Kernel
from faultkit.render.text import render_text
from faultkit.target import ReadError

SECONDS = 60
SEEDS = range(4)


class Damaged:
    """A view of a host whose memory is damaged: each read may fail, or have a word replaced by
    another pointer that was seen, by garbage, or by a pointer to itself.  Tasks' states and
    stacks stay sound, as the rest is then not asked at all."""

    def __init__(self, host: Kernel, seed: int, rate: float, user_only: bool = False) -> None:
        self._host = host
        self._random = random.Random(seed)
        self._rate = rate
        self._user_only = user_only
        self._pointers = [0, 1, 0xFFFF_8880_0000_0000, (1 << 64) - 1, 0x7FFF_F000]
        self.damaged = 0

    def __getattr__(self, name):
        return getattr(self._host, name)

    def read(self, address, size):
        data = self._host.read(address, size)
        return data if self._user_only else self._damage(address, data)

    def read_user(self, task, address, size):
        return self._damage(address, self._host.read_user(task, address, size))

    def u32(self, address):
        return int.from_bytes(self.read(address, 4), "little")

    def u64(self, address):
        return int.from_bytes(self.read(address, 8), "little")

    def words(self, address, count):
        return Kernel.words(self, address, count)

    def _damage(self, address, data):
        chance = self._random.random()
        if chance > self._rate:
            if len(data) >= 8 and chance > 0.99:
                self._pointers.append(int.from_bytes(data[:8], "little"))
            return data
        self.damaged += 1
        if chance < self._rate / 4:
            raise ReadError(address, len(data))
        at = self._random.randrange(max(len(data) // 8, 1)) * 8
        word = self._random.choice(
            (self._random.choice(self._pointers), address, self._random.getrandbits(64))
        )
        return (data[:at] + word.to_bytes(8, "little") + data[at + 8 :])[: len(data)]


@pytest.mark.parametrize("rate", (0.002, 0.02, 0.2))
@pytest.mark.parametrize("seed", SEEDS)
def test_any_memory(seed, rate):
    host = Damaged(opened("users"), seed, rate)
    began = time.monotonic()
    report = report_of(host)
    assert render_text(report, 100, False)
    assert time.monotonic() - began < SECONDS
    assert host.damaged


@pytest.mark.parametrize("seed", SEEDS)
def test_no_cycle_is_made_up(seed):
    """None comes from garbage in the memory of programs but those that were played."""
    host = Damaged(opened("users"), seed, 0.05, user_only=True)
    played = {frozenset(e.members) for fault in users.ALL for e in fault.findings}
    for finding in report_of(host).findings:
        if finding.type == "cycle":
            assert frozenset(wait.task.name for wait in finding.members) in played


@pytest.mark.parametrize("seed", SEEDS)
def test_owners_that_are_no_tasks_hold_nothing(seed):
    """Holders are tasks of the dump, whatever the words say."""
    host = Damaged(opened("users"), seed, 0.1, user_only=True)
    snapshot = look(host)
    tasks = set(snapshot.tasks)
    for wait in snapshot.waits.values():
        assert set(wait.holders) <= tasks


class Looping:
    """Memory in which every word is the same pointer: each list and tree leads to itself."""

    def __init__(self, word):
        self.word = word

    def read(self, address, size):
        return (self.word.to_bytes(8, "little") * (size // 8 + 1))[:size]

    def u64(self, address):
        return self.word

    def words(self, address, count):
        return (self.word,) * count

    def offset(self, type_name, member):
        return 0


@pytest.mark.parametrize("low_bits", (0, 2, 0x0E, 0x16, 0x1E))
def test_trees_that_lead_to_themselves_end(low_bits):
    memory = Looping(0xFFFF_8881_0000_0000 | low_bits)
    began = time.monotonic()
    assert len(list(trees.rb_nodes(memory, memory.word, 1000))) <= 2000
    assert len(list(trees.maple_entries(memory, 0, 1000))) <= 1000
    for index in (0, 1, 63, 1 << 40):
        trees.xarray_load(memory, 0, index)
    assert time.monotonic() - began < 10
