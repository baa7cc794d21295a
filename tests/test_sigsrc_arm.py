"""`sigsrc --arm` and `--from`: tracers that are printed, one that is run, and their output."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faultkit.analyzers.sigtrace import analyze_trace
from faultkit.procfs.status import sees_all_processes
from faultkit.render.machine import report_object
from faultkit.render.sigsrc_text import render_sigsrc
from faultkit.signals.tracers import TRACERS, Target, script

HERE = Path(__file__).parent
HOST = {"name": None, "version": None, "faultkit": "0"}
EVENTS = Path("/sys/kernel/tracing/events/signal/signal_generate")


def report_of(text, pid=None):
    return analyze_trace(text.split("\n"), "trace", HOST, pid)


TRACEFS = """\
faultkit: armed 4711
         my bash-20466   [000]  16487.604054: sys_kill(pid: 0x1267, sig: 9)
         my bash-20466   [000]  16487.604055: <user stack trace>
 => /usr/lib/x86_64-linux-gnu/libc.so.6[+0x16267]
         my bash-20466   [000] d..1. 16487.604060: signal_generate: sig=9 errno=0 code=0 comm=a b pid=4711 grp=1 res=0
         my bash-20466   [000]  16487.604061: <stack trace>
 => trace_event_raw_event_signal_generate
 => __send_signal_locked
 => do_send_sig_info
 => kill_something_info
 => __x64_sys_kill
 => do_syscall_64
             a b-4711    [001] ..... 16487.605000: sched_process_exit: comm=a b pid=4711 prio=120 group_dead=true
"""  # noqa: E501
OOM = """\
          eater-77   (     77) [000] d..1. 1.500000: signal_generate: sig=9 errno=0 code=128 comm=db pid=4711 grp=1 res=0
          eater-77   (     77) [000] d..1. 1.500000: <stack trace>
 => __send_signal_locked
 => do_send_sig_info
 => __oom_kill_process
 => oom_kill_process
 => out_of_memory
"""  # noqa: E501
BPFTRACE = """\
Attaching 9 probes...
faultkit: armed 4711
faultkit call time=1500000000 by=88 tid=89 uid=1000 name=the killer call=kill sig=15

        kill+7
        main+20
faultkit signal time=1500000001 by=88 tid=89 uid=1000 name=the killer sig=15 code=0 to=4711 group=1 result=0

        __send_signal_locked+1024
        do_send_sig_info+100
        kill_something_info+40
        __x64_sys_kill+20

        kill+7
faultkit exit time=1600000000 tid=4711 name=victim
"""  # noqa: E501
SYSTEMTAP = """\
faultkit: armed 4711
faultkit signal time=1500000001 by=1 tid=1 uid=0 name=systemd sig=15 code=SI_USER to=4711 group=1 result=0
 0xffffffff810b5f60 : __send_signal_locked+0x0/0x10 [kernel]
