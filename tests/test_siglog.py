"""`sigsrc --log`: what kernel logs tell of signals, in all their forms."""

import json
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faultkit.analyzers.siglog import analyze_log
from faultkit.klog.files import lines_of, read_log
from faultkit.klog.lines import parse_lines
from faultkit.render.machine import report_object
from faultkit.render.sigsrc_text import render_sigsrc
from faultkit.target import FaultkitError

HERE = Path(__file__).parent
LOGS = HERE / "klogs"
HOST = {"name": None, "version": None, "faultkit": "0"}
FAULT = "a[5]: segfault at 0 ip 0000000000401010 sp 00007ffc0000 error 4 in a[401000+1000]"


def report_of(text, pid=None):
    return analyze_log(list(parse_lines(text)), "log", HOST, pid)


def only(text, pid=None):
    report = report_of(text, pid)
    assert report.verdict == "found"
    assert len(report.signals) == 1, report.signals
    return report.signals[0]


# The line, and: signal, pid, name, cause, a part of the explanation
LINES = [
    ("worker[77]: segfault at 0 ip 0000561234560010 sp 00007ffc0000f000 error 6 in app[561234560000"
     "+1000] likely on CPU 1 (core 1, socket 0)", "SIGSEGV", 77, "worker", "null-pointer",
     "tried to write to address 0x0: a null pointer; its instruction was in app"),
    ("worker[77]: segfault at a90 ip 00007f6000000c60 sp 00007f6000000440 error 4 in "
     "libx.so.1[fc60,7f5fffff5000+12000]", "SIGSEGV", 77, "worker", "null-pointer",
     "a member or element of"),
    ("Web Content[4[3]]: segfault at 7f0000001000 ip 00007f6000000c60 sp 00007fff00000440 error 7",
     None, None, None, None, None),
    ("Web Content[43]: segfault at 7f0000001000 ip 00007f6000000c60 sp 00007fff00000440 error 7 in "
     "a b[7f5fffff5000+12000]", "SIGSEGV", 43, "Web Content", "bad-address",
     "memory is mapped that does not permit it; its instruction was in a b"),
    ("py[5]: segfault at 1 ip 0000000000000001 sp 00007fff75097a90 error 14 likely on CPU 1",
     "SIGSEGV", 5, "py", "execute", "tried to execute address 0x1"),
    ("rec[9]: segfault at 7ffc3b1ffff8 ip 0000000000401136 sp 00007ffc3b200000 error 6 in "
     "rec[401000+1000]", "SIGSEGV", 9, "rec", "stack-overflow", "which points to a stack overflow"),
    ("old[11]: segfault at (null) ip (null) sp 00007fffd5d1e218 error 14 in old[400000+1000]",
     "SIGSEGV", 11, "old", "execute", "address 0x0"),
    ("traps: srv-2[1388834] general protection fault ip:5f14ab3aed82 sp:70845c5c7f20 error:0 in srv"
     "[57ad82,5f14ab129000+643000]", "SIGSEGV", 1388834, "srv-2", "general-protection",
     "not canonical"),
    ("traps: a.out[2] general protection ip:40052b sp:7fff4c8a8d80 error:0 in a.out[400000+1000]",
     "SIGSEGV", 2, "a.out", "general-protection", "not canonical"),
    ("traps: calc[12] trap divide error ip:401126 sp:7ffd1 error:0 in calc[401000+1000]", "SIGFPE",
     12, "calc", "division", "a division by zero"),
    ("traps: pv[244404] trap invalid opcode ip:7fa7c7ca33b4 sp:7ffd68505de0 error:0 in libc.so.6"
     "[7fa7c7c26000+178000]", "SIGILL", 244404, "pv", "illegal-instruction", "ud2"),
    ("traps: dbg[3] trap int3 ip:401107 sp:7ffe error:0 in dbg[401000+1000]", "SIGTRAP", 3, "dbg",
     "breakpoint", "without a debugger"),
    ("traps: seg[4] trap stack segment ip:401107 sp:7ffe error:0 in seg[401000+1000]", "SIGBUS", 4,
     "seg", "stack-segment", "stack pointer"),
    ("cet[6] control protection ip:401136 sp:7ffd ssp:7f11 error:1(near ret) in cet[401000+1000]",
     "SIGSEGV", 6, "cet", "shadow-stack", "shadow stack"),
    ("h[8] bad frame in rt_sigreturn frame:00000000e1b6d1e2 ip:401156 sp:7ffd8 "
     "orax:ffffffffffffffff in h[401000+1000]", "SIGSEGV", 8, "h", "bad-frame", "sigreturn"),
    ("Memory failure: 0x1a2b3: Sending SIGBUS to vm:4242 due to hardware memory corruption",
     "SIGBUS", 4242, "vm", "hardware-poison", "page 0x1a2b3"),
    ("Memory failure: 0x1a2b3: Killing vm:4242 due to hardware memory corruption", "SIGBUS", 4242,
     "vm", "hardware-poison", "page 0x1a2b3"),
    ("MCE 0x1a2b3: Killing vm:4242 due to hardware memory corruption", "SIGBUS", 4242, "vm",
     "hardware-poison", "page 0x1a2b3"),
    ("Memory failure: 0x77: forcibly killing vm:4243 because of failure to unmap corrupted page",
     "SIGKILL", 4243, "vm", "hardware-poison", "could not be unmapped"),
    ("MCE: Killing vm:4244 due to hardware memory corruption fault at 7f0011112000", "SIGBUS", 4244,
     "vm", "hardware-poison", "address 0x7f0011112000"),
    ('audit: type=1326 audit(1700000000.123:45): auid=4294967295 uid=0 gid=0 ses=4294967295 '
     'subj=unconfined pid=2345 comm="web" exe="/usr/bin/web" sig=31 arch=c000003e syscall=59 '
     'compat=0 ip=0x7f1c2a code=0x80000000', "SIGSYS", 2345, "web", "seccomp",
     "answered the system call execve with SECCOMP_RET_KILL_PROCESS"),
    ('type=SECCOMP msg=audit(1700000000.123:45): auid=0 uid=0 gid=0 ses=1 pid=2346 comm=61206B '
     'exe="/x" sig=31 arch=c000003e syscall=9999 compat=0 ip=0x1 code=0x0', "SIGSYS", 2346,
     "a k", "seccomp", "system call 9999 with SECCOMP_RET_KILL_THREAD"),
    ('audit: type=1326 audit(1.1:1): pid=2345 comm="web" exe="/usr/bin/web" sig=0 arch=c000003e '
     'syscall=59 compat=0 ip=0x7f1c2a code=0x7ffc0000', None, None, None, None, None),
    ('audit: type=1701 audit(1700000000.1:9): auid=1000 uid=1000 gid=1000 ses=2 pid=99 comm="boom" '
     'exe="/usr/bin/boom" sig=6 res=1', "SIGABRT", 99, "boom", "audit", "not said"),
    ("CPU Watchdog Timeout (hard): burner[321]", "SIGKILL", 321, "burner", "rlimit_cpu", "hard"),
    ("RT Watchdog Timeout (soft): burner[321]", "SIGXCPU", 321, "burner", "rlimit_rttime", "soft"),
    ("sysrq: Kill All Tasks", "SIGKILL", 0, None, "sysrq", "all processes but init"),
    ("earlyoom[600]: sending SIGTERM to process 5000 uid 1000 \"chrome\": oom_score 800", "SIGTERM",
     5000, "chrome", "earlyoom", "earlyoom"),
    # Nothing of signals, though it looks like it
    ("INFO: task a:1 blocked for more than 120 seconds.", None, None, None, None, None),
    ("systemd[1]: segfault handler installed", None, None, None, None, None),
    ("user said: [1] segfault at the ip of the sp error", None, None, None, None, None),
]  # fmt: skip


