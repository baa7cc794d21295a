"""`dstate` on real blocked tasks: the cause, the file, and the one at the end of the chain."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest
from dstate_scenes import SCENES

from faultkit.analyzers.dstate import Options, analyze
from faultkit.procfs.live import LiveView
from faultkit.procfs.status import sees_all_processes
from faultkit.render.dstate_text import render_dstate
from faultkit.render.machine import report_object

HOST = {"name": None, "version": None, "faultkit": "test"}
SOON = Options(min_age=0.2)


@contextlib.contextmanager
def scene(name):
    """The scene, once its tasks have been blocked for long enough."""
    with SCENES[name]() as played:
        time.sleep(0.5)
        yield played


def ask(*pids, options=SOON):
    """The report as JSON objects; its text is made as well, to see that it can be."""
    report = analyze(LiveView(pids), HOST, options)
    text = render_dstate(report, 100, False)
    assert max(map(len, text.splitlines())) <= 100 or "/tmp" in text
    return report_object(report)


def of_task(report, tid):
    """The group that the task is in."""
    groups = [g for g in report["findings"] if tid in [task["tid"] for task in g["tasks"]]]
    assert len(groups) == 1, report
    return groups[0]


def chain(group):
    return [link["kind"] for link in group["behind"]]


def end(group):
    return group["behind"][-1]


def test_a_killed_reader_of_fuse(tmp_path):
    with scene("fuse-read") as played:
        report = ask()
        assert report["verdict"] == "found"
        group = of_task(report, played.pids["reader"])
        assert (group["cause"], group["function"]) == ("fuse", "request_wait_answer")
        assert group["tasks"][0]["state"] == "D"
        assert group["system_calls"] == [f"read {played.facts['point']}/hang (fd 3)"]
        assert group["resource"]["mount_point"] == played.facts["point"]
        assert group["resource"]["file_system"] == "fuse.deaf"
        assert chain(group) == ["file-system", "server"]
        assert end(group)["pid"] == played.pids["server"]
        if os.listdir("/sys/fs/fuse/connections"):  # else fusectl is not mounted
            assert "1 request without answer" in end(group)["detail"]
        assert f"gdb -p {played.pids['server']}" in group["next"]
        assert 0.3 < group["longest_seconds"] < 30
        assert group["frames"][0]["symbol"] == "request_wait_answer"


def test_one_process_alone():
    with scene("fuse-read") as played:
        group = of_task(ask(played.pids["reader"]), played.pids["reader"])
        assert end(group)["pid"] == played.pids["server"]


def test_a_stopped_server_and_the_lock_behind_it():
    with scene("fuse-stopped") as played:
        report = ask()
        first = of_task(report, played.pids["first"])
        second = of_task(report, played.pids["second"])
        assert first["cause"] == "fuse"
        assert f"kill -CONT {played.pids['server']}" in first["next"]
        assert second["cause"] == "rwsem"
        assert played.facts["path"] in second["resource"]["lock"]
        assert second["confidence"] == "inferred"
        assert chain(second) == ["task", "file-system", "server"]
        assert second["behind"][0]["pid"] == played.pids["first"]
        assert f"kill -CONT {played.pids['server']}" in second["next"]


def test_a_disk_over_a_loop_device_over_fuse():
    with scene("loop-over-fuse") as played:
        report = ask()
        group = of_task(report, played.pids["reader"])
        assert group["cause"] == "block-io"
        assert group["resource"]["device"] == f"/dev/{played.facts['device']}"
        assert chain(group) == ["file-system", "device", "file", "file-system", "server"]
        assert group["behind"][1]["name"] == played.facts["device"]
        assert "in flight" in group["behind"][1]["detail"]
        assert group["behind"][2]["name"] == played.facts["image"]
        assert end(group)["pid"] == played.pids["server"]
        other = of_task(report, played.pids["syncer"])
        assert end(other)["pid"] == played.pids["server"]


def test_a_frozen_file_system():
    with scene("frozen-ext4") as played:
        report = ask()
        group = of_task(report, played.pids["writer"])
        assert group == of_task(report, played.pids["maker"])
        assert group["cause"] == "frozen-fs"
        assert group["resource"]["mount_point"] == played.facts["point"]
        assert f"fsfreeze --unfreeze {played.facts['point']}" in group["next"]
        assert chain(group) == ["file-system"]


def test_a_child_that_opens_a_fifo_does_not_wait_for_its_disk():
    with scene("vfork-opens") as played:
        group = of_task(ask(), played.pids["parent"])
        assert [link.get("tid") for link in group["behind"]] == [played.pids["child"]]
        assert f"process {played.pids['child']}" in group["next"]


def test_a_vfork_parent():
    with scene("vfork") as played:
        group = of_task(ask(), played.pids["parent"])
        assert group["cause"] == "vfork"
        assert [link["tid"] for link in group["behind"]] == [played.pids["child"]]
        assert group["system_calls"] == ["vfork"]
        assert str(played.pids["child"]) in group["next"]


@pytest.mark.parametrize(
    ("name", "thaw"),
    [("freezer-v1", "echo THAWED > {}/freezer.state"), ("freezer-v2", "echo 0 > {}/cgroup.freeze")],
)
def test_frozen_control_groups(name, thaw):
    with scene(name) as played:
        group = of_task(ask(), played.pids["sleeper"])
        assert group["cause"] == "freezer"
        assert end(group)["kind"] == "cgroup"
        assert end(group)["name"] == "/" + os.path.basename(played.facts["group"])
        assert thaw.format(played.facts["group"]) in group["next"]


def test_a_memory_limit():
    with scene("memory-limit") as played:
        group = of_task(ask(), played.pids["eater"])
        assert group["cause"] == "memory-limit"
        assert end(group)["name"] == "/" + os.path.basename(played.facts["group"])
        assert str(32 << 20) in end(group)["detail"]


def test_exec_waits_for_a_thread():
    with scene("exec-waits") as played:
        group = of_task(ask(played.pids["program"]), played.pids["program"])
        assert group["cause"] == "exec"
        assert group["behind"][0]["tid"] == played.facts["thread"]
        assert end(group)["pid"] == played.pids["server"]


def test_a_process_whose_leader_is_dead():
    with scene("dead-leader") as played:
        report = ask(played.pids["program"])
        (group,) = report["findings"]
        assert group["cause"] == "fuse"
        assert group["system_calls"] == [f"read {played.facts['path']} (fd 3)"]
        assert end(group)["pid"] == played.pids["server"]


def test_a_core_dump_that_does_not_end():
    with scene("core-dump") as played:
        group = of_task(ask(), played.pids["program"])
        assert "core is being dumped" in group["explanation"]
        assert group["behind"][0]["pid"] == played.pids["holder"]
        assert end(group)["pid"] == played.pids["server"]
        assert group["system_calls"] == []


def test_userfaultfd():
    with scene("userfault") as played:
        report = ask(played.pids["program"])
        (group,) = report["findings"]
        assert group["cause"] == "userfaultfd"
        assert sorted(task["state"] for task in group["tasks"]) == ["D", "S"]
        assert end(group)["pid"] == played.pids["program"]


def test_a_held_mmap_lock_hangs_nobody():
    """Reading such a process's cmdline hangs, in D state; dstate does not read it."""
    with scene("mmap-lock") as played:
        pid = played.pids["program"]
        with subprocess.Popen(["cat", f"/proc/{pid}/cmdline"], stdout=subprocess.PIPE) as reader:
            time.sleep(0.3)
            hangs = reader.poll() is None
            began = time.monotonic()
            report = ask()
            assert time.monotonic() - began < 3
            causes = {
                task["tid"]: group
                for group in report["findings"]
                for task in group["tasks"]
                if task["pid"] == pid
            }
            assert len(causes) == 3
            kinds = sorted(group["cause"] for group in causes.values())
            assert "frozen-fs" in kinds and "rwsem" in kinds
            waiter = causes[pid]
            assert waiter["resource"]["lock"] == f"mmap_lock of process {pid}"
            assert waiter["behind"][0]["pid"] == pid
            if hangs:
                mine = of_task(report, reader.pid)
                assert "mmap_lock" in mine["resource"]["lock"]
                reader.kill()


