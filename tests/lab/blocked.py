"""Compares `dstate`'s report on a dump with what the dump's faults expect."""

import fnmatch
from typing import Any

from .scenarios.model import Fault, Stuck


def problems(report: dict[str, Any], fault: Fault) -> list[str]:
    """What is wrong with what the report says of this fault; [] if nothing is: each expected group
    is there, and no other group has one of its tasks."""
    mine = [group for group in report["findings"] if fault.owns(_names(group))]
    wrong = []
    for stuck in fault.stuck:
        why = []
        for group in mine:
            reasons = _mismatch(group, stuck)
            if not reasons:
                mine.remove(group)
                break
            why.append(f"  {_describe(group)}: {'; '.join(reasons)}")
        else:
            wrong.append("\n".join([f"missing: {stuck}", *why]))
    return wrong + [f"unexpected: {_describe(group)}" for group in mine]


def strangers(report: dict[str, Any], faults: tuple[Fault, ...]) -> list[str]:
    """The groups that have no task of any fault of the dump."""
    return [
        _describe(group)
        for group in report["findings"]
        if not any(fault.owns(_names(group)) for fault in faults)
    ]


def _names(group: dict[str, Any]) -> list[str]:
    return [str(task["name"]) for task in group["tasks"]]


def _links(group: dict[str, Any]) -> list[str]:
    return [f"{link['kind']} {link['name']} {link['detail']}" for link in group["behind"]]


def _describe(group: dict[str, Any]) -> str:
    chain = " -> ".join(_links(group))
    return f"{group['cause']} {_names(group)} ({group['explanation']}) behind {chain}"


def _mismatch(group: dict[str, Any], stuck: Stuck) -> list[str]:
    wrong = []
    if group["cause"] not in stuck.cause.split("|"):
        wrong.append(f"cause {group['cause']}")
    if not set(stuck.tasks) <= set(_names(group)):
        wrong.append(f"tasks {_names(group)}")
    links = iter(_links(group))
    for part in stuck.behind:
        if not any(fnmatch.fnmatchcase(link, f"{part}*") for link in links):
            wrong.append(f"nothing like {part!r} is behind it")
            break
    told = [group["explanation"], *filter(None, group["resource"].values())]
    if not any(stuck.words in text for text in told):
        wrong.append(f"not a word of {stuck.words!r}")
    if stuck.calls and not any(stuck.calls in call for call in group["system_calls"]):
        wrong.append(f"calls {group['system_calls']}")
    return wrong