@pytest.mark.parametrize("line, signal, pid, name, cause, part", LINES)
def test_line(line, signal, pid, name, cause, part):
    for text in (f"[   12.345678] {line}", f"<4>[   12.345678] {line}",
                 f"4,100,12345678,-;{line}",
                 f"2024-05-06T07:08:09,123456+0000 host kernel: {line}",
                 f"May 06 07:08:09 host kernel: {line}",
                 f"[    5.000000][  T123] {line}"):  # fmt: skip
        if signal is None:
            assert not report_of(text).signals
            continue
        found = only(text)
        assert (found.signal, found.task.tid, found.task.name) == (signal, pid, name)
        assert found.cause == cause and part in found.explanation, found.explanation
        assert found.evidence == (line,)
        assert found.when is not None


def test_oom_of_a_cgroup_3_10():
    found = only((LOGS / "oom-cgroup-3.10.txt").read_text())
    assert (found.signal, found.origin, found.cause) == ("SIGKILL", "oom-killer", "cgroup-oom")
    # The line names a thread, the table its process.
    assert (found.task.pid, found.task.tid, found.task.name) == (4880, 4881, "app server")
    for part in ("cgroup /docker had reached its memory limit (524288 of 524288 kB used)",
                 "was in /docker/4f2e", "app server had asked for 1 page (0xd0)",
                 "it used 479844 kB", "5120.112 s after boot"):  # fmt: skip
        assert part in found.explanation, found.explanation
    memory, tasks = found.tables
    assert memory.rows[0] == ("memory: usage 524288kB, limit 524288kB, failcnt 8123",)
    assert tasks.columns[-1] == "name" and len(tasks.rows) == 2 and tasks.chosen == 1
    assert tasks.rows[1] == (
        "4881", "1001", "4880", "5063909", "119961", "1661", "136409", "-998", "app server",
    )  # fmt: skip


