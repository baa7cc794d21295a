"""A task's sets of signals by /proc/PID/task/TID/status, and where this machine's cores go."""

from __future__ import annotations

from faultkit.procfs.process import read_once, read_proc
from faultkit.target import SignalMasks

_FIELDS = {
    b"SigPnd": "pending", b"ShdPnd": "shared", b"SigBlk": "blocked", b"SigIgn": "ignored",
    b"SigCgt": "caught",
}  # fmt: skip


def masks_of(pid: int, tid: int) -> SignalMasks | None:
    """The sets (fs/proc/array.c, task_sig), None if the task is gone."""
    try:
        text = read_once(f"/proc/{pid}/task/{tid}/status")
    except OSError:
        return None
    found: dict[str, int] = {}
    for line in text[text.find(b"\nSigPnd:") + 1 :].split(b"\n", len(_FIELDS))[: len(_FIELDS)]:
        name = _FIELDS.get(line[:6])
        try:
            if name is not None:
                found[name] = int(line[7:], 16)
        except ValueError:
            continue
    return SignalMasks(**found) if found else None


def parent_of(pid: int) -> int | None:
    """The process's parent, None if it is gone."""
    fields = _stat(pid)
    return int(fields[1]) if len(fields) > 1 else None


def died_of(pid: int) -> tuple[int, bool] | None:
    """(signal, whether a core was dumped) that a zombie has died of; None if it exited by itself,
    is no zombie, or we may not know (do_task_stat in fs/proc/array.c gives the exit code to those
    who may trace it)."""
    fields = _stat(pid)
    if len(fields) < 50 or fields[0] != b"Z":
        return None
    code = int(fields[49])
    return (code & 0x7F, bool(code & 0x80)) if code & 0x7F else None


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat behind the name; [] if the process is gone."""
    try:
        stat = read_proc(f"/proc/{pid}/stat")
    except OSError:
        return []
    return stat[stat.rfind(b")") + 2 :].split()


def where_cores_go(pid: int | None = None) -> str:
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
