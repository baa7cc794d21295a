"""`sigsrc` on kernel dumps: what the lab's guests/signals has played, against what it reports and
against drgn's own helpers; and in a real crash."""

import json
import random

import drgn
import pytest
from altered_kernel import AlteredKernel
from crash_session import Session
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.pid import for_each_task
from kernel_dumps import HOST, WithoutUserPages, open_as, opened
from lab.dumps import dump

from faultkit.analyzers.sigdump import analyze_signals
from faultkit.kernel.signals import Signals
from faultkit.kernel.system import System
from faultkit.render.machine import report_object
from faultkit.render.sigsrc_text import render_sigsrc
from faultkit.target import FaultkitError

KERNELS = (
    "6.1",
    *(pytest.param(name, marks=pytest.mark.matrix) for name in ("5.10", "6.12", "7")),
)
every_kernel = pytest.mark.parametrize("kernel", KERNELS)
QUEUED = [0x4700, 0x4701, 0x4702]


@pytest.fixture(scope="module")
def reports():
    made = {}

    def get(kernel):
        if kernel not in made:
            made[kernel] = report_object(analyze_signals(opened("signals", kernel), HOST))
        return made[kernel]

    return get


def of(report, name, signal=None):
    """The findings about the task of that name, of that signal."""
    return [
        finding
        for finding in report["findings"]
        if finding["task"]["name"] == name and signal in (None, finding["signal"])
    ]


def check(report):
    """What every report on the lab's machine has to say."""
    assert report["command"] == "sigsrc" and report["verdict"] == "found"

    # Pending signals with their senders
    (usr1,) = of(report, "sg-target", "SIGUSR1")
    assert (usr1["origin"], usr1["code"], usr1["state"]) == ("kill", "SI_USER", "blocked")
    assert usr1["sender"]["name"] == "sg-killer" and usr1["sender"]["alive"]
    assert usr1["shared"]
    (term,) = of(report, "sg-target", "SIGTERM")
    assert term["sender"]["name"] == "sg-killer"
    queued = of(report, "sg-target", "SIGRTMIN+1")
    assert [one["value"] & 0xFFFFFFFF for one in queued] == QUEUED
    assert {(one["origin"], one["sender"]["name"], one["sender"]["uid"]) for one in queued} == {
        ("sigqueue", "sg-queuer", 1234)
    }
    (usr2,) = of(report, "sg-target", "SIGUSR2")
    assert (usr2["origin"], usr2["sender"]["name"], usr2["shared"]) == (
        "tgkill", "sg-thread", False,
    )  # fmt: skip

    # Timers, a parent's death, a broken pipe
    (timer,) = of(report, "sg-timer", "SIGRTMIN+2")
    assert timer["origin"] == "timer" and timer["value"] & 0xFFFFFFFF == 77
    (alarm,) = of(report, "sg-timer", "SIGALRM")
    assert alarm["origin"] == "timer"
    (death,) = of(report, "sg-orphan", "SIGUSR1")
    assert death["origin"] == "parent-death" and death["confidence"] == "inferred"
    assert death["sender"]["alive"] is False
    (pipe,) = of(report, "sg-pipe", "SIGPIPE")
    assert pipe["origin"] in ("pipe", "kill") and pipe["sender"]["itself"]

    # A thousand words for one: alike signals are counted
    (crowd,) = of(report, "sg-crowd", "SIGRTMIN+4")
    assert crowd["count"] == 200 and "200 senders" in crowd["explanation"]

    # Being killed, and not dead
    (stuck,) = of(report, "sg-stuck")
    assert (stuck["signal"], stuck["cause"], stuck["origin"]) == (
        "SIGKILL", "being-killed", "unknown",
    )  # fmt: skip
    assert stuck["sender"] is None and "keeps no sender of SIGKILL" in stuck["explanation"]
    assert "state D" in stuck["explanation"] and '"sg-holder"' in stuck["explanation"]
    assert stuck["next"] == f"dstate {stuck['task']['tid']}"
    dying = [one for one in of(report, "sg-faulter") if one["cause"] == "being-killed"]
    assert [(one["signal"], one["origin"], one["address"]) for one in dying] == [
        ("SIGSEGV", "fault", "0x10")
    ]
    assert '"sg-thread-d" has not died' in dying[0]["explanation"]
    assert '"sg-keeper"' in dying[0]["explanation"]
    assert "core dump" in dying[0]["explanation"]

    # Traced: the siginfo that it stopped for
    (traced,) = of(report, "sg-traced")
    assert (traced["signal"], traced["state"]) == ("SIGUSR1", "stopped")
    assert traced["sender"]["name"] == "sg-pest"

    # The log: the OOM killer's choice, with its tables; the fault
    (eater,) = of(report, "sg-eater")
    assert (eater["signal"], eater["origin"], eater["cause"]) == (
        "SIGKILL", "oom-killer", "cgroup-oom",
    )  # fmt: skip
    assert "cgroup /small" in eater["explanation"] and " of 8192 kB" in eater["explanation"]
    memory, tasks = eater["tables"]
    assert memory["rows"][0][0].startswith("memory: usage 8")
    assert tasks["rows"][tasks["chosen"]][-1] == "sg-eater"
    logged = [one for one in of(report, "sg-faulter") if one["when"]]
    assert [one["address"] for one in logged] == ["0x10"]

    # And nobody else
    assert {one["task"]["name"] for one in report["findings"]} == {
        "sg-target", "sg-timer", "sg-orphan", "sg-pipe", "sg-crowd", "sg-stuck", "sg-faulter",
        "sg-traced", "sg-eater",
    }  # fmt: skip


