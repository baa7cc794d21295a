"""`sigsrc`'s findings as plain objects, for the machine-readable report."""

from __future__ import annotations

from collections.abc import Callable

from faultkit.model import Task
from faultkit.signals.model import Sender, SignalFinding, Table
from faultkit.signals.names import signal_name, signals_in
from faultkit.target import SignalMasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def signal_object(
    finding: SignalFinding,
    task_object: Callable[[Task], dict[str, Any]],
    frame_object: Callable[[Any], dict[str, Any]],
    cleaned: Callable[[str | None], str | None],
) -> dict[str, Any]:
    """One finding; `address` is a hex string, `value` a number."""

    def sender(one: Sender) -> dict[str, Any]:
        return {
            "pid": one.pid,
            "uid": one.uid,
            "name": cleaned(one.name),
            "user": cleaned(one.user),
            "itself": one.itself,
            "alive": one.alive,
            "reused": one.reused,
            "fate": cleaned(one.fate),
            "here": one.here,
        }

    def table(one: Table) -> dict[str, Any]:
        return {
            "title": cleaned(one.title),
            "columns": list(one.columns),
            "rows": [[cleaned(value) for value in row] for row in one.rows],
            "chosen": one.chosen,
        }

    return {
        "type": finding.type,
        "task": task_object(finding.task),
        "signal": finding.signal,
        "number": finding.number,
        "code": finding.code_name,
        "origin": finding.origin,
        "cause": finding.cause,
        "sender": sender(finding.sender) if finding.sender is not None else None,
        "address": None if finding.address is None else f"{finding.address:#x}",
        "value": finding.value,
        "state": finding.state,
        "shared": finding.shared,
        "count": finding.times,
        "within": signal_name(finding.within) if finding.within else None,
        "explanation": cleaned(finding.explanation),
        "next": cleaned(finding.next),
        "confidence": finding.confidence,
        "evidence": [cleaned(line) for line in finding.evidence],
        "place": cleaned(finding.place),
        "frames": [frame_object(frame) for frame in finding.frames],
        "when": finding.when,
        "tables": [table(one) for one in finding.tables],
    }


def masks_object(
    task: Task, masks: SignalMasks, task_object: Callable[[Task], dict[str, Any]]
) -> dict[str, Any]:
    """A task's sets of signals by name; null where they are not known."""
    sets = {
        name: None if mask is None else [signal_name(number) for number in signals_in(mask)]
        for name, mask in masks._asdict().items()
    }
    return {"task": task_object(task), **sets}