def test_a_stopped_process_is_explained_when_asked_for():
    with scene("stopped") as played:
        (group,) = ask(played.pids["sleeper"])["findings"]
        assert (group["cause"], group["next"]) == (
            "stopped",
            f"let it go on: kill -CONT {played.pids['sleeper']}",
        )
        assert played.pids["sleeper"] not in [
            task["tid"] for group in ask()["findings"] for task in group["tasks"]
        ]


def test_a_healthy_busy_machine():
    """Nothing of it may be called stuck, however often one looks."""
    with SCENES["busy"]() as played:
        mine = set(played.pids.values())
        for _ in range(5):
            report = analyze(LiveView(), HOST)
            named = {task.pid for group in report.groups for task in group.tasks}
            parents = {_parent(pid) for pid in named}
            assert not mine & (named | parents), render_dstate(report, 100, False)


def _parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def test_idle_kernel_threads_are_not_hung():
    if not sees_all_processes():
        pytest.skip("kernel threads are not seen in here")
    report = analyze(LiveView(), HOST, Options(min_age=0))
    assert report.counts["idle"] > 0
    assert all(task.state != "I" for group in report.groups for task in group.tasks)


def test_a_young_wait_is_watched_until_it_is_old_enough():
    with SCENES["vfork"]() as played:
        began = time.monotonic()
        report = analyze(LiveView([played.pids["parent"]]), HOST, Options(min_age=1.5))
        assert report.verdict == "found"
        assert report.groups[0].longest_seconds >= 1.5
        assert time.monotonic() - began < 5


def test_a_wait_that_is_too_young_is_only_noted():
    with SCENES["vfork"]() as played:
        report = analyze(LiveView([played.pids["parent"]]), HOST, Options(min_age=1000))
        assert (report.verdict, report.groups) == ("not-found", [])
        assert "blocked for less than 1000 s" in report.notes[0]