@every_kernel
def test_dump(reports, kernel):
    check(reports(kernel))


@every_kernel
def test_queues_are_drgns(kernel):
    """The masks and queues of every task, against drgn's list helpers."""
    host = opened("signals", kernel)
    signals = Signals(System(host))
    told = {one.task.address: one for one in signals.of_programs()}
    seen = 0
    for task in for_each_task(host.program):
        if task.mm.value_() == 0:
            continue
        one = told[task.value_()]
        assert one.own.mask == task.pending.signal.sig[0].value_()
        assert one.blocked == task.blocked.sig[0].value_()
        assert [data[:4] for data in one.own.queue] == [
            int(entry.info.si_signo).to_bytes(4, "little") for entry in queue(task.pending)
        ]
        shared = signals.group(one.signal).shared
        assert shared.mask == task.signal.shared_pending.signal.sig[0].value_()
        assert len(shared.queue) == len(queue(task.signal.shared_pending))
        seen += len(shared.queue)
    assert seen >= 200


@every_kernel
def test_senders_that_are_not_what_their_pids_say(kernel):
    """The lab's guests/sighard: a pid namespace, a pid that another task has now, other senders."""
    report = analyze_signals(opened("signals-hard", kernel), HOST)
    text = " ".join(render_sigsrc(report, 100, False).split())
    report = report_object(report)

    # A pid that was given again is no proof, though few pids have been given since boot
    (usr1,) = of(report, "hd-target", "SIGUSR1")
    assert (usr1["sender"]["name"], usr1["sender"]["reused"]) == ("hd-impostor", None)
    assert "if it is not another one that got the pid since" in usr1["explanation"]

    # Of a container: its init by the pid that it has here, outsiders by none
    (term,) = of(report, "hd-inner", "SIGTERM")
    assert (term["sender"]["pid"], term["sender"]["name"]) == (1, "hd-init")
    assert term["sender"]["here"] > 1 and term["next"].startswith(f"bt {term['sender']['here']} ")
    (usr1,) = of(report, "hd-inner", "SIGUSR1")
    assert (usr1["sender"]["pid"], usr1["sender"]["name"]) == (0, None)

    # By itself, a descriptor, a message queue, a child; nobody is where the sender was any more
    kinds = {one["signal"]: one for one in of(report, "hd-kinds")}
    assert (kinds["SIGRTMIN+4"]["code"], kinds["SIGRTMIN+4"]["origin"]) == ("POLL_IN", "io")
    assert kinds["SIGRTMIN+5"]["code"] == "SI_MESGQ"
    assert kinds["SIGCHLD"]["code"] == "CLD_KILLED"
    assert "raise() or pthread_kill()." in kinds["SIGUSR2"]["explanation"]
    (worker,) = of(report, "hd-worker", "SIGUSR1")
    assert worker["sender"]["itself"] and not worker["shared"]

    # Whose they are
    assert f'SIGTERM SI_USER pending for process {term["task"]["pid"]} "hd-inner"' in text


def queue(pending):
    return [*list_for_each_entry("struct sigqueue", pending.list.address_of_(), "list")]


@every_kernel
def test_one_process(kernel):
    host = opened("signals", kernel)
    target = next(task for task in host.tasks() if task.name == "sg-target")
    report = report_object(analyze_signals(host, HOST, target.pid))
    assert {one["task"]["name"] for one in report["findings"]} == {"sg-target"}
    assert len(report["findings"]) == 6
    (masks,) = report["masks"]
    assert "SIGUSR1" in masks["blocked"] and masks["caught"] == []
    gone = report_object(analyze_signals(host, HOST, 4_000_000))
    assert gone["verdict"] == "inconclusive" and not gone["findings"]
    assert any("no program 4000000" in limit for limit in gone["limits"])


def test_quiet_machine():
    """Nobody is killed where nobody is."""
    report = analyze_signals(opened("quiet"), HOST)
    assert report.verdict in ("not-found", "inconclusive") and not report.signals


def test_without_user_pages():
    """A filtered dump shows the same: nothing of it lies in user pages."""
    check(report_object(analyze_signals(open_as(WithoutUserPages, dump("signals")), HOST)))


def reported(kernel):
    """A report that can be shown, of whatever the kernel is like."""
    try:
        report = analyze_signals(kernel, HOST)
    except FaultkitError as error:
        assert "\n" not in str(error)
        return None
    assert "\x1b" not in render_sigsrc(report, 80, False)
    json.dumps(report_object(report))
    return report


