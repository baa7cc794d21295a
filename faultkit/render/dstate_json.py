"""`dstate`'s groups as plain objects, for the machine-readable report."""

from __future__ import annotations

from collections.abc import Callable

from faultkit.model import Behind, BlockedGroup, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def group_object(
    group: BlockedGroup,
    task_object: Callable[[Task], dict[str, Any]],
    frame_object: Callable[[Any], dict[str, Any]],
    cleaned: Callable[[str | None], str | None],
) -> dict[str, Any]:
    """One group; `seconds` of a task are those that it has been blocked for."""

    def blocked(task: Task) -> dict[str, Any]:
        return {**task_object(task._replace(address=None)), "seconds": _rounded(task.seconds)}

    def behind(link: Behind) -> dict[str, Any]:
        told = task_object(link.task) if link.task is not None else {}
        return {
            **told,
            "kind": link.kind,
            "name": told.get("name") or cleaned(link.name),
            "detail": cleaned(link.detail),
        }

    return {
        "type": group.type,
        "cause": group.cause,
        "function": cleaned(group.function),
        "tasks": [blocked(task) for task in group.tasks],
        "longest_seconds": _rounded(group.longest_seconds),
        "at_least": group.at_least,
        "system_calls": [cleaned(call) for call in group.system_calls],
        "resource": {name: cleaned(value) for name, value in group.resource._asdict().items()},
        "behind": [behind(link) for link in group.behind],
        "explanation": cleaned(group.explanation),
        "next": cleaned(group.next),
        "confidence": group.confidence,
        "evidence": [cleaned(line) for line in group.evidence],
        "frames": [
            {**frame_object(frame), "address": None} if not frame.address else frame_object(frame)
            for frame in group.frames
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
