"""Other lines of a log that tell of signals: hardware-poisoned memory, seccomp and audit, limits,
sysrq, and what daemons say that kill for want of memory."""

from __future__ import annotations

import re

from faultkit.record import NamedTuple

SIGKILL, SIGBUS, SIGTERM, SIGSYS, SIGXCPU = 9, 7, 15, 31, 24

_NAMED = r"(?P<name>.{1,32}?):(?P<pid>\d+)"
# mm/memory-failure.c, kill_proc(), kill_procs(); arch/x86/mm/fault.c, do_sigbus()
_POISON = re.compile(
    r"(?:Memory failure: |MCE )(?P<pfn>0x[0-9a-f]+): (?:Killing|Sending SIGBUS to) " + _NAMED +
    r" due to hardware memory corruption"
)  # fmt: skip
_POISON_FORCED = re.compile(
    r"(?:Memory failure: |MCE )(?P<pfn>0x[0-9a-f]+): forcibly killing " + _NAMED +
    r" because of failure to unmap corrupted page"
)  # fmt: skip
_POISON_ACCESS = re.compile(
    r"MCE: Killing " + _NAMED +
    r" due to hardware memory corruption fault at (?P<address>[0-9a-f]+)"
)  # fmt: skip
# kernel/auditsc.c, audit_seccomp() and audit_core_dumps()
_AUDIT = re.compile(
    r"type=(?P<type>1326|1701|SECCOMP|ANOM_ABEND)\b.*?audit\(\d+\.\d+:\d+\):(?P<rest>.*)"
)
_FIELD = re.compile(r'(?<!\S)(\w+)=("[^"]*"|\S+)')
# kernel/time/posix-cpu-timers.c, check_rlimit()
_LIMIT = re.compile(
    r"(?P<which>CPU|RT) Watchdog Timeout \((?P<kind>soft|hard)\): "
    r"(?P<name>.{1,32}?)\[(?P<pid>\d+)\]"
)
_OOMD = re.compile(r"systemd-oomd\[\d+\]: Killed (?P<cgroup>\S+) due to (?P<why>.*)")
_EARLYOOM = re.compile(
    r"earlyoom\[\d+\]: [Ss]ending (?P<signal>SIGTERM|SIGKILL) to process (?P<pid>\d+) "
    r"(?:uid \d+ )?[\"'](?P<name>.*?)[\"']"
)
_SYSRQ = re.compile(r"sysrq: (?:SysRq : )?(?P<what>Terminate All Tasks|Kill All Tasks|SAK)\s*$")
_RETURNS = {  # include/uapi/linux/seccomp.h
    0x80000000: "SECCOMP_RET_KILL_PROCESS",
    0x00000000: "SECCOMP_RET_KILL_THREAD",
    0x00030000: "SECCOMP_RET_TRAP",
    0x7FF00000: "SECCOMP_RET_TRACE",
    0x7FFC0000: "SECCOMP_RET_LOG",
}


class Kill(NamedTuple):
    """A signal that a line tells of.  `pid` is None where it was sent to more than one process:
    to a `cgroup`, or to all.  `kind` is poison, poison-forced, poison-access, seccomp, abend,
    limit, oomd, earlyoom or sysrq.  `detail` holds what else the line says, by name."""

    kind: str
    signal: int
    pid: int | None
    name: str | None
    detail: dict[str, str]


def parse_kill(text: str) -> Kill | None:
    """The line's kill, None if it tells of none."""
    if "audit(" in text:
        return _audit(text)
    if "corrupt" in text:
        return _poison(text)
    if "Watchdog Timeout" in text:
        match = _LIMIT.search(text)
        if match is None:
            return None
        signal = SIGKILL if match["kind"] == "hard" else SIGXCPU
        return Kill("limit", signal, int(match["pid"]), match["name"].strip(), match.groupdict())
    if "sysrq:" in text:
        match = _SYSRQ.search(text)
        signals = {"Terminate All Tasks": SIGTERM, "Kill All Tasks": SIGKILL, "SAK": SIGKILL}
        if match is None:
            return None
        return Kill("sysrq", signals[match["what"]], None, None, match.groupdict())
    if "oom" in text:
        match = _OOMD.search(text)
        if match is not None:
            return Kill("oomd", SIGKILL, None, None, match.groupdict())
        match = _EARLYOOM.search(text)
        if match is not None:
            signal = SIGTERM if match["signal"] == "SIGTERM" else SIGKILL
            return Kill("earlyoom", signal, int(match["pid"]), match["name"], match.groupdict())
    return None


def _poison(text: str) -> Kill | None:
    for kind, signal, pattern in (
        ("poison", SIGBUS, _POISON),
        ("poison-forced", SIGKILL, _POISON_FORCED),
        ("poison-access", SIGBUS, _POISON_ACCESS),
    ):
        match = pattern.search(text)
        if match is not None:
            pid, name = int(match["pid"]), match["name"].strip()
            return Kill(kind, signal, pid, name, match.groupdict())
    return None


def _audit(text: str) -> Kill | None:
    match = _AUDIT.search(text)
    if match is None:
        return None
    fields = {name: _value(value) for name, value in _FIELD.findall(match["rest"])}
    pid, signal = fields.get("pid", ""), fields.get("sig", "")
    if not (pid.isdecimal() and signal.isdecimal() and len(pid + signal) < 20):
        return None
    is_seccomp = match["type"] in ("1326", "SECCOMP")
    if is_seccomp and signal == "0":
        return None  # only logged
    return Kill(
        "seccomp" if is_seccomp else "abend", int(signal), int(pid), fields.get("comm"), fields
    )


def _value(text: str) -> str:
    """A field's value: quoted, or in hex where it can't be (audit_log_untrustedstring())."""
    if text.startswith('"'):
        return text.strip('"')
    if len(text) >= 2 and len(text) % 2 == 0 and re.fullmatch("[0-9A-F]+", text):
        decoded = bytes.fromhex(text)
        if not text.isdecimal():
            return decoded.decode("utf-8", "replace")
    return text


def seccomp_action(code: str) -> str:
    """The filter's answer, by the audit line's `code`."""
    try:
        return _RETURNS.get(int(code, 16) & 0xFFFF0000, f"the action {code}")
    except ValueError:
        return "an action that is not known"