faultkit call time=1500000009 by=4711 tid=4711 uid=0 name=d call=exit_group sig=3
"""  # noqa: E501


def test_tracefs():
    report = report_of(TRACEFS)
    (found,) = report.signals
    assert (found.signal, found.state, found.origin) == ("SIGKILL", "fatal", "kill")
    assert (found.task.tid, found.task.name, found.shared) == (4711, "a b", True)
    assert (found.sender.pid, found.sender.name) == (20466, "my bash")
    assert "by kill()" in found.explanation
    assert any('"a b" exited' in note for note in report.notes)
    assert not report_of(TRACEFS, 1).signals


def test_oom_killer_is_not_the_sender():
    (found,) = report_of(OOM).signals
    assert found.sender is None and found.origin == "kernel"
    assert "the OOM killer's choice" in found.explanation
    assert 'task 77 "eater" ran at that moment' in found.explanation


def event(code, number, stack, name="other", tid=77):
    """What tracefs writes of a signal to 4711 in another task's context, and of its end."""
    context = f"{name}-{tid} [000] d..1. 1.5: "
    generated = f"signal_generate: sig={number} errno=0 code={code} comm=db pid=4711 grp=1 res=0"
    lines = [context + generated, context + "<stack trace>"]
    lines += [f" => {function}" for function in stack.split()]
    lines += ["db-4711 [000] d..1. 1.6: sched_process_exit: comm=db pid=4711 prio=120"]
    return "faultkit: armed 4711\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("code", "number", "stack", "origin", "says"),
    [
        (-2, 3, "posixtimer_send_sigqueue posix_timer_fn hrtimer_interrupt", "timer", "expired"),
        (0, 13, "send_sig pipe_write vfs_write __x64_sys_write do_syscall_64", "pipe", "pipe"),
        (0, 15, "do_send_sig_info do_exit do_group_exit", "parent-death", "PR_SET_PDEATHSIG"),
        (1, 11, "force_sig_fault exc_page_fault asm_exc_page_fault", "fault", "an instruction"),
        (1, 17, "do_notify_parent do_exit do_group_exit", "child", "SIGCHLD"),
    ],
)  # fmt: skip
def test_who_runs_at_that_moment_is_not_the_sender(code, number, stack, origin, says):
    (found,) = report_of(event(code, number, f"__send_signal_locked {stack}")).signals
    assert (found.origin, found.sender) == (origin, None)
    assert found.explanation.startswith("The kernel sent") and says in found.explanation


def test_the_entry_into_the_kernel_is_no_reason():
    (found,) = report_of(event(128, 15, "send_sig some_driver do_syscall_64")).signals
    assert "tracer" not in found.explanation


def test_an_end_that_was_not_seen():
    report = report_of(event(1, 17, "do_notify_parent do_exit"))
    assert report.verdict == "inconclusive" and "was not seen" in report.summary
    assert "born after the tracer" in report.limits[0]


def test_bpftrace():
    (found,) = report_of(BPFTRACE).signals
    assert (found.signal, found.state) == ("SIGTERM", "fatal")
    sender = found.sender
    assert (sender.pid, sender.uid, sender.name) == (88, 1000, "the killer")
    assert found.when == pytest.approx(1.500000001)
    assert "by kill()" in found.explanation


def test_an_exit_of_its_own_is_not_the_signals():
    """A process that handles a signal and then leaves, or leaves much later, has not died of it."""
    fatal = BPFTRACE.replace("signal time=1500000001", "signal time=1590000000")
    assert report_of(fatal).signals[0].state == "fatal"
    call = "faultkit call time=1595000000 by=4711 tid=4711 uid=0 name=v call=exit_group sig=0\n"
    left = fatal.replace("faultkit exit", call + "faultkit exit")
    assert report_of(left).signals[0].state == "delivered"
    later = fatal.replace("exit time=1600000000", "exit time=9600000000")
    assert report_of(later).signals[0].state == "delivered"
    harmless = fatal.replace(" sig=15 code", " sig=17 code")
    assert report_of(harmless).signals[0].state == "delivered"


def test_systemtap():
    report = report_of(SYSTEMTAP)
    (found,) = report.signals
    assert (found.sender.pid, found.sender.name, found.origin) == (1, "systemd", "kill")
    assert any("called exit_group(3)" in note for note in report.notes)


@pytest.mark.parametrize("result, words", [(1, "ignored"), (2, "pending already"), (3, "lost")])
def test_results(result, words):
    text = TRACEFS.replace("res=0", f"res={result}")
    assert words in report_of(text).signals[0].explanation


def test_what_is_no_trace():
    assert report_of("hello\nworld").verdict == "inconclusive"
    assert report_of("").verdict == "inconclusive"
    assert report_of("faultkit: armed 5\n").verdict == "not-found"


