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
        ("warning", "allocated by task 4700 on cpu 1 at 12.345678s:",
         ["frob_open", "do_dentry_open"]),
        ("warning", "freed by task 4701 on cpu 2 at 12.400000s:", ["frob_release"]),
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
