"""`dstate` on damaged dumps: whatever the kernel's memory holds, no traceback, no hang, and nobody
is called stuck who sleeps as is normal."""

import sys
import time

import pytest

if sys.version_info < (3, 11):
    pytest.skip("drgn is installed for Python 3.11 and newer", allow_module_level=True)

from altered_kernel import AlteredKernel
from damaged_kernel import Damaged
from kernel_dumps import HOST, WithoutUserPages, open_all, open_as
from lab.dumps import dump

from faultkit.analyzers.dstate import Options, analyze
from faultkit.causes.view import Blocked
from faultkit.kernel.blocked.view import DumpView
from faultkit.kernel.files import Files
from faultkit.kernel.objects import need
from faultkit.model import INCONCLUSIVE
from faultkit.render.dstate_text import render_dstate

SECONDS = 60
SEEDS = range(2)


def examine(kernel, **options):
    view = DumpView(kernel)
    report = analyze(view, HOST, Options(**options))
    assert render_dstate(report, 80, False)
    return report


@pytest.mark.parametrize("boot", ("stuck", "sleeping"))
@pytest.mark.parametrize("rate", (0.005, 0.1))
@pytest.mark.parametrize("seed", SEEDS)
def test_any_memory(boot, seed, rate):
    host = Damaged(open_all(boot), seed, rate)
    began = time.monotonic()
    examine(host, min_age=0.0, stacks=True)
    assert time.monotonic() - began < SECONDS
    assert host.damaged


@pytest.mark.parametrize("seed", range(3))
def test_nobody_new_is_stuck(seed):
    """Of a busy machine's dump with some damage: none of the tasks that only sleep is reported."""
    kernel = open_all("busy")
    asleep = {task.task.tid for task in DumpView(kernel).blocked()}
    report = examine(Damaged(kernel, seed, 0.01), min_age=0.0)
    told = {task.tid for group in report.groups for task in group.tasks if task.state == "D"}
    assert told <= asleep


def test_without_user_pages():
    """What makedumpfile -d 31 leaves: paths come from the kernel's own copies."""
    made = dump("stuck")
    kernel = open_as(WithoutUserPages, made)
    kernel.program.load_debug_info(list(map(str, made.kernel.debug.glob("*.ko.debug"))))
    report = examine(kernel)
    calls = {call for group in report.groups for call in group.system_calls}
    assert "newfstatat /nfs/data" in calls
    assert report.verdict == "found"


def blocked_named(view: DumpView, name: str) -> Blocked:
    return next(task for task in view.blocked() if task.task.name == name)


def queue_of(kernel, view, name):
    device = view.device_named(name)
    disk = view._devices.by_number[device.number]
    return kernel.u64(disk.disk + need(kernel, "gendisk", "queue"))


@pytest.mark.parametrize(
    "depth, words", [(1, "its queue is frozen"), (0x7F00_0000, "impossible (2130706432)")]
)
def test_a_freeze_counter(depth, words):
    kernel = AlteredKernel(open_all("stuck"))
    view = DumpView(kernel)
    at = queue_of(kernel, view, "nbd0") + need(kernel, "request_queue", "mq_freeze_depth")
    high = kernel.u32(at + 4) if not at & 7 else kernel.u32(at - 4)
    word = depth | high << 32 if not at & 7 else high | depth << 32
    kernel.put(at & ~7, word)
    report = examine(kernel)
    group = next(g for g in report.groups if g.tasks[0].name == "nbd-reader")
    assert words in group.behind[0].detail


@pytest.mark.parametrize(
    "count, words",
    [
        (0x6B6B_6B6B_6B6B_6B6B, "impossible"),
        ((1 << 64) - 2, "0 reads and 0 writes in flight"),  # CPUs counted meanwhile
        (7, "7 reads and 0 writes in flight"),
    ],
)
def test_a_counter_of_requests(count, words):
    kernel = AlteredKernel(open_all("stuck"))
    view = DumpView(kernel)
    disk = view._devices.by_number[view.device_named("lab-disk").number]
    stats = kernel.u64(disk.bdev + need(kernel, "block_device", "bd_stats"))
    at = kernel.per_cpu(stats + need(kernel, "disk_stats", "in_flight"), 0)
    kernel.put(at, count, 0)
    kernel.put(kernel.per_cpu(stats + need(kernel, "disk_stats", "in_flight"), 1), 0, 0)
    report = examine(kernel)
    group = next(g for g in report.groups if "dm-reader" in [task.name for task in g.tasks])
    assert any(words in link.detail for link in group.behind), group.behind


def test_the_state_of_a_scsi_disk():
    kernel = AlteredKernel(open_all("stuck"))
    queue = queue_of(kernel, DumpView(kernel), "sda")
    device = kernel.u64(queue + need(kernel, "request_queue", "queuedata"))
    host = kernel.u64(device + need(kernel, "scsi_device", "host"))
    for at, value in (
        (device + need(kernel, "scsi_device", "sdev_state"), kernel.enumerator("SDEV_OFFLINE")),
        (host + need(kernel, "Scsi_Host", "shost_state"), kernel.enumerator("SHOST_RECOVERY")),
    ):
        word = int.from_bytes(kernel.read(at & ~7, 8), "little")
        shift = 8 * (at & 7)
        kernel.put(at & ~7, word & ~(0xFFFF_FFFF << shift) | value << shift)
    report = examine(kernel)
    group = next(g for g in report.groups if g.tasks[0].name == "scsi-reader")
    assert "its state is offline" in group.behind[0].detail
    assert "its SCSI host recovers from errors" in group.behind[0].detail


def test_a_dump_without_states():
    """Nothing can be said: then that is said."""
    kernel = AlteredKernel(open_all("busy"))
    state = need(kernel, "task_struct", "__state")
    for task in kernel.tasks():
        kernel.put(task.address + (state & ~7), None)
    report = examine(kernel)
    assert report.groups == []
    assert report.verdict == INCONCLUSIVE
    assert any("could not be read" in limit for limit in report.limits)


def test_names_are_escaped():
    kernel = AlteredKernel(open_all("stuck"))
    view = DumpView(kernel)
    task = blocked_named(view, "dm-raw")
    files = Files(view.system)
    file = files.open_file(view.system.by_tid[task.task.tid], task.syscall.args[0])
    name = need(kernel, "dentry", "d_name") + need(kernel, "qstr", "name")
    place = kernel.u64(file.dentry + name)
    kernel.put(place & ~7, 0x6D31_335B_1B41_4141, kernel.u64((place & ~7) + 8))
    text = render_dstate(analyze(DumpView(kernel), HOST, Options()), 100, False)
    assert "AA" in text
    assert "\x1b" not in text
