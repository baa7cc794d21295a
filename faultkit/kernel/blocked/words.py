"""Advice for who has a dump instead of the machine: crash's commands for those of a shell."""

import re

_INSTEAD = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"gdb -p (\d+)", r"bt \1"),
        (r"dmesg \| grep ('[^']*')", r"log | grep \1"),
        (r"dmesg, /sys/kernel/debug/block/\S+?(?=;|$)", "log"),
        (r"\bdmesg\b", "log"),
        (r"the kernel log\b", "the kernel log (crash: log)"),
        (r"iostat -x 1, /sys/block/\*/inflight, log", "crash: dev -d, log"),
        (r"\s*\(?iostat -x 1\)?(?=[;,.]|$)", " (crash: dev -d)"),
        (r"iostat -x 1", "crash: dev -d"),
        (r"/proc/PID/stack of those", "the stacks (crash: bt) of those"),
        (r"ps --ppid PID", "crash: ps -c"),
        (r"top -H, perf top -t (\d+)", r"bt \1"),
        (r"ss -tnpi", "crash: net"),
        (r"free -m, vmstat 1, /proc/pressure/memory", "crash: kmem -i"),
        (r"\(free, vmstat 1: si, so\)", "(crash: swap)"),
        (r"losetup -l", "crash: dev"),
        (r"Dirty and Writeback in /proc/meminfo", "crash: kmem -i, kmem -V"),
    )
)


def advice(text: str) -> str:
    """The advice with crash's commands in it."""
    for pattern, instead in _INSTEAD:
        text = pattern.sub(instead, text)
    return text
