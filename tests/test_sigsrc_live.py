"""`sigsrc` on live processes: the stop at hand, pending signals and their senders, --watch."""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from building import build
from harness import CHECKOUT, COMMANDS, gdb_program, run_gdb
from sigsrc_stage import die, end, sigsrc, start

SYS_TGKILL = 234
PATIENCE = 30


@pytest.fixture
def scene(tmp_path):
    """Starts a scene of signals.c that says when it is ready."""
    started = []

    def play(name: str, variant: str = "opt"):
        process = start(build("signals.c", variant), name, tmp_path)
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield play
    for process in started:
        end(process)


def test_a_thousand_senders(scene, tmp_path):
    process = scene("many_senders", "static-stripped")
    report, text = sigsrc("-p", str(process.pid))
    sent = {}
    for line in (tmp_path / "senders").read_text().splitlines():
        number, how, pid, uid, value, status = map(int, line.split())
        assert status == 0
        sent[pid] = (number, ("kill", "tgkill", "sigqueue")[how], uid, value if how == 2 else None)
    assert len(sent) == 1000
    found = {
        one["sender"]["pid"]: (
            one["number"],
            one["origin"],
            one["sender"]["uid"],
            one["value"],
        )
        for one in report["findings"]
        if one["sender"] is not None
    }
    assert found == sent
    assert all(one["state"] == "blocked" for one in report["findings"])
    to_thread = {one["sender"]["pid"] for one in report["findings"] if not one["shared"]}
    assert to_thread == {pid for pid, (_, how, *_) in sent.items() if how == "tgkill"}
    assert "more pending signals; --json has all" in text
    again, _ = sigsrc("-p", str(process.pid))  # nothing was consumed
    assert len(again["findings"]) == len(report["findings"])


def test_pending_signals_of_every_thread(scene):
    process = scene("pending")
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGUSR1)
    second = sorted(map(int, os.listdir(f"/proc/{process.pid}/task")))[1]
    assert ctypes.CDLL(None).syscall(SYS_TGKILL, process.pid, second, signal.SIGUSR2) == 0
    report, text = sigsrc("-p", str(process.pid))
    found = {one["signal"]: one for one in report["findings"]}
    assert set(found) == {"SIGTERM", "SIGUSR1", "SIGUSR2"}
    for one in found.values():
        assert (one["sender"]["pid"], one["state"]) == (os.getpid(), "blocked")
        assert one["sender"]["alive"]
    assert (found["SIGTERM"]["origin"], found["SIGTERM"]["shared"]) == ("kill", True)
    assert (found["SIGUSR2"]["origin"], found["SIGUSR2"]["shared"]) == ("tgkill", False)
    assert found["SIGUSR2"]["task"]["tid"] == second
    assert len(report["masks"]) == 2
    assert "SIGUSR1" in report["masks"][0]["caught"]
    assert "SIGHUP" in report["masks"][0]["ignored"]  # what started the tests may ignore more
    assert re.search(r"HANDLED: SIGUSR1", text)
    assert re.search(r"IGNORED: SIGHUP", text)
    assert "BLOCKED in all threads: all" in text
    assert "Stopped by the debugger when it attached" in text


def test_stopped_before_the_debugger_came(scene):
    process = scene("wait_for_it")
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(0.2)
    report, _ = sigsrc("-p", str(process.pid))
    assert report["findings"] == []
    assert any("stopped" in note for note in report["notes"])


def test_a_stop_at_a_system_call(tmp_path):
    executable = build("signals.c", "opt")
    stop = (f"cd {tmp_path}", "catch syscall kill", "run killed_itself")
    report, _ = sigsrc(str(executable), before=stop)
    assert (report["verdict"], report["findings"]) == ("not-found", [])


def test_no_signals_to_watch_in_a_core(tmp_path):
    executable, core = die("signals.c", "dbg", "raised", tmp_path)
    words = ["-ex", f"source {COMMANDS}", "-ex", "sigsrc --watch"]
    said = "".join(run_gdb([str(executable), str(core), *words]))
    assert "to a core no signals come any more; sigsrc explains" in said


def test_nothing_pending(scene):
    process = scene("wait_for_it")
    report, _ = sigsrc("-p", str(process.pid))
    assert (report["verdict"], report["findings"]) == ("not-found", [])


def faultkit(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "faultkit", "sigsrc", *words],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_pending_by_proc(scene):
    process = scene("pending")
    os.kill(process.pid, signal.SIGTERM)
    done = faultkit(str(process.pid), "--json", "-")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    (one,) = report["findings"]
    assert (one["signal"], one["state"], one["sender"]) == ("SIGTERM", "blocked", None)
    assert f"gdb -p {process.pid}" in one["next"]


def test_stopped_by_job_control(scene):
    process = scene("wait_for_it")
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "T")
    done = faultkit(str(process.pid))
    assert "NOTE: the process is stopped (T)" in done.stdout


def test_zombie():
    process = subprocess.Popen(["sleep", "1000"])
    process.kill()
    wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "Z")
    done = faultkit(str(process.pid), "--json", "-")
    (one,) = json.loads(done.stdout)["findings"]
    assert (one["signal"], one["state"], one["origin"]) == ("SIGKILL", "fatal", "unknown")
    process.wait()