def test_oom_of_the_machine_6_8():
    report = report_of((LOGS / "oom-machine-6.8-journal.txt").read_text())
    by_cause = {one.cause: one for one in report.signals}
    assert set(by_cause) == {"global-oom", "systemd-oomd"}
    found = by_cause["global-oom"]
    assert (found.task.tid, found.task.name) == (2001, "postgres")
    assert "the machine's memory was used up" in found.explanation
    assert "kworker/u8:2 had asked for 4 pages" in found.explanation
    assert "it used 1600492 kB" in found.explanation
    assert any("reaped process 2001" in line for line in found.evidence)
    assert len(found.tables[1].columns) == 12 and found.tables[1].chosen == 1
    assert "/user.slice/app.scope" in by_cause["systemd-oomd"].explanation
    # whole log: it begins with the boot, so nothing is said to be missing
    assert not report.limits
    assert report_of((LOGS / "oom-machine-6.8-journal.txt").read_text(), 2001).signals == [found]


def test_two_kills_and_a_group():
    text = (LOGS / "oom-machine-6.8-journal.txt").read_text()
    kill = next(line for line in text.splitlines() if "Killed process 2001" in line)
    other = kill.replace("2001 (postgres)", "310 (systemd-journal)")
    group = kill.partition("kernel:")[0] + (
        "kernel: Tasks in /a are going to be killed due to memory.oom.group set"
    )
    report = report_of(text.replace(kill, "\n".join([group, kill, other])))
    killed = [one for one in report.signals if one.origin == "oom-killer"]
    assert [one.task.tid for one in killed] == [2001, 310]
    assert all("memory.oom.group is set" in one.explanation for one in killed)
    assert [one.tables[1].chosen for one in killed] == [1, 0]


def test_old_kill_without_its_report():
    """A log that has lost the report says no more than the line does."""
    found = only("[9.5] Killed process 12 (a) total-vm:1kB, anon-rss:2kB, file-rss:3kB")
    assert found.task.tid == 12 and "had asked" not in found.explanation
    assert not found.tables


def test_a_process_that_the_log_does_not_know():
    report = report_of("[    0.000000] Linux version 6.1\n[    1.0] all is well", 4711)
    assert report.verdict == "not-found" and not report.signals
    assert "nothing of process 4711" in report.summary
    assert any("leaves no trace" in limit and "--arm" in limit for limit in report.limits)


@pytest.mark.parametrize(
    "text", ["hello\n", "total 12\ndrwxr-xr-x 2 root root\n", "\x02\xfe\n" * 9]
)
def test_what_may_be_no_log_denies_nothing(text):
    report = report_of(text)
    assert report.verdict == "inconclusive"
    assert any("may be no kernel log" in limit for limit in report.limits)


def test_gaps_are_told():
    text = (
        "[ 4000.000001] usb 1-1: new device\n"
        "[ 4001.000001] show_signal_msg: 17 callbacks suppressed\n"
        "[ 4002.000001] ** 33 printk messages dropped **\n"
    )
    report = report_of(text, 5)
    assert report.verdict == "inconclusive"
    assert any("does not go back to the boot" in limit for limit in report.limits)
    assert any("17 lines of show_signal_msg" in limit for limit in report.limits)
    assert any("33 lines of the console" in limit for limit in report.limits)
    assert report_of("").verdict == "inconclusive"


def test_hung_task_panic():
    text = (
        "[ 250.1] INFO: task db:77 blocked for more than 120 seconds.\n"
        "[ 250.2] Kernel panic - not syncing: hung_task: blocked tasks\n"
    )
    (note,) = [one for one in report_of(text).notes if "hung-task" in one]
    assert '77 "db"' in note and "no signal was sent" in note


def test_equal_faults_are_one():
    line = f"[{{}}.0] {FAULT.replace('a[5]', 'a[{}]')}"
    report = report_of("\n".join(line.format(n, 100 + n) for n in range(50)))
    assert [one.times for one in report.signals] == [50]
    assert report.signals[0].task.tid == 149  # the latest
    assert report.counts["signals"] == 50
    assert len(report_of("\n".join(line.format(n, 100 + n) for n in range(50)), 120).signals) == 1


