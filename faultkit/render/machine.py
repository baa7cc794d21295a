"""The machine-readable report: schema "faultkit/1", fields may be added."""

from __future__ import annotations

from faultkit.model import Finding, Frame, Lock, Report, Task, Wait
from faultkit.render.escape import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


SCHEMA = "faultkit/1"


def render_json(report: Report) -> str:
    """The report as one JSON object, indented."""
    try:
        import json
    except ImportError:
        from faultkit.render.encode import encode

        return encode(report_object(report))
    return json.dumps(report_object(report), indent=2, ensure_ascii=True)


def report_object(report: Report) -> dict[str, Any]:
    """The report as plain objects; addresses are hex strings, unknown values None."""
    told = _report_object(report)
    if report.command == "sigsrc":
        from faultkit.render.sigsrc_json import masks_object

        told["masks"] = [masks_object(task, masks, _task) for task, masks in report.masks]
    if report.command == "kdecode":
        from faultkit.render.kdecode_json import trace_objects

        told["findings"], told["traces"] = trace_objects(report.traces, _clean)
    return told


def _report_object(report: Report) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "command": report.command,
        "host": report.host,
        "target": {key: _clean(value) for key, value in report.target.items()},
        "verdict": report.verdict,
        "summary": _clean(report.summary),
        "findings": [_finding(finding) for finding in report.findings] + _groups(report),
        "limits": [_clean(limit) for limit in report.limits],
        "notes": [_clean(note) for note in report.notes],
        "counts": report.counts,
        "stacks": [
            {"task": _task(task), "frames": [_frame(frame) for frame in frames]}
            for task, frames in report.stacks
        ],
        "elapsed_seconds": round(report.elapsed_seconds, 6),
        "paused_seconds": report.paused_seconds,
    }


def _groups(report: Report) -> list[dict[str, Any]]:
    if report.senders:
        from faultkit.render.senders import place_object

        return [place_object(place) for place in report.senders]
    if report.signals:
        from faultkit.render.sigsrc_json import signal_object

        return [signal_object(finding, _task, _frame, _clean) for finding in report.signals]
    if not report.groups:
        return []
    from faultkit.render.dstate_json import group_object

    return [group_object(group, _task, _frame, _clean) for group in report.groups]


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "type": finding.type,
        "confidence": finding.confidence,
        "members": [_wait(wait) for wait in finding.members],
        "victims": [_task(task) for task in finding.victims],
        "lock": _lock(finding.lock, None) if finding.lock else None,
        "root": _task(finding.root) if finding.root else None,
        "root_waits_for": _wait(finding.root_waits_for) if finding.root_waits_for else None,
        "explanation": _clean(finding.explanation),
        "evidence": [_clean(line) for line in finding.evidence],
    }


def _wait(wait: Wait) -> dict[str, Any]:
    return {
        "task": _task(wait.task),
        "waits_for": _lock(wait.lock, wait.mode),
        "held_by": [_task(holder) for holder in wait.holders],
        "timed": wait.timed,
        "confidence": wait.confidence,
        "evidence": [_clean(line) for line in wait.evidence],
        "frames": [_frame(frame) for frame in wait.frames],
    }


def _lock(lock: Lock, mode: str | None) -> dict[str, Any]:
    return {
        "kind": lock.kind,
        "address": _hex(lock.address),
        "name": _clean(lock.name),
        "mode": mode,
    }


def _task(task: Task) -> dict[str, Any]:
    told: dict[str, Any] = {
        "pid": task.pid,
        "tid": task.tid,
        "name": _clean(task.name),
        "state": task.state,
        "number": task.number,
    }
    if task.address is not None:  # a kernel's
        told.update(address=_hex(task.address), cpu=task.cpu, seconds_off_cpu=task.seconds)
    return told


def _frame(frame: Frame) -> dict[str, Any]:
    return {
        "type": "frame",
        "index": frame.index,
        "address": _hex(frame.address),
        "symbol": _clean(frame.symbol),
        "offset": frame.offset,
        "module": _clean(frame.module),
        "inlines": [
            {
                "function": _clean(source.function),
                "file": _clean(source.file),
                "line": source.line,
                "column": source.column,
            }
            for source in frame.inlines
        ],
    }


def _clean(text: str | None) -> str | None:
    return None if text is None else clean(text, 2000)


def _hex(address: int | None) -> str | None:
    return None if address is None else f"{address:#x}"