def places_of(host):
    """Where the lab's tasks keep what is read: task_struct, signal_struct, queues."""
    found = {}
    for task in for_each_task(host.program):
        name = task.comm.string_().decode()
        if name.startswith("sg-"):
            group = task.signal.shared_pending
            entries = [entry.value_() for entry in queue(group)] + [
                entry.value_() for entry in queue(task.pending)
            ]
            found[name] = (task.value_(), task.signal.value_(), entries)
    return found


def test_cyclic_and_broken_queues():
    host = opened("signals")
    places = places_of(host)
    offset = drgn.offsetof(host.program.type("struct sigqueue"), "list")
    entries = places["sg-crowd"][2]
    for links in (
        (entries[5] + offset,),  # to itself
        (entries[2] + offset,),  # back
        (0,),
        (0xFFFF_8880_0000_0010,),
        (0x41414141_41414141,),
        (None,),
    ):
        kernel = AlteredKernel(host)
        kernel.put(entries[5] + offset, *links)
        report = reported(kernel)
        assert any(one.task.name != "sg-crowd" for one in report.signals)
        assert any("damaged" in limit for limit in report.limits), links


def test_impossible_signals():
    """Numbers that are no signals are none, and names are escaped."""
    host = opened("signals")
    places = places_of(host)
    info = drgn.offsetof(host.program.type("struct sigqueue"), "info")
    kernel = AlteredKernel(host)
    kernel.put(places["sg-target"][2][0] + info, 0xFFFFFFFF)
    report = reported(kernel)
    assert any("impossible number" in limit for limit in report.limits)
    comm = drgn.offsetof(host.program.type("struct task_struct"), "comm")
    kernel = AlteredKernel(host)
    kernel.put(places["sg-stuck"][0] + comm, int.from_bytes(b"\x1b[31mred", "little"), 0)
    assert reported(kernel) is not None


def test_damaged_memory():
    """Words of the lab's tasks that are garbage: no traceback, no hang, no sender made up."""
    host = opened("signals")
    places = places_of(host)
    names = {task.name for task in host.tasks()} | {None}
    dice = random.Random(5)
    garbage = [0, 1, None, 0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_8880_0000_0000, 0x4141414141414141]
    pool = [
        at
        for task, group, entries in places.values()
        for at in (*range(task, task + 0x1400, 8), *range(group, group + 0x400, 8),
                   *(entry + place for entry in entries[:3] for place in range(0, 80, 8)))
    ]  # fmt: skip
    for _ in range(25):
        kernel = AlteredKernel(host)
        for _ in range(dice.choice((1, 5, 60))):
            kernel.put(dice.choice(pool) & ~7, dice.choice([*garbage, dice.getrandbits(64)]))
        report = reported(kernel)
        for finding in report.signals if report is not None else ():
            if finding.sender is not None:
                assert finding.sender.name in names


def test_poisoned_pages():
    host = opened("signals")
    assert not any("poisoned" in note for note in analyze_signals(host, HOST).notes)
    kernel = AlteredKernel(host)
    kernel.put(host.symbol("num_poisoned_pages"), 3)
    assert any("3 pages are hardware-poisoned" in note for note in reported(kernel).notes)


def test_incomplete_kernel():
    """Debug information without the types says so in one line."""

    class Untyped(AlteredKernel):
        def offset(self, type_name, member):
            return None if type_name == "sigqueue" else super().offset(type_name, member)

    with pytest.raises(FaultkitError, match="sigqueue"):
        analyze_signals(Untyped(opened("signals")), HOST)


@pytest.mark.parametrize(
    "kernel",
    ["6.1", *(pytest.param(name, marks=pytest.mark.matrix) for name in ("5.10", "6.12", "7"))],
)
def test_crash(tmp_path, kernel):
    """The same in a real crash."""
    made = dump("signals", kernel)
    path = tmp_path / "report.json"
    with Session(made, made.kernel.root) as crash:
        if made.has_modules:
            crash.run(f"mod -s faultlab {made.module}")
        said = crash.run(f"sigsrc --json {path}")
        assert "SUMMARY: " in said and max(map(len, said.splitlines())) < 220
        check(json.loads(path.read_text()))
        places = crash.run("sigsrc --kernel SIGXFSZ")
        assert "generic_write_check_limits" in places and "SEND WHAT THEY ARE TOLD" in places
        stuck = next(
            one for one in json.loads(path.read_text())["findings"]
            if one["task"]["name"] == "sg-stuck"
        )  # fmt: skip
        assert "SIGKILL" in crash.run(f"sigsrc {stuck['task']['pid']}")
        for words, answer in (
            ("4000000", "no program 4000000"),
            ("1 2", "name one process"),
            ("--watch", "leave it out"),
            ("--log /nonexistent", "cannot read /nonexistent"),
            ("--kernel nosuch", "is no signal"),
            ("sixty", "no process id"),
        ):
            assert answer in crash.run(f"sigsrc {words}")
        assert "who sent them" in crash.run("help sigsrc")