def entry(message, binary=False, transport=b"kernel"):
    fields = [b"__CURSOR=s=1", b"__REALTIME_TIMESTAMP=1700000000123456", b"_TRANSPORT=" + transport]
    fields += [b"SYSLOG_IDENTIFIER=systemd", b"_PID=1"] if transport != b"kernel" else []
    if binary:
        value = b"MESSAGE\n" + struct.pack("<Q", len(message)) + message
    else:
        value = b"MESSAGE=" + message
    return b"\n".join([*fields, value]) + b"\n\n"


@pytest.mark.parametrize("binary", [False, True])
def test_journal_export(binary):
    data = (
        entry(b"hello\xff\nworld", True)
        + entry(FAULT.encode(), binary)
        + entry(b"x.service: killed", transport=b"journal")
    )
    lines = lines_of(data)
    (killed,) = (line.text for line in lines if "killed" in line.text)
    assert killed == "systemd[1]: x.service: killed"
    (found,) = analyze_log(lines, "log", HOST).signals
    assert found.task.tid == 5 and found.when == 1700000000.123456
    assert "on 2023-11-14 at 22:13:20" in found.explanation


def test_journal_json():
    entries = [
        {"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1700000000123456", "_TRANSPORT": "kernel",
         "MESSAGE": message}
        for message in (FAULT, list(FAULT.encode()), None, 7, [[1]], ["a", "b"])
    ]  # fmt: skip
    data = "\n".join(map(json.dumps, entries)).encode() + b"\n{broken\n[1]\n"
    assert analyze_log(lines_of(data), "log", HOST).signals[0].times == 2


def test_damaged_logs():
    """Whatever stands in a log, there is a report of it, without control characters."""
    dice = random.Random(7)
    texts = [path.read_text() for path in sorted(LOGS.glob("*.txt"))]
    texts.append("\n".join(f"[ 1.0] {line[0]}" for line in LINES))
    for round_ in range(150):
        text = list(dice.choice(texts))
        for _ in range(dice.choice((1, 10, 200))):
            text[dice.randrange(len(text))] = dice.choice("\0\x1b[]()0123456789abc:,=\n\t \u2028é")
        data = "".join(text).encode()
        if round_ % 5 == 0:
            data = entry(data, True)[: dice.randrange(40, 4000)]
        report = analyze_log(lines_of(data), "log\x1b[31m", HOST)
        shown = render_sigsrc(report, 80, False)
        assert "\x1b" not in shown and "\0" not in shown
        json.dumps(report_object(report))


def test_a_long_log_is_quick():
    line = f"[{{}}.0] {FAULT.replace('a[5]', 'a[{}]')}"
    noise = "[ 1.0] eth0: link is up and [some] ip address: text that says process and ill"
    text = "\n".join(line.format(n, n) if n % 10 == 0 else noise for n in range(100_000))
    began = time.process_time()
    report = report_of(text)
    assert report.counts["signals"] == 10_000
    assert time.process_time() - began < 20  # a few seconds where nothing else runs


def faultkit(*arguments, stdin=""):
    return subprocess.run(
        [sys.executable, "-m", "faultkit", "sigsrc", *map(str, arguments)],
        input=stdin, capture_output=True, text=True, timeout=60, cwd=HERE.parent,
    )  # fmt: skip


def test_command(tmp_path):
    done = faultkit("--log", LOGS / "oom-cgroup-3.10.txt")
    assert done.returncode == 0, done.stderr
    assert "* 4881 1001" in done.stdout and "TASKS (memory in pages)" in done.stdout
    done = faultkit("--log", "-", "77", "--json", "-", stdin=f"[ 1.5] {LINES[0][0]}")
    told = json.loads(done.stdout)
    (finding,) = told["findings"]
    assert finding["signal"] == "SIGSEGV" and finding["task"]["tid"] == 77
    assert finding["when"] == 1.5
    gone = faultkit("--log", LOGS / "oom-cgroup-3.10.txt", "1")
    assert gone.returncode == 2 and "nothing of process 1" in gone.stdout  # it has gaps


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--log", "/nonexistent"), "cannot read /nonexistent"),
        (("--log", "/"), "cannot read /"),
        (("--log", "/bin/true"), "is a dump or a program"),
        (("--log", "x", "--watch"), "leave one out"),
        (("--log", "x", "1", "2"), "name one process"),
    ],
)
def test_bad_input(arguments, said):
    done = faultkit(*arguments)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


def test_kmsg():
    """This machine's own log, where it may be read."""
    try:
        lines = read_log("/dev/kmsg")
    except FaultkitError as error:
        assert "as root" in str(error)
        return
    assert lines and any(line.time is not None for line in lines)
    assert analyze_log(lines, "/dev/kmsg", HOST).counts["lines"] == len(lines)
