"""The lab: crash opens its dumps, and the faults are in them, by crash's own words."""

import functools
import multiprocessing
import os
import re

import pytest
from lab import kernels, store
from lab.dumps import dump, run_crash
from lab.fixture import fixture
from lab.kernels import SOURCES, complete, kernel
from lab.layouts import missing
from lab.qemu import dump as boot
from lab.scenarios.boots import BOOTS
from lab.store import LabError

from faultkit.kernel.layouts import NEEDED

# What `make test` looks at; the rest is marked.
USUAL = {("6.1", "sleeping"), ("6.1", "users"), ("6.1", "spin-crossed"), ("6.12", "sleeping")}
# What crash's `bt` has to show of some tasks: a part of a function's name.
STACKS = {
    "sleeping": {
        "mx-a": "mutex_lock",
        "mi-b": "mutex_lock",
        "rm-b": "rwsem_down_write",
        "rq-late": "rwsem_down_read",
        "pw-b": "percpu",
        "se-a": "down",
        "rt-a": "rt_mutex",
        "co-a": "wait_for_co",
        "ks-a": "kthread_stop",
        "fw-a": "flush_work",
        "folio-0": "io_schedule",
        "buffer-0": "bit_wait_io",
    },
    "users": {
        "um-a": "futex_wait",
        "up-b": "rt_mutex",
        "fl-a": "flock",
        "of-b": "fcntl",
        "pc-a": "pipe_read",
        "pf-b": "pipe_write",
        "un-a": "unix_stream_read",
        "sv-a": "semtimedop",
        "ch-parent": "wait4",
        "fuse-client": "request_wait_answer",
        "frozen-create": "percpu_rwsem_wait",
        "dev-user": "mutex_lock",
    },
    "spin-crossed": {"sh-a": "spin", "ss-b": "spin"},
}
KERNELS = tuple(SOURCES)


def _marked(kernel_name, name):
    marks = () if (kernel_name, name) in USUAL else pytest.mark.matrix
    return pytest.param(kernel_name, name, id=f"{kernel_name}-{name}", marks=marks)


@functools.cache
def stacks(kernel_name, name):
    """crash's back traces by task name, each a text."""
    said = run_crash(dump(name, kernel_name), "foreach bt")
    parts = re.split(r"^PID: .*COMMAND: \"(.*)\"$", said, flags=re.MULTILINE)
    assert len(parts) > 20, said[-2000:]
    return dict(zip(parts[1::2], parts[2::2]))


@pytest.mark.parametrize("kernel_name, name", [_marked(k, n) for k in KERNELS for n in STACKS])
def test_faults_are_in_the_dump(kernel_name, name):
    seen = stacks(kernel_name, name)
    played = dump(name, kernel_name).faults
    for fault in played:
        if fault.threads != ("kworker",):
            assert fault.owns(seen), f"no task {fault.threads} of {fault.name}"
    for task, function in STACKS[name].items():
        if any(fault.owns([task]) for fault in played):
            # Without its modules crash can't tell the functions that fuse has.
            assert function in seen[task] or (kernel_name == "7" and "schedule" in seen[task])


def test_a_dump_is_made_once():
    first, second = dump("sleeping"), dump("sleeping")
    assert first.vmcore == second.vmcore
    assert first.vmcore.stat().st_size > 10_000_000
    assert "faultlab: ready" in first.console


def test_fault_names_are_their_own():
    """No two faults of one boot claim the same task, and every fault is played by a boot."""
    names = [fault.name for boot in BOOTS.values() for fault in boot.faults]
    assert len(set(names)) > 50
    for one in BOOTS.values():
        for name in SOURCES:
            threads = [pattern for fault in one.on(name) for pattern in fault.threads]
            assert len(set(threads)) == len(threads)


def test_a_fault_that_is_not_there_is_told(tmp_path):
    made = fixture(kernel("6.1"))
    with pytest.raises(LabError, match="no fault nonsense"):
        boot(made.kernel.image, made.initramfs, "lab.faults=nonsense", tmp_path, cpus=2, memory=256)


def test_unknown_names_are_told():
    with pytest.raises(LabError, match="no boot or fault 'nonsense'; there are: sleeping, "):
        dump("nonsense")
    with pytest.raises(LabError, match=r"no kernel 4\.19; there are: 5\.10, 6\.1, "):
        dump("sleeping", "4.19")


# --- layouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [pytest.param(k, marks=() if k in ("6.1", "6.12") else pytest.mark.matrix) for k in KERNELS],
)
def test_layouts_that_the_code_relies_on(name):
    assert missing(complete(kernel(name)), NEEDED) == []


def test_layouts_that_are_missing_are_told():
    odd = [
        (("mutex", "no_such_member"),),
        (("no_such_struct", "member"), ("mutex", "owner.counter")),
        (("no_such_struct", "member"),),
    ]
    assert missing(kernel("6.1"), odd) == [odd[0], odd[2]]


# --- what is kept -----------------------------------------------------------------------------


def _make_slowly(path, log):
    def make(aside):
        with open(log, "a") as file:
            file.write("made\n")
        (aside / "part").write_text("whole")

    store.once(path, make)


def test_two_callers_make_one(tmp_path):
    log = tmp_path / "log"
    path = tmp_path / "things" / "thing"
    context = multiprocessing.get_context("fork")
    callers = [context.Process(target=_make_slowly, args=(path, log)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert log.read_text() == "made\n"
    assert (path / "part").read_text() == "whole"


def test_what_fails_leaves_nothing(tmp_path):
    def make(aside):
        (aside / "part").write_text("half")
        raise LabError("no more")

    (tmp_path / ".thing.killed").mkdir()
    with pytest.raises(LabError):
        store.once(tmp_path / "thing", make)
    assert [path.name for path in tmp_path.iterdir()] == [".thing.lock"]


def test_what_nobody_uses_is_forgotten(tmp_path):
    for name in ("sleeping-1", "sleeping-2", "users-1"):
        store.once(tmp_path / name, lambda aside: None)
        os.utime(tmp_path / name, (0, 0))
    store.once(tmp_path / "sleeping-2", lambda aside: None)
    store.forget(tmp_path / "sleeping-3", "sleeping-*")
    assert sorted(path.name for path in tmp_path.glob("[a-z]*")) == ["sleeping-2", "users-1"]


# --- kernels that can't be had ----------------------------------------------------------------


class _Mirror:
    """An apt that names three kernels, of which only `has` can be fetched."""

    has = ""

    def __init__(self, suites):
        pass

    def names(self, pattern):
        abis = ("6.1.0-9-amd64", "6.1.0-10-amd64", "6.1.0-11-amd64", "6.1.0-11-rt-amd64")
        found = [f"linux-image-{abi}-dbg" for abi in abis]
        return [name for name in found if re.fullmatch(pattern, name)]


def _fetch(apt, abi, directory):
    if abi != apt.has:
        raise LabError(f"{abi}: 404 Not Found")


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    monkeypatch.setenv("FAULTKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(kernels, "Apt", _Mirror)
    monkeypatch.setattr(kernels, "_fetch", _fetch)
    kernel.cache_clear()
    yield monkeypatch
    kernel.cache_clear()


def test_the_next_kernel_is_taken(mirror):
    mirror.setattr(_Mirror, "has", "6.1.0-10-amd64")
    assert kernel("6.1").abi == "6.1.0-10-amd64"


def test_no_kernel_is_one_clear_failure(mirror):
    with pytest.raises(LabError) as failure:
        kernel("6.1")
    text = str(failure.value)
    assert "no 6.1 kernel can be had from bookworm" in text
    assert text.count("404 Not Found") == 3
