"""`dstate --from`: kernel logs of several kernels, with what tools put before their lines."""

from pathlib import Path

import pytest

from faultkit.analyzers.dstate import Options, analyze
from faultkit.klog.lines import parse_line
from faultkit.klog.tasks import parse_tasks
from faultkit.klog.view import TextView
from faultkit.render.dstate_text import render_dstate
from faultkit.render.machine import report_object

LOGS = Path(__file__).resolve().parent / "klogs"
HOST = {"name": None, "version": None, "faultkit": "test"}


def ask_text(text, options=None):
    report = analyze(TextView("log", text), HOST, options)
    render_dstate(report, 100, False)
    return report_object(report)


def ask(name):
    return ask_text((LOGS / name).read_text())


def by_tid(report):
    return {task["tid"]: group for group in report["findings"] for task in group["tasks"]}


def test_sysrq_w_of_4_18():
    report = ask("sysrq-w-4.18.txt")
    groups = by_tid(report)
    assert report["verdict"] == "found"
    assert set(groups) == {612, 2201, 2240}
    assert groups[2201]["cause"] == "jbd2"
    assert groups[2201]["function"] == "jbd2_log_wait_commit"
    assert groups[2201]["system_calls"] == ["fsync"]
    assert groups[2201]["tasks"][0]["name"] == "my (odd) name"
    assert groups[2201]["longest_seconds"] is None
    assert groups[612]["cause"] == "block-io"
    assert "journal's own thread" in groups[612]["explanation"]
    assert (groups[2240]["cause"], groups[2240]["function"]) == ("rwsem", "do_last")
    assert "i_rwsem" in groups[2240]["explanation"]
    assert groups[612]["frames"][3]["symbol"] == "wait_on_page_bit"  # no "?" among them


def test_hung_task_reports_in_a_journal():
    report = ask("hung-nfs-5.14-journal.txt")
    (group,) = report["findings"]
    assert (group["cause"], group["function"]) == ("nfs", "rpc_wait_bit_killable")
    assert group["longest_seconds"] >= 245
    assert group["at_least"] is True
    assert report["verdict"] == "found"
    assert any("hung_task_warnings" in limit for limit in report["limits"])


def test_the_owner_that_the_detector_names():
    groups = by_tid(ask("hung-mutex-6.17.txt"))
    waiter = groups[1411]
    assert waiter["cause"] == "mutex"
    assert "frob_device_open" in waiter["explanation"]
    assert waiter["behind"][0]["tid"] == 1380
    assert waiter["behind"][0]["pid"] == 1379
    assert waiter["confidence"] == "inferred"  # the kernel says "likely"
    assert "likely owned by task frobd:1380" in waiter["evidence"][0]
    assert groups[1380]["cause"] == "fuse"
    assert waiter["longest_seconds"] == 122


def test_sysrq_t_follows_chains_and_leaves_idle_tasks_out():
    report = ask("sysrq-t-6.1.txt")
    groups = by_tid(report)
    assert set(groups) == {700, 701, 88, 910}
    assert groups[700]["cause"] == "vfork"
    assert groups[700]["behind"][0]["tid"] == 701
    assert groups[701]["cause"] == "block-io"
    assert groups[910]["cause"] == "flush-work"
    assert groups[910]["behind"][0]["tid"] == 88
    assert "frob_reset_work" in groups[910]["behind"][0]["detail"]
    assert groups[88]["cause"] == "unknown"
    assert "frob_wait_idle" in groups[88]["explanation"]
    assert report["counts"]["idle"] == 1


PREFIXES = [
    ("[  245.861210] ", 245.86121),
    ("[  245.861210][   T38] ", 245.86121),
    ("<3>[  245.861210] ", 245.86121),
    ("kern  :err   : [  245.861210] ", 245.86121),
    ("Nov 20 03:12:44 build7 kernel: [  245.861210] ", 245.86121),
    ("2025-11-20T03:12:44.123456+01:00 host kernel: ", 1763608364.0),
    ("2025-11-20T03:12:44,123456+01:00 ", 1763608364.0),
    ("[Thu Nov 20 03:12:44 2025] ", 1763608364.0),
    ("3,1234,245861210,-;", 245.86121),
    ("Nov 20 03:12:44 build7 kernel: ", None),
    ("build7 kernel: ", None),
    ("", None),
]


