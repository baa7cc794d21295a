"""`sigsrc --from`: what a tracer of `sigsrc --arm` has seen."""

from __future__ import annotations

import time
from collections.abc import Iterable

from faultkit.analyzers.siglog import summary
from faultkit.model import FOUND, INCONCLUSIVE, NOT_FOUND, Report
from faultkit.signals.model import FATAL
from faultkit.signals.traced import exits, parse_trace, traced_signals, unseen_end


def analyze_trace(
    lines: Iterable[str], name: str, host: dict[str, str | None], pid: int | None = None
) -> Report:
    """Explain a tracer's output: of the process that it watched, or of `pid`."""
    begun = time.perf_counter()
    trace = parse_trace(lines)
    report = Report("sigsrc", host, {"kind": "text", "name": name, "release": None}, NOT_FOUND)
    report.signals = traced_signals(trace, pid)
    report.notes += exits(trace)
    report.counts = {"events": len(trace.events), "signals": len(report.signals)}
    watched = trace.armed if pid is None else pid
    if report.signals:
        report.verdict = FOUND
        fatal_first = sorted(report.signals, key=lambda one: one.state != FATAL)
        report.summary = summary(fatal_first)
    elif trace.events:
        report.summary = "no signal was sent"
    elif trace.armed is not None:
        report.summary = "nothing has happened while it was traced"
    else:
        report.verdict = INCONCLUSIVE
        report.summary = "this is no output of a tracer that sigsrc --arm prints"
        report.limits.append(
            "nothing of a tracer is in it: run the one that sigsrc --arm PID prints, and give what "
            "it writes; what a kernel log tells, sigsrc --log FILE reads"
        )
    if watched is not None and unseen_end(trace, report.signals, watched):
        report.verdict = INCONCLUSIVE
        report.summary = f"what ended process {watched} was not seen; {report.summary}"
        report.limits.append(
            f"process {watched} has ended without exit(), and no signal that it can have died of "
            "was seen: one may have been sent to a thread that was born after the tracer was armed"
        )
    if watched is not None:
        report.notes.insert(0, f"process {watched} was traced")
    report.elapsed_seconds = time.perf_counter() - begun
    return report
