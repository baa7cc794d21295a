"""`dstate`: which tasks are blocked in the kernel, why, and who or what would wake them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from faultkit.causes import Explanation, explain, waits_in
from faultkit.causes.chain import Step, follow
from faultkit.causes.view import Blocked, Device, View
from faultkit.model import FOUND, INCONCLUSIVE, NOT_FOUND, BlockedGroup, Report, Task
from faultkit.record import NamedTuple
from faultkit.syscalls import syscall_name

MIN_AGE = 1.0  # seconds; shorter waits are everyday life
MOMENT = 0.1  # seconds that a snapshot may freeze or suspend something for
MOST_YOUNG = 1000  # tasks that are looked into though they are young
BUSY = 30.0  # seconds that a wait for a device may take that does complete requests meanwhile
PATIENCE = 2.0  # seconds that we wait for a task to become old enough
LOOKS = (0.05, 0.1, 0.2, 0.4)  # seconds between looks at tasks that are not old enough yet
SECOND_LOOK = 0.1  # seconds in which a busy device completes requests
DUMPS = frozenset(("vfs_coredump", "do_coredump"))  # a core's writer left its system call
MOST_CALLS = 4  # system calls and paths named of a group
MOST_TEXTS = 4  # ways in which a group's tasks wait that are all told


class Options(NamedTuple):
    """What the user may ask for: `stacks` tells whether the report shall hold them; waits
    shorter than `min_age` seconds are not reported: MIN_AGE if None, but in a dump those at once
    that are certain not to end by themselves."""

    stacks: bool = False
    min_age: float | None = None
    command: str = "dstate"


class Why(NamedTuple):
    """One blocked task, and its cause."""

    blocked: Blocked
    cause: str
    explanation: Explanation


def analyze(view: View, host: dict[str, str | None], options: Options | None = None) -> Report:
    """Look at the tasks of a view.  Raises FaultkitError when nothing can be said at all."""
    began = time.perf_counter()
    options = options or Options()
    min_age = options.min_age if options.min_age is not None else MIN_AGE
    old, young = _by_age(view, view.blocked(), min_age)
    if view.has_graph and options.min_age is None:
        lasting = _lasting(view, young)
        old, young = old + lasting, [task for task in young if task not in lasting]
    reasons = _reasons(view, old)
    harmless = [why for why in reasons if why.explanation.harmless]
    reasons = [why for why in reasons if not why.explanation.harmless]
    groups = _merge(view, reasons, options.stacks)
    groups, busy = _without_busy(view, groups)
    report = Report(
        options.command,
        host,
        {"kind": view.kind, "name": view.name, "release": view.release},
        NOT_FOUND,
        counts={**view.counts(), "blocked": sum(len(group.tasks) for group in groups)},
    )
    report.groups = groups
    report.limits = list(view.limits)
    report.notes = _notes(view, young, busy, harmless, min_age)
    report.verdict = _verdict(groups, report.limits)
    report.summary = _summarise(report)
    report.elapsed_seconds = time.perf_counter() - began
    return report


def _by_age(
    view: View, seen: Sequence[Blocked], min_age: float
) -> tuple[list[Blocked], list[Blocked]]:
    """(those that have been blocked for long enough, those that have not).

    Where the view moves, tasks whose age is unknown are watched; so are young ones if there is
    nothing else to report: until they have run, or are old enough, or patience ends.
    """
    if not view.live:
        old = [task for task in seen if task.seconds is None or task.seconds >= min_age]
        return old, [task for task in seen if task not in old] if len(old) < len(seen) else []
    old, young, watched = [], [], []
    for task in seen:
        if task.seconds is None:
            watched.append(task)
        elif task.seconds >= min_age:
            old.append(task)
        else:
            young.append(task)
    if not old:
        watched += [task for task in young if min_age - (task.seconds or 0) <= PATIENCE]
        young = [task for task in young if task not in watched]
    grown, still = _watched(view, watched, min_age)
    return old + grown, young + still


def _lasting(view: View, young: Sequence[Blocked]) -> list[Blocked]:
    """Those of the young tasks that no patience helps: a dump never shows them older."""
    known: dict[object, bool] = {}
    found = []
    for why in _reasons(view, young[:MOST_YOUNG]):
        explanation = why.explanation
        key = (why.cause, explanation.key or explanation.text, explanation.behind)
        if key not in known:
            ends = follow(view, explanation.behind) if explanation.behind else Step()
            known[key] = not explanation.harmless and (explanation.lasts or ends.lasts)
        if known[key] and (why.blocked.seconds or 0.0) >= MOMENT:
            found.append(why.blocked)
    return found


def _watched(
    view: View, tasks: list[Blocked], min_age: float
) -> tuple[list[Blocked], list[Blocked]]:
    """(the tasks that have become old enough, those that are too young yet), without those that
    have run in the meantime."""
    grown: list[Blocked] = []
    began = time.monotonic()
    enough = min(min_age, PATIENCE)
    while tasks:
        passed = time.monotonic() - began
        look = next((pause for pause in LOOKS if pause > passed), LOOKS[-1])
        time.sleep(max(0.0, min(look, enough - passed + 0.01)))
        passed = time.monotonic() - began
        seen = [now for now in map(view.look_again, tasks) if now is not None]
        tasks = []
        for task in seen:
            if task.seconds is None and passed >= enough:
                grown.append(task._replace(seconds=passed, at_least=True))
            elif task.seconds is not None and task.seconds >= min_age:
                grown.append(task)
            else:
                tasks.append(task)
        if passed >= enough:
            break
    return grown, tasks


def _reasons(view: View, blocked: Sequence[Blocked]) -> list[Why]:
    """Why each of the tasks is blocked."""
    known: dict[object, tuple[str, Explanation]] = {}
    reasons = []
    for task in blocked:
        call = task.syscall
        key = (
            task.functions,
            task.task.pid,
            task.task.state,
            (call.nr, call.args[:2]) if call is not None else task.task.tid,
        )
        cause, explanation = known.get(key) or explain(task, view)
        if task.task.tid not in explanation.key:  # else it is true of this very task only
            known[key] = cause, explanation
        reasons.append(Why(task, cause, explanation))
    return reasons


def _merge(view: View, reasons: Sequence[Why], stacks: bool) -> list[BlockedGroup]:
    """Equal causes as one group each, the longest wait first."""
    merged: dict[object, list[Why]] = {}
    for why in reasons:
        key = (why.cause, *(why.explanation.key or (why.explanation.text,)))
        merged.setdefault(key, []).append(why)
    groups = [_group(view, members, stacks) for members in merged.values()]
    groups.sort(key=lambda group: (-(group.longest_seconds or 0.0), -len(group.tasks)))
    return groups


def _group(view: View, members: list[Why], stacks: bool) -> BlockedGroup:
    members.sort(key=lambda why: -(why.blocked.seconds or 0.0))
    texts = [why.explanation.text for why in members]
    usual = max(dict.fromkeys(texts), key=texts.count)  # the first one of the most frequent
    first = members[texts.index(usual)]
    explanation = first.explanation
    step = follow(view, explanation.behind) if explanation.behind else Step()
    ages = [why.blocked.seconds for why in members if why.blocked.seconds is not None]
    return BlockedGroup(
        first.cause,
        waits_in(first.blocked.functions),
        tuple(why.blocked.task._replace(seconds=why.blocked.seconds) for why in members),
        _words(texts, usual),
        max(ages) if ages else None,
        _calls(view, members),
        explanation.resource,
        step.links,
        view.advice(_next(explanation, step)),
        explanation.confidence,
        explanation.evidence,
        view.frames(first.blocked),
        at_least=first.blocked.at_least,
        show_frames=stacks or first.cause == "unknown",
    )


def _words(texts: Sequence[str], usual: str) -> str:
    """What the members wait for, where they say it in few ways."""
    others = [text for text in dict.fromkeys(texts) if text != usual]
    if not others or len(others) >= MOST_TEXTS:
        return usual
    told = [f"{text} ({_count(texts.count(text), 'task')})" for text in (usual, *others)]
    return "; ".join(told)


def _next(explanation: Explanation, step: Step) -> str:
    """The advice of the chain's end; the cause's own where that has none."""
    return step.advice or explanation.next


def _calls(view: View, members: Sequence[Why]) -> tuple[str, ...]:
    """The system calls that the tasks are in, each once, with the files that they work on."""
    found: dict[str, None] = {}
    for why in members[: 16 * MOST_CALLS]:
        if why.blocked.syscall is None or not DUMPS.isdisjoint(why.blocked.functions):
            continue
        file = view.file(why.blocked)
        name = syscall_name(why.blocked.syscall.nr)
        if file is not None and file.path is not None:
            name += f" {file.path}" + (f" (fd {file.fd})" if file.fd is not None else "")
        found[name] = None
        if len(found) > MOST_CALLS:
            break
    return tuple(found)


def _without_busy(
    view: View, groups: list[BlockedGroup]
) -> tuple[list[BlockedGroup], list[BlockedGroup]]:
    """(groups, those that wait for a device which is at work): a device that completes requests
    in the meantime is slow, or has much to do, but not stuck."""
    doubtful = {
        id(group): device
        for group in groups
        for device in [_device_at_end(group)]
        if device is not None and (group.longest_seconds or BUSY) < BUSY
    }
    if not doubtful or not view.live:
        return groups, []
    time.sleep(SECOND_LOOK)
    busy = []
    for group in groups:
        device = doubtful.get(id(group))
        now = view.device_now(device) if device is not None else None
        if device is None or now is None or None in (now.completed, device.completed):
            continue
        if now.completed != device.completed:
            busy.append(group)
    return [group for group in groups if group not in busy], busy


def _device_at_end(group: BlockedGroup) -> Device | None:
    """The device whose requests the chain ends with."""
    about = group.behind[-1].about if group.behind else None
    return about if isinstance(about, Device) else None


def _verdict(groups: Sequence[BlockedGroup], limits: Sequence[str]) -> str:
    """FOUND if a group's cause is known; what can't be seen at all is no answer."""
    if any(group.function is not None for group in groups):
        return FOUND
    return INCONCLUSIVE if groups or limits else NOT_FOUND


def _notes(
    view: View,
    young: Sequence[Blocked],
    busy: Sequence[BlockedGroup],
    harmless: Sequence[Why],
    min_age: float,
) -> list[str]:
    notes = []
    if young:
        names: dict[str, int] = {}
        for task in young:
            name = waits_in(task.functions) or "unseen"
            names[name] = names.get(name, 0) + 1
        told = ", ".join(f"{name} {count}" for name, count in list(names.items())[:4])
        notes.append(
            f"{_count(len(young), 'task')} blocked for less than {min_age:g} s, as is normal "
            f"({told}); --min-age 0 shows them"
        )
    for group in busy:
        notes.append(
            f"{_count(len(group.tasks), 'task')} blocked for up to "
            f"{group.longest_seconds or 0:.1f} s by device {group.behind[-1].name}, which "
            "completes requests meanwhile: busy, not stuck"
        )
    for text in dict.fromkeys(why.explanation.text for why in harmless):
        number = sum(1 for why in harmless if why.explanation.text == text)
        notes.append(f"{_count(number, 'task')} not stuck: {text}")
    return notes


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _summarise(report: Report) -> str:
    """One line to find with grep, and to put in a ticket's title."""
    parts = []
    for group in report.groups[:4]:
        age = f" {group.longest_seconds:.0f} s" if group.longest_seconds is not None else ""
        end = group.behind[-1] if group.behind else None
        behind = f", behind {end.kind} {end.name}" if end is not None else ""
        parts.append(f"{group.cause}: {_names(group.tasks)}{age}{behind}")
    if len(report.groups) > 4:
        parts.append(f"and {len(report.groups) - 4} more groups")
    if parts:
        return "; ".join(parts)
    if report.verdict == NOT_FOUND:
        return "no task is stuck in D state"
    return "could not tell whether a task is stuck in D state"


def _names(tasks: Sequence[Task]) -> str:
    named = ",".join(str(task.tid) for task in tasks[:4])
    return named + (f" and {len(tasks) - 4} more" if len(tasks) > 4 else "")