def test_damaged_traces():
    dice = random.Random(3)
    for _ in range(200):
        text = list(dice.choice((TRACEFS, OOM, BPFTRACE, SYSTEMTAP)))
        for _ in range(dice.choice((1, 10, 100))):
            text[dice.randrange(len(text))] = dice.choice("\0\x1b[]()0123456789-:,=\n\t xé")
        report = report_of("".join(text))
        assert "\x1b" not in render_sigsrc(report, 80, False)
        json.dumps(report_object(report))


def test_scripts_quote_names():
    """A process chooses its name: nothing of it may reach a shell."""
    evil = Target(42, "x\n`touch /tmp/owned`$(id);'\"", (42, 43), (("abort", "/lib/libc.so", 16),))
    for tracer in TRACERS:
        text = script(evil, tracer)
        assert "`" not in text.replace("`touch", "`") or "`touch" not in text
        assert "$(id)" not in text and "\nx" not in text
        assert "42" in text
    shell = script(evil, "tracefs")
    checked = subprocess.run(["sh", "-n"], input=shell, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    assert "pid==42||pid==43" in shell


def faultkit(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "faultkit", "sigsrc", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, cwd=HERE.parent, **more,
    )  # fmt: skip


outside = pytest.mark.skipif(not sees_all_processes(), reason="these are a container's process ids")


@outside
@pytest.mark.parametrize("tracer", TRACERS)
def test_arm_prints(tracer):
    done = faultkit("--arm", os.getpid(), "--tracer", tracer)
    assert done.returncode == 0 and str(os.getpid()) in done.stdout
    assert "signal" in done.stdout and "exit" in done.stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--arm", "4000000"), "no process 4000000"),
        (("--run",), "add --arm PID"),
        (("--arm", "1", "--log", "x"), "leave the others out"),
        (("--from", "/nonexistent"), "cannot read /nonexistent"),
        (("--from", "x", "--log", "y"), "leave --watch and --log out"),
    ],
)
def test_bad_input(arguments, said):
    done = faultkit(*arguments)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


def has_tracefs():
    """Whether this machine's tracefs may be used; it is mounted where it is not yet."""
    if os.geteuid() == 0 and not EVENTS.exists():
        mount = ["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"]
        subprocess.run(mount, capture_output=True)
    return os.access(EVENTS / "filter", os.W_OK)


def test_a_container_s_ids_are_no_tracer_s():
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc",
         sys.executable, "-m", "faultkit", "sigsrc", "--arm", "1"],
        capture_output=True, text=True, timeout=120, cwd=HERE.parent,
    )  # fmt: skip
    if done.stderr.startswith("unshare"):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 1 and done.stdout == ""
    assert "outside of the container" in done.stderr


@outside
def test_run_for_real(tmp_path):
    """A process is killed by another one, which the tracer names."""
    if not has_tracefs():
        pytest.skip("no tracefs here that may be used")
    victim = subprocess.Popen(["sleep", "300"])
    output = tmp_path / "signals.txt"
    with subprocess.Popen(
        [sys.executable, "-m", "faultkit", "sigsrc", "--arm", str(victim.pid), "--run",
         "--output", str(output)], cwd=HERE.parent,
    ) as tracer:  # fmt: skip
        until = time.monotonic() + 60
        while not (output.exists() and "armed" in output.read_text()):
            assert time.monotonic() < until and tracer.poll() is None
            time.sleep(0.1)
        killer = subprocess.Popen([sys.executable, "-c", f"import os; os.kill({victim.pid}, 15)"])
        assert killer.wait(60) == 0 and victim.wait(60) == -signal.SIGTERM
        assert tracer.wait(60) == 0
    report = analyze_trace(output.read_text().split("\n"), str(output), HOST)
    (found,) = report.signals
    assert (found.signal, found.state, found.task.pid) == ("SIGTERM", "fatal", victim.pid)
    assert found.sender.pid == killer.pid and "by kill()" in found.explanation
    assert any("exited" in note for note in report.notes)
    left = [path.name for path in Path("/sys/kernel/tracing/instances").iterdir()]
    assert f"faultkit-{victim.pid}" not in left
