"""A task's sets of signals by /proc/PID/task/TID/status, and where this machine's cores go."""

from typing import Optional

from faultkit.procfs.process import read_once, read_proc
from faultkit.target import SignalMasks

_FIELDS = {
    b"SigPnd": "pending", b"ShdPnd": "shared", b"SigBlk": "blocked", b"SigIgn": "ignored",
    b"SigCgt": "caught",
}  # fmt: skip


def masks_of(pid: int, tid: int) -> Optional[SignalMasks]:
    """The sets (fs/proc/array.c, task_sig), None if the task is gone."""
    try:
        lines = read_once(f"/proc/{pid}/task/{tid}/status").splitlines()
    except OSError:
        return None
    found: dict[str, int] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        if name in _FIELDS:
            try:
                found[_FIELDS[name]] = int(value, 16)
            except ValueError:
                continue
    return SignalMasks(**found) if found else None


def where_cores_go(pid: Optional[int] = None) -> str:
    """Where the kernel puts a core here, and how to open it: one line (core(5))."""
    try:
        pattern = read_proc("/proc/sys/kernel/core_pattern").decode("utf-8", "replace").strip()
    except OSError:
        return "/proc/sys/kernel/core_pattern tells where cores go"
    who = str(pid) if pid is not None else "PID"
    if not pattern:
        return "kernel.core_pattern is empty: no cores are written"
    if not pattern.startswith("|"):
        where = "the process's working directory" if "/" not in pattern else "there"
        return f'cores are written as "{pattern}", into {where}, if `ulimit -c` permits'
    program = pattern[1:].split()[0] if pattern[1:].split() else pattern
    name = program.rpartition("/")[2]
    known = {
        "systemd-coredump": f"systemd-coredump keeps them: `coredumpctl info {who}`, "
        f"`coredumpctl gdb {who}`",
        "apport": "apport keeps them in /var/lib/apport/coredump or in a report in /var/crash: "
        "apport-unpack",
        "abrt-hook-ccpp": "ABRT keeps them: `abrt-cli list`, then gdb on its coredump file",
    }
    for start, words in known.items():
        if name.startswith(start):
            return f"cores go to a program: {words}"
    return f"cores go to the program {program}: it decides where they are kept"