@pytest.mark.parametrize(("prefix", "time"), PREFIXES)
def test_prefixes_of_lines(prefix, time):
    line = parse_line(prefix + " __schedule+0x211/0x660\r\n")
    assert line.text.strip() == "__schedule+0x211/0x660"
    if time is not None:
        assert line.time == pytest.approx(time)


@pytest.mark.parametrize("prefix", [prefix for prefix, _ in PREFIXES])
@pytest.mark.parametrize("name", ["sysrq-w-4.18.txt", "hung-mutex-6.17.txt", "sysrq-t-6.1.txt"])
def test_any_log_with_any_prefix(name, prefix):
    plain = "\n".join(parse_line(line).text for line in (LOGS / name).read_text().splitlines())
    dressed = "\n".join(prefix + line for line in plain.splitlines())
    expected = {tid: group["cause"] for tid, group in by_tid(ask_text(plain)).items()}
    assert expected
    assert {tid: g["cause"] for tid, g in by_tid(ask_text(dressed)).items()} == expected


def test_a_task_that_the_last_listing_leaves_out_has_got_on():
    first = (LOGS / "sysrq-w-4.18.txt").read_text()
    later = first.replace("[ 8112.", "[ 8172.")
    cut = later.index("[ 8172.475454]")  # without rsync
    groups = by_tid(ask_text(first + later[:cut]))
    assert set(groups) == {612, 2201}
    assert groups[2201]["longest_seconds"] == pytest.approx(60, abs=0.01)


def test_another_stack_begins_another_wait():
    first = (LOGS / "sysrq-w-4.18.txt").read_text()
    later = first.replace("[ 8112.", "[ 8172.").replace("do_last+0x2d5", "do_unlinkat+0x2d5")
    groups = by_tid(ask_text(first + later))
    assert groups[2240]["longest_seconds"] is None
    assert groups[2201]["longest_seconds"] == pytest.approx(60, abs=0.01)


def test_a_log_without_tasks_is_no_answer():
    report = ask_text("[    0.000000] Linux version 6.1.0\n")
    assert report["verdict"] == "inconclusive"
    assert "sysrq" in report["limits"][0]


def test_a_listing_without_tasks_is_one():
    report = ask_text("[  1.0] sysrq: Show Blocked State\n[  1.1] something else\n")
    assert (report["verdict"], report["limits"]) == ("not-found", [])


def test_min_age_counts_where_an_age_is_known():
    text = (LOGS / "hung-nfs-5.14-journal.txt").read_text()
    report = analyze(TextView("log", text), HOST, Options(min_age=10_000))
    assert report.groups == []


def test_names_may_steer_nothing():
    text = (LOGS / "hung-mutex-6.17.txt").read_text().replace("mount.helper", "\x1b[2Jx\u202ey")
    report = analyze(TextView("\x1blog", text), HOST)
    shown = render_dstate(report, 100, False)
    assert "\x1b" not in shown and "\u202e" not in shown
    assert "\\x1b[2Jx" in shown


@pytest.mark.parametrize(
    "garbage",
    [
        "task:" * 1000,
        "task:a state:D stack:0 pid:99999999999999999999 ppid:1 flags:0x0\n foo+0x1/0x2\n",
        "\n".join(["INFO: task a:1 blocked for more than 9 seconds."] * 50),
        " foo+0x1/0x2\n" * 100,
        "task:a state:D stack:0 pid:1 ppid:1 flags:0x0\n" + " foo+0x1/0x2\n" * 10_000,
        "[ 1.0] " * 1000,
        "\x00\xff" * 500,
    ],
)
def test_garbage(garbage):
    ask_text(garbage)
    parse_tasks(map(parse_line, garbage.split("\n")))
