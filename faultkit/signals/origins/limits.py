"""SIGXFSZ and SIGXCPU: a resource limit was reached."""

from __future__ import annotations

import os

from faultkit.procfs.process import read_proc
from faultkit.signals.case import Case
from faultkit.signals.model import RLIMIT
from faultkit.signals.names import SI_KERNEL, SI_USER, SIGXCPU, SIGXFSZ
from faultkit.signals.origins import Origin
from faultkit.signals.origins._calls_made import last_call

SIGNALS = frozenset((SIGXCPU, SIGXFSZ))
PRIORITY = 20
WRITES = frozenset(
    "write writev pwrite64 pwritev pwritev2 ftruncate truncate fallocate sendfile splice "
    "copy_file_range".split()
)
WITH_PATH = frozenset(("truncate",))
EFBIG = -27


def explain(case: Case) -> Origin | None:
    """SIGXFSZ, which looks as if the process had sent it (send_sig in fs/read_write.c,
    mm/filemap.c); SIGXCPU by the timer (kernel/time/posix-cpu-timers.c)."""
    if case.info.number == SIGXCPU:
        return _processor_time(case) if case.info.code == SI_KERNEL else None
    return _file_size(case) if case.info.code == SI_USER and case.by_itself else None


def _file_size(case: Case) -> Origin | None:
    call = last_call(case)
    unknown = call is not None and call.nr < 0 and call.result == EFBIG
    if case.registers and not unknown and (call is None or call.name not in WRITES):
        return None
    if call is not None and call.result not in (EFBIG, None):
        return None
    limit = limit_of(case, "Max file size", "bytes")
    what = ""
    if call is not None:
        what = f"{call.name}()"
        if call.name not in WITH_PATH:
            number = 2 if call.name in ("splice", "copy_file_range") else 0
            fd = call.arguments[number] & 0xFFFFFFFF
            what += f" to descriptor {fd}{_path(case, fd)}"
    place = case.own_place()
    return Origin(
        RLIMIT,
        "file-size-limit",
        f"File too large: {what or 'a write'}{f' by {place}' if place else ''} was to make a file "
        f"larger than RLIMIT_FSIZE{limit} permits. The kernel sends SIGXFSZ for it in the "
        "process's own name.",
        f"file larger than RLIMIT_FSIZE{limit}",
        ("the system call's result is EFBIG",) if call is not None and call.result == EFBIG else (),
        "look at `ulimit -f`, LimitFSIZE= of the service, and why the file grows; the limit cuts "
        "cores short too",
    )


def _processor_time(case: Case) -> Origin:
    if _short(case):
        return Origin(
            RLIMIT,
            "cpu-limit",
            "A real-time thread has run too long without a sleep, by RLIMIT_RTTIME. It is not "
            "RLIMIT_CPU: that counts seconds, and the process has not used one. The kernel sends "
            "SIGXCPU each second from then on, and SIGKILL at the hard limit.",
            "real-time thread ran too long, RLIMIT_RTTIME",
            ("si_code is SI_KERNEL", "the process has used less than a second"),
            "look at LimitRTTIME= of the service, and at what the thread loops in",
        )
    limit = limit_of(case, "Max cpu time", "s")
    used = case.process.processor_seconds(case.task)
    seconds = f"; the thread that got the signal has used {used:.1f} s" if used is not None else ""
    return Origin(
        RLIMIT,
        "cpu-limit",
        f"The process has used up its processor time, RLIMIT_CPU{limit}{seconds}. The kernel "
        "sends SIGXCPU each second from then on, and SIGKILL at the hard limit. (A real-time "
        "thread gets it at RLIMIT_RTTIME too.)",
        f"processor time used up, RLIMIT_CPU{limit}",
        ("si_code is SI_KERNEL",),
        "look at `ulimit -t`, LimitCPU= of the service, and what the threads are busy with",
    )


def _short(case: Case) -> bool:
    """Whether the process has used less processor time than any RLIMIT_CPU grants: a second.  Of a
    core by the kernel, whose first thread has the sum of all (fill_prstatus in fs/binfmt_elf.c)."""
    process = case.process
    if process.kind != "core" or process.pictured:
        return False
    leaders = [task for task in process.tasks() if task.tid == process.pid]
    used = process.processor_seconds(leaders[0]) if leaders else None
    return used is not None and used < 1


def limit_of(case: Case, name: str, unit: str) -> str:
    """ " of 4096 bytes" by /proc/PID/limits; "" of a core."""
    if not case.process.live:
        return ""
    try:
        text = read_proc(f"/proc/{case.process.pid}/limits").decode("ascii", "replace")
    except OSError:
        return ""
    for line in text.splitlines():
        if line.startswith(name):
            return f" of {line[len(name) :].split()[0]} {unit}"
    return ""


def _path(case: Case, fd: int) -> str:
    if not case.process.live:
        return ""
    try:
        return f" ({os.readlink(f'/proc/{case.process.pid}/fd/{fd}')})"
    except OSError:
        return ""
