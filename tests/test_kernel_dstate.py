"""`dstate` on dumps of the lab, by drgn: every fault that blocks tasks, as its scenario says."""

import functools
import sys

import pytest

if sys.version_info < (3, 11):
    pytest.skip("drgn is installed for Python 3.11 and newer", allow_module_level=True)

from kernel_dumps import HOST, open_all
from lab.blocked import problems, strangers
from lab.dumps import dump
from lab.scenarios.boots import BOOTS

from faultkit.analyzers.dstate import Options, analyze
from faultkit.kernel.blocked.view import DumpView
from faultkit.render.dstate_text import render_dstate
from faultkit.render.machine import report_object
from faultkit.target import FaultkitError

KERNELS = ("5.10", "6.1", "6.12", "7")
USUAL = ("6.1",)  # `make test-matrix` has the rest
PLAYED = [
    (boot.name, fault.name)
    for boot in BOOTS.values()
    for fault in boot.faults
    if fault.stuck and boot.form != "truncated"
]


def _marked(cases):
    return [
        pytest.param(
            kernel, *case, id="-".join((kernel, *case)),
            marks=() if kernel in USUAL else pytest.mark.matrix,
        )
        for kernel in KERNELS
        for case in cases
    ]  # fmt: skip


@functools.lru_cache(maxsize=2)
def view_of(name, kernel, *pids):
    return DumpView(open_all(name, kernel), pids)


def examine(view, **options):
    """The report as a program gets it, and as a person reads it."""
    report = analyze(view, HOST, Options(**options))
    return report_object(report), render_dstate(report, 100, False)


@functools.cache
def report_on(name, kernel):
    # some boots are dumped as soon as they are ready
    age = 0.0 if BOOTS[name].program == "" else 1.0
    return examine(view_of(name, kernel), min_age=age)[0]


@pytest.mark.parametrize("kernel, boot, name", _marked(PLAYED))
def test_fault(kernel, boot, name):
    fault = next((fault for fault in BOOTS[boot].on(kernel) if fault.name == name), None)
    if fault is None:
        pytest.skip(f"{name} can't be played on {kernel}")
    report = report_on(boot, kernel)
    wrong = problems(report, fault)
    assert not wrong, "\n".join([*wrong, *report["limits"]])


@pytest.mark.parametrize("kernel, boot", _marked([("stuck",), ("busy",)]))
def test_nothing_else_is_reported(kernel, boot):
    report = report_on(boot, kernel)
    assert strangers(report, dump(boot, kernel).faults) == []
    assert report["verdict"] == ("found" if boot == "stuck" else "not-found"), report["limits"]
    assert report["limits"] == []


def test_idle_and_sleeping_tasks_are_not_listed():
    """Kernel threads in TASK_IDLE look like D by their bits; their number is told."""
    report = report_on("busy", "6.1")
    assert report["counts"]["idle"] > 3
    assert report["findings"] == []


@pytest.mark.parametrize("boot", ["stuck", "users", "sleeping", "events"])
def test_no_task_is_unwound_twice(boot, monkeypatch):
    kernel = open_all(boot)
    unwound = []
    frames = kernel.frames
    monkeypatch.setattr(
        kernel, "frames", lambda task, limit=64: unwound.append(task.tid) or frames(task, limit)
    )
    examine(DumpView(kernel), min_age=0.0)
    assert len(unwound) == len(set(unwound))


def test_one_process():
    view = view_of("stuck", "6.1")
    reader = next(task for task in view.blocked() if task.task.name == "nbd-reader")
    report, text = examine(DumpView(view.kernel, [reader.task.pid]))
    assert [task["name"] for group in report["findings"] for task in group["tasks"]] == [
        "nbd-reader"
    ]
    assert report["counts"]["tasks"] == 1
    assert "nbd-server" in text


def test_a_stopped_process_by_its_id():
    view = view_of("stuck", "6.1")
    named = [view.find(task.tid).task for task in view.named("fuse_stopped")]
    stopped = next(task for task in named if task.state == "T")
    report, _ = examine(DumpView(view.kernel, [stopped.pid]))
    assert [group["cause"] for group in report["findings"]] == ["stopped"]


def test_no_such_process():
    with pytest.raises(FaultkitError, match="no process 99999"):
        DumpView(open_all("stuck"), [99999])


def test_the_age_that_is_asked_for():
    report, text = examine(view_of("stuck", "6.1"), min_age=3600.0)
    assert report["findings"] == []
    assert "--min-age 0 shows them" in text.replace("\n      ", " ")


@pytest.mark.parametrize("boot", ["sleeping", "users", "events"])
def test_what_never_ends_needs_no_age(boot):
    """Dumped as soon as it was in place: circles, broken locks, frozen file systems are told; what
    may well end is a note."""
    report, text = examine(view_of(boot, "6.1"))
    assert report["findings"]
    for group in report["findings"]:
        assert (
            group["longest_seconds"] >= 1
            or group["cause"] in ("corrupt-lock", "orphaned-lock", "lost-wakeup", "frozen-fs")
            or "a circle" in group["next"]
        ), group
    assert "blocked for less than 1 s" in text


@pytest.mark.parametrize("boot", ["busy", "quiet"])
def test_nothing_young_is_reported(boot):
    report, _ = examine(view_of(boot, "6.1"))
    assert report["findings"] == []


def test_stacks():
    _, text = examine(view_of("stuck", "6.1"), stacks=True)
    assert text.count("STACK ") == text.count("WHO: ")
    assert "folio_wait_bit_common" in text


def test_words_are_for_a_dump():
    """What can be typed in crash, not on a machine that is gone."""
    _, text = examine(view_of("stuck", "6.1"))
    for word in ("gdb -p", "iostat", "/proc/", "dmesg"):
        assert word not in text
