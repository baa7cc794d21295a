"""`sigsrc --log`: the signals that a kernel's log tells of; and of one process, whether it does."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence

from faultkit.klog.hung import parse_hung
from faultkit.klog.lines import Line
from faultkit.model import FOUND, INCONCLUSIVE, NOT_FOUND, Report
from faultkit.signals.logged import BOOT_TIME, logged_signals, time_words
from faultkit.signals.model import OOM_KILLER, SignalFinding

EARLY = 5.0  # seconds after boot at which a whole log has begun
UNRECORDED = (
    "kernels log neither kill() nor most other signals: a SIGKILL that no line tells of leaves no "
    "trace behind; for the next time: sigsrc --arm PID"
)
_SUPPRESSED = re.compile(
    r"(show_signal_msg|show_signal|do_trap|kauditd_printk_skb|dump_header|force_sig_info): "
    r"(\d+) callbacks suppressed"
)
_LOST = re.compile(r"(\d+) (?:printk )?messages dropped|audit_lost=(\d+)")
_PANIC = "Kernel panic - not syncing: hung_task"


def analyze_log(
    lines: Sequence[Line],
    name: str,
    host: dict[str, str | None],
    pid: int | None = None,
    kind: str = "text",
) -> Report:
    """What the log tells: of all signals, or of those to the process or thread `pid`."""
    begun = time.perf_counter()
    report = Report("sigsrc", host, {"kind": kind, "name": name, "release": None}, NOT_FOUND)
    add_logged(report, lines, pid)
    report.counts = {"lines": len(lines), "signals": sum(one.times for one in report.signals)}
    if report.signals:
        report.verdict = FOUND
        report.summary = summary(report.signals)
    elif not any(line.text.strip() for line in lines):
        report.verdict = INCONCLUSIVE
        report.summary = "the log is empty"
    else:
        about = "any signal" if pid is None else f"process {pid}"
        report.summary = f"the log says nothing of {about}"
        if not any(line.time is not None for line in lines):
            report.limits.append(
                "no line has a kernel's time stamp: this may be no kernel log; save the output of "
                "dmesg or journalctl -k"
            )
        report.verdict = INCONCLUSIVE if report.limits else NOT_FOUND
        if pid is not None:
            report.limits.append(
                "lines of faults name threads: one of the process's other threads would be there "
                "by its own id"
            )
    (report.notes if report.signals else report.limits).append(UNRECORDED)
    report.elapsed_seconds = time.perf_counter() - begun
    return report


def add_logged(report: Report, lines: Sequence[Line], pid: int | None = None) -> None:
    """Add what the log tells of signals, and where it has gaps."""
    found = logged_signals(lines, pid)
    report.signals += found if pid is not None else merged(found)
    report.notes += _panics(lines)
    report.limits += _gaps(lines)


def merged(findings: Sequence[SignalFinding]) -> list[SignalFinding]:
    """The same with equal faults of one program as one: the latest, and how often."""
    kept: dict[object, SignalFinding] = {}
    for number, one in enumerate(findings):
        place = one.next.partition("coredumpctl")[0]
        key: object = (one.task.name, one.number, one.cause, one.address, place)
        if one.origin == OOM_KILLER or not place:
            key = number
        times = kept[key].times if key in kept else 0
        kept[key] = one._replace(times=times + 1)
    return sorted(kept.values(), key=lambda one: one.when if one.when is not None else 0.0)


def summary(findings: Sequence[SignalFinding]) -> str:
    """The findings in a few words."""
    if len(findings) == 1:
        one = findings[0]
        who = f'{one.task.tid} "{one.task.name}"' if one.task.tid else one.explanation.rstrip(".")
        return f"{one.signal} to {who}: {one.cause or one.origin}" if one.task.tid else who
    counts: Counter[str] = Counter()
    for one in findings:
        counts[f"{one.signal} ({one.origin})"] += one.times
    return ", ".join(
        f"{count} times {what}" if count > 1 else what for what, count in counts.most_common(6)
    )


def _panics(lines: Sequence[Line]) -> list[str]:
    """That the hung-task detector has stopped the machine, and what it named."""
    notes = []
    hung = None
    for line in lines:
        found = parse_hung(line.text) if "blocked" in line.text else None
        hung = found or hung
        if _PANIC in line.text:
            who = f': it had found {hung.tid} "{hung.name}" blocked' if hung is not None else ""
            notes.append(
                f"the hung-task detector stopped the machine ({time_words(line.time)}){who}; no "
                "signal was sent; dstate --from tells why tasks were blocked"
            )
    return notes[-1:]


def _gaps(lines: Sequence[Line]) -> list[str]:
    limits = []
    timed = [line.time for line in lines if line.time is not None]
    whole = any("Linux version " in line.text for line in lines[:2000])
    if timed and EARLY < timed[0] < BOOT_TIME and not whole:
        limits.append(
            f"the log does not go back to the boot: of what was before {timed[0]:.0f} s nothing is "
            "in it; journalctl -k -b may have more"
        )
    suppressed: Counter[str] = Counter()
    for line in lines:
        match = _SUPPRESSED.search(line.text) if "suppressed" in line.text else None
        if match is not None:
            suppressed[match[1]] += int(match[2])
        match = _LOST.search(line.text) if "dropped" in line.text else None
        if match is not None and match[1]:
            suppressed["the console"] += int(match[1])
    for what, count in suppressed.items():
        lines_ = "lines" if count > 1 else "line"
        limits.append(f"{count} {lines_} of {what} missing: the kernel limits how many it writes")
    return limits
