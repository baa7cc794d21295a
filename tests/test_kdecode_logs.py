"""Kernel logs as they come: reports with several stacks, stacks' words, prefixes, mixed CPUs."""

import pytest

from faultkit.traces.reader import read


def stacks(text):
    """(kind, title, functions) of each trace of a text."""
    return [(t.kind, t.title, [e.symbol for e in t.entries]) for t in read(text)]


KFENCE = """\
==================================================================
BUG: KFENCE: use-after-free read in frob_read+0x12/0x50 [frob]

Use-after-free read at 0x00000000b0b0b0b0 (in kfence-#42):
 frob_read+0x12/0x50 [frob]
 vfs_read+0x9d/0x190

kfence-#42: 0x0000000012345678-0x0000000012345777, size=256, cache=kmalloc-256

allocated by task 4700 on cpu 1 at 12.345678s:
 frob_open+0x20/0x60 [frob]
 do_dentry_open+0x1e6/0x3a0

freed by task 4701 on cpu 2 at 12.400000s:
 frob_release+0x20/0x60 [frob]

CPU: 3 PID: 4711 Comm: cat Not tainted 6.1.0-56-amd64 #1
==================================================================
"""


def test_the_stacks_of_one_report_are_not_one_stack():
    assert stacks(KFENCE) == [
        ("oops", "BUG: KFENCE: use-after-free read in frob_read+0x12/0x50 [frob]",
         ["frob_read", "vfs_read"]),
        ("history", "allocated by task 4700 on cpu 1 at 12.345678s:",
         ["frob_open", "do_dentry_open"]),
        ("history", "freed by task 4701 on cpu 2 at 12.400000s:", ["frob_release"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "between",
    [
        "read to 0xffff888000000000 of 4 bytes by task 12 on cpu 3:",  # KCSAN
        "Uninit was created at:",  # KMSAN
        "page last free pid 4711 tgid 4711 stack trace:",  # page_owner
        "  backtrace (crc 12345678):",  # kmemleak
    ],
)
def test_a_line_that_introduces_a_stack_ends_the_one_before(between):
    text = f"BUG: something is wrong\n one+0x1/0x20\n two+0x1/0x20\n\n{between}\n three+0x1/0x20\n"
    assert [(title, names) for _, title, names in stacks(text)] == [
        ("BUG: something is wrong", ["one", "two"]),
        (between.strip(), ["three"]),
    ]


def test_other_lines_between_frames_do_not_end_a_stack():
    text = "BUG: wrong\n one+0x1/0x20\nusb 1-1: new device:\nusb 1-1: ready\n two+0x1/0x20\n"
    assert [names for _, _, names in stacks(text)] == [["one", "two"]]


@pytest.mark.parametrize("mark", ["Stack:\n", "", "Stack:\n<0>"])
def test_words_of_the_stack_are_no_frames(mark):
    text = f"""\
INFO: task cat:4711 blocked for more than 120 seconds.
      Not tainted 4.4.0-210-generic #242-Ubuntu
cat             D ffff88003fc17d18     0  4711      1 0x00000000
{mark} ffff88003fc17d18 0000000000000000 ffff880036c3c600 ffff880036c3b200
 ffffffff81234567 ffff88003fc17d18
 ffffffff81234567
Call Trace:
 [<ffffffff8184a355>] schedule+0x35/0x80
 [<ffffffff81218e2f>] vfs_read+0x8f/0x130
"""
    (trace,) = read(text)
    assert (trace.kind, trace.task, trace.pid) == ("hung-task", "cat", 4711)
    assert [entry.symbol for entry in trace.entries] == ["schedule", "vfs_read"]


STAMPED = """\
[  123.456789] BUG: kernel NULL pointer dereference, address: 0000000000000010
[  123.456793] Oops: 0000 [#1] PREEMPT SMP NOPTI
[  123.456794] CPU: 1 PID: 1234 Comm: my cat Tainted: G           OE     6.1.0-56-amd64 #1
[  123.456796] RIP: 0010:frob_read+0x12/0x50 [frob]
[  123.456799] RAX: 0000000000000001 RBX: ffff888003f6a300 RCX: 0000000000000002
[  123.456806] Call Trace:
[  123.456807]  <TASK>
[  123.456807]  ? vfs_open+0x1/0x30
[  123.456807]  vfs_read+0x9d/0x190
[  123.456820]  </TASK>
"""
BARE = "".join(line[15:] + "\n" for line in STAMPED.splitlines())


def prefixed(text, prefix):
    return "".join(f"{prefix}{line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        prefixed(BARE, "Thu 2026-11-26 15:10:03 UTC db-1 kernel: "),
        prefixed(BARE, "1795705810.123456 db-1 kernel: "),
        prefixed(BARE, "<4>1 2026-11-26T15:10:03.123Z db-1 kernel - - - "),
        prefixed(BARE, "2026 Nov 26 15:10:03 db-1 kernel: "),
        prefixed(BARE, "\t"),
        prefixed(BARE, "      "),
        prefixed(BARE, ">> "),
        prefixed(STAMPED, "[2026-11-26 12:00:01] "),
        prefixed(STAMPED, "12:00:01.123 "),
        prefixed(STAMPED, "kern.log:"),
        prefixed(STAMPED, "   17\t"),
        prefixed(STAMPED, "| "),
        prefixed(STAMPED, ">> >     "),
        prefixed(STAMPED, "\x1b[32m").replace("] ", "] \x1b[0m\x1b[1m"),
        STAMPED.replace("] ", "@3] "),
        "\ufeff" + STAMPED,
        STAMPED.replace("\n", "\r\n"),
    ],
    ids=range(17),
)  # fmt: skip
def test_what_stands_before_the_text(text):
    (trace,) = read(text)
    assert trace.title == "BUG: kernel NULL pointer dereference, address: 0000000000000010"
    assert (trace.kind, trace.task, trace.pid, trace.cpu) == ("oops", "my cat", 1234, 1)
    assert [entry.symbol for entry in trace.entries] == ["frob_read", "vfs_open", "vfs_read"]
    assert [entry.unreliable for entry in trace.entries] == [False, True, False]
    assert trace.registers["rbx"] == 0xFFFF888003F6A300


LOCKUP = """\
watchdog: BUG: soft lockup - CPU#5 stuck for 26s! [spin:4800]
CPU: 5 PID: 4800 Comm: spin Tainted: G           OE     6.1.0-56-amd64 #1
RIP: 0010:queued_spin_lock_slowpath+0x12/0x50
Call Trace:
 <TASK>
 _raw_spin_lock+0x25/0x30
 spin_a+0x33/0x40
"""


def mixed(one, other):
    """The lines of two reports in turns."""
    lines = [each.splitlines() for each in (one, other)]
    longest = max(map(len, lines))
    return "".join(f"{some[i]}\n" for i in range(longest) for some in lines if i < len(some))


def test_lines_of_two_cpus_are_told_apart_by_their_callers():
    text = mixed(prefixed(BARE, "[    1.000000][ T1234] "), prefixed(LOCKUP, "[    1.0][    C5] "))
    oops, lockup = read(text)
    assert (oops.kind, oops.task, oops.cpu) == ("oops", "my cat", 1)
    assert [entry.symbol for entry in oops.entries] == ["frob_read", "vfs_open", "vfs_read"]
    assert (lockup.kind, lockup.task, lockup.cpu) == ("lockup", "spin", 5)
    assert len(lockup.entries) == 3


def test_mixed_lines_without_callers_are_nobody_s():
    traces = read(mixed(BARE, LOCKUP))
    assert all(trace.task is None and trace.pid is None for trace in traces)
    assert all(any("mixed" in note for note in trace.notes) for trace in traces)
    (after,) = read(mixed(BARE, LOCKUP) + "---[ end trace 0000000000000000 ]---\n" + BARE)[-1:]
    assert (after.task, after.notes) == ("my cat", [])


def test_what_has_no_back_trace_is_told_at_the_next_one():
    text = """\
mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 4: b200000000070f0f
mce: [Hardware Error]: TSC 12345 ADDR fe000000 MISC 86
rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
Sending NMI from CPU 0 to CPUs 3:
NMI backtrace for cpu 3
CPU: 3 PID: 12 Comm: x Not tainted 6.1.0-56-amd64 #1
RIP: 0010:vfs_read+0x9d/0x190
"""
    (trace,) = read(text)
    assert trace.notes == [
        "before it: mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 4: "
        "b200000000070f0f",
        "before it: rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    ]
    assert trace.happened == {"hardware", "stall", "task"}


@pytest.mark.parametrize("cut", ["", "------------[ cut here ]------------\n"])
def test_what_a_check_found_wrong_is_told(cut):
    wrong = "list_add corruption. prev->next should be next (ffff8f06), but was dead000000000100."
    bug = "kernel BUG at lib/list_debug.c:30!\nRIP: 0010:__list_add_valid+0x9d/0x190\n"
    (trace,) = read(f"{cut}{wrong}\n{'' if cut else '-' * 12 + '[ cut here ]' + '-' * 12}\n{bug}")
    assert trace.title == "kernel BUG at lib/list_debug.c:30!"
    assert trace.notes == [f"before it: {wrong}"]


def test_the_panic_that_an_oops_ends_in():
    (trace,) = read(BARE + "Kernel panic - not syncing: Fatal exception\n")
    assert trace.notes == ["then: Kernel panic - not syncing: Fatal exception"]


def test_a_log_without_a_back_trace():
    text = "EDAC MC0: 1 UE memory read error on CPU_SrcID#0\nKernel panic - not syncing: NMI\n"
    assert [(t.kind, t.entries) for t in read(text)] == [("hardware", []), ("panic", [])]
    assert read("usb 1-1: new device\nmce: CPU0: Thermal monitoring enabled (TM1)\n") == []


def test_what_a_kernel_says_when_it_starts_is_no_event():
    text = """\
NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.
NMI watchdog: Perf NMI watchdog permanently disabled
rcu: Hierarchical RCU implementation.
EDAC MC: Ver: 3.0.0
Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on
WARNING: Spectre v2 mitigation leaves CPU vulnerable
"""
    assert read(text) == []


IRQS = """\
irq event stamp: 12345
hardirqs last  enabled at (12345): [<ffffffff81a5513e>] enabled+0xe/0x30
hardirqs last disabled at (12344): [<ffffffff81a5513e>] disabled+0xe/0x30
"""


@pytest.mark.parametrize(
    "between",
    [
        "Preemption disabled at:\n[<ffffffff81a5513e>] preempted+0xe/0x30\n",
        "caller is debug_smp_processor_id+0x17/0x20\n",
        "1 lock held by cat/4711:\n"
        " #0: ffff8f0601dd5300 (&b->lock){+.+.}-{3:3}, at: locked+0x4/0x30\n",
        "page last allocated via order 0, migratetype Unmovable, pid 1, tgid 1 (init)\n"
        " then+0x1/0x20\npage last free stack trace:\n freed+0x1/0x20\n",
        IRQS,
        "",
    ],
)
def test_places_that_a_report_names_are_not_its_stack(between):
    """The report's own stack, which follows, has its title and its task."""
    text = f"""\
BUG: something is wrong in cat
{between}CPU: 3 PID: 4711 Comm: cat Not tainted 6.1.0-56-amd64 #1
Call Trace:
 <TASK>
 one+0x1/0x20
 two+0x1/0x20
{IRQS}---[ end trace 0000000000000000 ]---
"""
    own = [trace for trace in read(text) if trace.kind not in ("history", "locks")]
    assert [(t.title, t.task, [e.symbol for e in t.entries]) for t in own] == [
        ("BUG: something is wrong in cat", "cat", ["one", "two"])
    ]


def test_a_cpu_that_idles_has_no_stack():
    text = """\
NMI backtrace for cpu 3 skipped: idling at native_safe_halt+0xb/0x10
Kernel panic - not syncing: hung_task: blocked tasks
CPU: 1 PID: 55 Comm: khungtaskd Not tainted 6.1.0-56-amd64 #1
Call Trace:
 panic+0x118/0x2f4
"""
    assert stacks(text) == [
        ("panic", "Kernel panic - not syncing: hung_task: blocked tasks", ["panic"])
    ]


def test_parts_that_pstore_kept_are_put_in_order():
    lines = STAMPED.splitlines(keepends=True)
    parts = ["".join(lines[:3]), "".join(lines[3:7]), "".join(lines[7:])]
    text = "".join(f"Panic#2 Part{number}\n{part}" for number, part in enumerate(parts[::-1], 1))
    assert read("".join(parts))[0].entries == read(text)[0].entries
    (trace,) = read(text)
    assert trace.task == "my cat" and len(trace.entries) == 3


@pytest.mark.parametrize(
    "lost, told",
    [
        ("INFO: task cp:12 blocked for more than 120 seconds.",
         "INFO: task cat:4711 blocked for more than 120 seconds."),
        ("WARNING: CPU: 1 PID: 12 at fs/one.c:1 one+0x1/0x20",
         "WARNING: CPU: 3 PID: 4711 at fs/two.c:2 two+0x1/0x20"),
        ("watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [cp:12]",
         "watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [cat:4711]"),
    ],
)  # fmt: skip
def test_a_report_whose_stack_was_lost_is_not_the_next_one_s_title(lost, told):
    text = f"""\
{lost}
printk: 12 messages suppressed.
{told}
INFO: lockdep is turned off.
CPU: 3 PID: 4711 Comm: cat Not tainted 6.1.0-56-amd64 #1
Call Trace:
 two+0x1/0x20
"""
    (trace,) = read(text)
    assert (trace.title, trace.pid, trace.notes) == (told, 4711, [f"before it: {lost}"])