def test_process_that_is_gone():
    process = subprocess.Popen(["true"])
    process.wait()
    done = faultkit(str(process.pid))
    said = done.stdout + done.stderr  # what the kernel's log has, if we may read it
    assert f"no process {process.pid}" in said
    assert "Traceback" not in said


def test_where_cores_go(monkeypatch):
    from faultkit.procfs import signals

    patterns = {
        b"|/lib/systemd/systemd-coredump %P %u": "coredumpctl gdb 7",
        b"|/usr/share/apport/apport -p%p": "apport",
        b"|/opt/my-dumper %p": "the program /opt/my-dumper",
        b"/var/cores/%e.%p": '"/var/cores/%e.%p"',
        b"core": "working directory",
        b"": "no cores are written",
    }
    for pattern, says in patterns.items():
        monkeypatch.setattr(signals, "read_proc", lambda path, pattern=pattern: pattern)
        assert says in signals.where_cores_go(7)


STOPS = {
    "null_member": ("SIGSEGV", "SEGV_MAPERR", "fault", "fatal", "c->peer is null"),
    "broken_pipe": ("SIGPIPE", "SI_USER", "pipe", "fatal",
                    r"write\(\) to descriptor \d+ \(pipe:\[\d+\]\).*no process has its reading"),
    "broken_socket": ("SIGPIPE", "SI_USER", "pipe", "fatal",
                      r"sendto\(\) to descriptor \d+ \(socket:\[\d+\]\).*unix socket"),
    "file_limit": ("SIGXFSZ", "SI_USER", "rlimit", "fatal",
                   r"write\(\) to descriptor \d+ \(.*limited-file\).*RLIMIT_FSIZE of 4096 bytes"),
    "abort_in_handler": ("SIGSEGV", "SEGV_MAPERR", "fault", "delivered", "c->peer is null"),
    "breakpoint": ("SIGTRAP", "SI_KERNEL", "fault", "fatal", "executed int3"),
    "seccomp_trap": ("SIGSYS", "SYS_SECCOMP", "seccomp", "fatal",
                     r"getppid.*data 77.*by instruction 2 of filter 1 of 1" if not os.getuid()
                     else "getppid"),
    "thread_overflow": ("SIGSEGV", "SEGV_ACCERR|SEGV_MAPERR", "fault", "fatal",
                        "this thread's stack"),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPS)
def test_stop_at_hand(name, tmp_path):
    executable = build("signals.c", "dbg")
    before = (f"cd {tmp_path}", f"run {name}")
    report, text = sigsrc(str(executable), before=before)
    assert report["findings"], text
    found = report["findings"][0]
    number, codes, origin, state, says = STOPS[name]
    got = tuple(found[key] for key in ("signal", "origin", "state"))
    assert got == (number, origin, state) and found["code"] in codes.split("|"), text
    assert re.search(says, found["explanation"], re.DOTALL), text


@pytest.mark.parametrize(
    ("name", "number", "says"),
    [("alarm_clock", "SIGALRM", "alarm()"), ("interval_timer", "SIGALRM", "setitimer")],
)
def test_timers(name, number, says, tmp_path):
    executable = build("signals.c", "dbg")
    before = (f"cd {tmp_path}", "handle SIGALRM stop", f"run {name}")
    found = sigsrc(str(executable), before=before)[0]["findings"][0]
    assert (found["signal"], found["code"], found["origin"]) == (number, "SI_KERNEL", "timer")
    assert says in found["explanation"]


def wait_until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lines_of(path: Path) -> "list[str]":
    return path.read_text().splitlines() if path.exists() else []


def test_watch_tells_of_each_signal_and_changes_nothing(scene, tmp_path):
    process = scene("handles")
    log, received = tmp_path / "log", tmp_path / "received"
    shown = "info signals SIGALRM"
    gdb = subprocess.Popen(
        [
            gdb_program(), "-nx", "-batch", "-p", str(process.pid), "-ex", f"source {COMMANDS}",
            "-ex", shown, "-ex", f"sigsrc --watch --output {log}", "-ex", shown,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: lines_of(log))
        wait_until(lambda: "S" in Path(f"/proc/{process.pid}/stat").read_text().split()[2])
        sent = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD,
                signal.SIGINT, signal.SIGUSR1]  # fmt: skip
        for count, number in enumerate(sent, 1):
            os.kill(process.pid, number)
            wait_until(lambda count=count: len(lines_of(received)) >= count)
        gdb.send_signal(signal.SIGINT)
        said, _ = gdb.communicate(timeout=PATIENCE)
    finally:
        gdb.kill()
        gdb.wait()
    assert list(map(int, lines_of(received))) == [int(number) for number in sent]
    told = lines_of(log)[1:-1]
    assert len(told) == len(sent), told
    for line, number in zip(told, sent):
        assert f"{number.name} SI_USER to {process.pid}" in line
        assert f"(delivered): {number.name} was sent by its parent, pid {os.getpid()}" in line
    assert lines_of(log)[-1] == "7 signals; the process is stopped"
    rows = re.findall(r"^SIGALRM.*$", said, re.MULTILINE)
    assert rows[0] == rows[-1], said  # gdb's own settings are as before
    wait_until(lambda: "TracerPid:\t0" in Path(f"/proc/{process.pid}/status").read_text())
    os.kill(process.pid, signal.SIGUSR2)
    wait_until(lambda: len(lines_of(received)) == len(sent) + 1)
