"""Dumps that lack pages: less is found in them, and nothing that a whole one would not show.

A full disk, a filter that does not know the kernel's structures, failing memory: whatever is
missing, no owner counts as gone, no lock as damaged and no cycle as closed because of that.
"""

import functools
from zlib import crc32

import pytest
from kernel_dumps import opened, report_of

from faultkit.kernel.target import Kernel
from faultkit.target import ReadError

BOOTS = ("users", "sleeping", "events", "inferred")
KERNELS = (
    "6.1",
    *(pytest.param(name, marks=pytest.mark.matrix) for name in ("5.10", "6.12", "7")),
)
RATES = (0.002, 0.01, 0.04, 0.1)
SEEDS = range(6)
IMAGE = range(0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_C000_0000)  # of the kernel: no dump lacks it


class Holed:
    """A host whose dump lacks some pages, and the tasks whose structures lie in them."""

    def __init__(self, host: Kernel, seed: int, rate: float) -> None:
        self._host = host
        self._seed = seed
        self._missing = int(rate * 2**32)

    def __getattr__(self, name):
        return getattr(self._host, name)

    u32, u64, words = Kernel.u32, Kernel.u64, Kernel.words
    read_each, words_of_each = Kernel.read_each, Kernel.words_of_each

    def _check(self, of, address, size):
        for page in range(address >> 12, (address + size - 1 >> 12) + 1):
            if crc32(b"%d %d %d" % (of, page, self._seed)) < self._missing:
                raise ReadError(address, size)

    def _has(self, task):
        try:
            self._check(0, task.address, 1)
        except ReadError:
            return not task.tid  # the idle tasks are part of the image, or as good as that
        return True

    def read(self, address, size):
        if address not in IMAGE:
            self._check(0, address, size)
        return self._host.read(address, size)

    def read_user(self, task, address, size):
        self._check(task.pid, address, size)
        return self._host.read_user(task, address, size)

    def tasks(self):
        return [task for task in self._host.tasks() if self._has(task)]

    def running(self):
        return {cpu: task for cpu, task in self._host.running().items() if self._has(task)}


def claimed(report):
    """The type and the members' names of every finding but chains, whose roots a dump may lack."""
    for finding in report.findings:
        if finding.type != "chain":
            names = [str(wait.task.name) for wait in finding.members]
            short = frozenset("kworker" if name.startswith("kworker/") else name for name in names)
            yield finding.type, short


@functools.cache
def shown(boot, kernel):
    """What the whole dump shows."""
    return set(claimed(report_of(opened(boot, kernel))))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("boot", BOOTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_claimed_because_of_what_is_missing(boot, kernel, seed):
    whole, expected = opened(boot, kernel), shown(boot, kernel)
    for rate in RATES:
        found = set(claimed(report_of(Holed(whole, seed, rate))))
        assert found <= expected, (rate, found - expected)
