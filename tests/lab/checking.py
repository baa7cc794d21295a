"""Compares a report on a dump with what the dump's faults expect."""

from collections.abc import Iterator
from typing import Any

from comparing import describe, mismatch

from .scenarios.model import Fault


class Names:
    """The names of a report's tasks by thread id: what `comparing` asks a stage for."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.by_tid: dict[Any, str] = {}
        for task in _tasks(report.get("findings")):
            name = str(task.get("name"))
            self.by_tid[task["tid"]] = "kworker" if name.startswith("kworker/") else name

    def name(self, tid: Any) -> str:
        """The thread's comm; "kworker" for every kworker."""
        return self.by_tid.get(tid, str(tid))


def _tasks(part: Any) -> Iterator[dict[str, Any]]:
    """Every task object anywhere in a part of a report."""
    if isinstance(part, dict):
        if "tid" in part:
            yield part
        for value in part.values():
            yield from _tasks(value)
    elif isinstance(part, list):
        for value in part:
            yield from _tasks(value)


def problems(report: dict[str, Any], fault: Fault) -> list[str]:
    """What is wrong with what the report says of this fault; [] if nothing is.

    The findings that have one of its tasks are exactly the expected ones, and any of the allowed.
    """
    names = Names(report)
    mine = [
        _without_kworkers(finding) for finding in report["findings"] if _is_about(finding, fault)
    ]
    wrong = []
    for expect in fault.findings:
        why = []
        for finding in mine:
            reasons = mismatch(finding, expect, names)
            if not reasons:
                mine.remove(finding)
                break
            why.append(f"  {describe(finding, names)}: {'; '.join(reasons)}")
        else:
            if not fault.unsure or report["verdict"] == "not-found":
                wrong.append("\n".join([f"missing: {expect}", *why]))
    for finding in mine:
        if all(mismatch(finding, expect, names) for expect in fault.allowed):
            wrong.append(f"unexpected: {describe(finding, names)}")
    return wrong


def _without_kworkers(finding: dict[str, Any]) -> dict[str, Any]:
    """The finding without the kworkers among its victims: whose turn it is to wait for a grace
    period that a spinning CPU holds up is a matter of chance."""
    victims = [task for task in finding["victims"] if not task["name"].startswith("kworker/")]
    return {**finding, "victims": victims}


def _is_about(finding: dict[str, Any], fault: Fault) -> bool:
    """Whether the finding has one of the fault's tasks: kworkers count where nobody else is."""
    names = {str(task.get("name")) for task in _tasks(finding)}
    others = [name for name in names if not name.startswith("kworker/")]
    return fault.owns(others or ["kworker"])


def strangers(report: dict[str, Any], faults: tuple[Fault, ...]) -> list[str]:
    """The findings that no fault of the dump has to do with."""
    names = Names(report)
    return [
        describe(finding, names)
        for finding in report["findings"]
        if not any(_is_about(finding, fault) for fault in faults)
    ]
