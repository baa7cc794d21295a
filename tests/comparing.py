"""Compares a report with what its scenario expects, and says all that is wrong."""

import json
from typing import Any, Protocol

from scenarios.model import Expect, Scenario


class Cast(Protocol):
    """Who plays: what harness.Stage offers."""

    def name(self, tid: Any) -> str:
        """The name of the thread `tid`."""


def check(
    report: dict[str, Any],
    scenario: Scenario,
    stage: Cast,
    core: bool = False,
    symbols: bool = True,
) -> None:
    """Raises AssertionError, with all that is wrong, unless the report is what the scenario
    expects: the verdict, and exactly those findings.  `core`: it is about a core."""
    problems = []
    if report.get("schema") != "faultkit/1" or report.get("command") != "deadlock":
        problems.append(f"not a deadlock report: {report.get('schema')} {report.get('command')}")
    verdicts = scenario.verdicts(core)
    if report.get("verdict") not in verdicts:
        problems.append(f"verdict {report.get('verdict')}, expected {' or '.join(verdicts)}")
    if report.get("verdict") == "inconclusive" and not report.get("limits"):
        problems.append("inconclusive, but no limit says why")
    left = list(report.get("findings", ()))
    for expect in scenario.expected(core):
        why: list[str] = []
        for finding in left:
            wrong = mismatch(finding, expect, stage, symbols)
            if not wrong:
                left.remove(finding)
                break
            why.append(f"  {describe(finding, stage)}: {'; '.join(wrong)}")
        else:
            if report.get("verdict") in set(verdicts) - {"found"}:
                continue
            problems.append("\n".join([f"missing: {expect}", *why]))
    problems += [f"unexpected: {describe(finding, stage)}" for finding in left]
    if problems:
        text = json.dumps(report, indent=1)
        raise AssertionError("\n".join([scenario.name, *problems, text[:20000]]))


def _names(tasks: Any, stage: Cast) -> tuple[str, ...]:
    return tuple(stage.name(task.get("tid")) for task in tasks or ())


def describe(finding: dict[str, Any], stage: Cast) -> str:
    """A finding in one line: type, members with what they wait for, victims, root."""
    members = [
        f"{stage.name(wait['task']['tid'])}->{wait['waits_for']['kind']}"
        f"({wait['waits_for'].get('name')})"
        for wait in finding.get("members") or ()
    ]
    victims = _names(finding.get("victims"), stage)
    root = finding.get("root")
    text = f"{finding.get('type')} {members} victims {len(victims)} {victims[:10]}"
    return text + (f" root {stage.name(root['tid'])}" if root else "")


def mismatch(
    finding: dict[str, Any], expect: Expect, stage: Cast, symbols: bool = True
) -> list[str]:
    """What keeps the finding from being the expected one; [] if it is."""
    wrong = _mismatch(finding, expect, stage, symbols)
    if wrong and expect.otherwise is not None:
        return mismatch(finding, expect.otherwise, stage, symbols) and wrong
    return wrong


def _mismatch(finding: dict[str, Any], expect: Expect, stage: Cast, symbols: bool) -> list[str]:
    if finding.get("type") not in expect.types:
        return [f"type {finding.get('type')}"]
    waits = finding.get("members") or []
    members = _names([wait["task"] for wait in waits], stage)
    victims = _names(finding.get("victims"), stage)
    root = stage.name(finding["root"]["tid"]) if finding.get("root") else None
    wrong = []
    if finding["type"] in ("cycle", "self-deadlock"):
        turns = [waits[i:] + waits[:i] for i in range(len(waits))]
        turn = next((t for t in turns if _matches_order(t, expect, stage)), None)
        if turn is None:
            return [f"members {members}"]
        wrong += _wrong_locks(turn, expect, symbols) + _wrong_edges(turn, stage)
    else:
        everybody = tuple(dict.fromkeys(n for n in (*members, *victims) if n != root))
        if expect.members and set(everybody) != set(expect.members):
            wrong.append(f"tasks {everybody}")
        if expect.kinds:
            kinds = {wait["waits_for"]["kind"] for wait in waits} | {
                (finding.get("lock") or {}).get("kind")
            }
            if not set(expect.kinds) <= kinds:
                wrong.append(f"kinds {kinds}")
        victims = everybody
    if isinstance(expect.victims, int) and len(victims) != expect.victims:
        wrong.append(f"{len(victims)} victims: {victims[:10]}")
    if isinstance(expect.victims, tuple) and set(victims) != set(expect.victims):
        wrong.append(f"victims {victims}")
    if expect.root is not None and root != expect.root:
        wrong.append(f"root {root}")
    if expect.confidence is not None:
        edges = {wait.get("confidence") for wait in waits}
        weakest = "inferred" if "inferred" in edges else finding.get("confidence") or "proven"
        if weakest != expect.confidence:
            wrong.append(f"confidence {weakest}")
    return wrong


def _matches_order(waits: list[Any], expect: Expect, stage: Cast) -> bool:
    names = _names([wait["task"] for wait in waits], stage)
    return not expect.members or names == expect.members


def _wrong_locks(waits: list[Any], expect: Expect, symbols: bool) -> list[str]:
    wrong = []
    for wait, kind in zip(waits, expect.kinds):
        if kind and wait["waits_for"]["kind"] != kind:
            wrong.append(f"{wait['task'].get('name')} waits for {wait['waits_for']['kind']}")
    for wait, name in zip(waits, expect.names if symbols else ()):
        if name and wait["waits_for"].get("name") != name:
            wrong.append(f"lock named {wait['waits_for'].get('name')}, expected {name}")
    return wrong


def _wrong_edges(waits: list[Any], stage: Cast) -> list[str]:
    """In a cycle each lock is held by the next member."""
    wrong = []
    for wait, following in zip(waits, waits[1:] + waits[:1]):
        holders = _names(wait.get("held_by"), stage)
        if stage.name(following["task"]["tid"]) not in holders:
            wrong.append(f"{stage.name(wait['task']['tid'])}'s lock is held by {holders}")
    return wrong
