"""Damaged dumps: whatever the memory of programs and of the kernel's files, sockets and mappings
holds, no traceback, no hang, and no deadlock where none was played."""

import time

import pytest
from damaged_kernel import Damaged
from kernel_dumps import look, opened, report_of
from lab.scenarios import users

from faultkit.kernel import trees
from faultkit.render.text import render_text

SECONDS = 60
SEEDS = range(4)


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
