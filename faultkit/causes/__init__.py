"""The knowledge why a task is blocked: one module per cause that reads objects or needs words of
its own, and the table (table.py) of those that are function names, words, and what to check.

A module has
- CAUSE: what reports call it;
- FUNCTIONS: kernel functions that show it when they are on the stack, without clone suffixes;
- CALLERS: functions that show it only where nothing but the scheduler, completions and bit waits
  lies between them and the sleep: they call many other things that sleep;
- PRIORITY: of two that claim the same frame the lower one is asked first; from GENERIC on, a
  cause is taken only if no specific one claims any frame near the top;
- STATES: the states in which it is looked for, "D" if it has none;
- explain(blocked, view): the Explanation, or None if it is not that after all.

A new file here is all that a new cause needs; a name that begins with `_` is a helper.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from importlib import import_module

from faultkit.causes.view import Blocked, View
from faultkit.model import PROVEN, Behind, Resource
from faultkit.places import is_lock_function
from faultkit.record import NamedTuple, Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


GENERIC = 100
NEAR = 14  # frames from the top in which a cause is looked for
_HELPERS = ("view", "chain", "context", "recorded", "table")
_WAITING = frozenset(
    """
    bit_wait bit_wait_io bit_wait_timeout bit_wait_io_timeout __wait_on_bit __wait_on_bit_lock
    out_of_line_wait_on_bit out_of_line_wait_on_bit_lock out_of_line_wait_on_bit_timeout
    wait_on_bit wait_on_bit_io do_wait_intr do_wait_intr_irq wait_woken prepare_to_wait_event
    usleep_range usleep_range_state msleep msleep_interruptible call_rwsem_down_read_failed
    call_rwsem_down_write_failed call_rwsem_down_write_failed_killable rt_mutex_slowlock_block
    """.split()
)


class Explanation(NamedTuple):
    """Why a task is blocked, in words.

    `key` by which equal causes merge; `behind` who has to act, nearest first: the chain is
    followed on from the last one; `next` is what to look at, where the chain has no better
    answer; `cause` a more exact one; `harmless` if it is not hung at all, `lasts` if it is certain
    that it does not end by itself.
    """

    text: str
    key: tuple[Any, ...] = ()
    resource: Resource = Resource()
    behind: tuple[Behind, ...] = ()
    next: str = ""
    evidence: tuple[str, ...] = ()
    confidence: str = PROVEN
    cause: str | None = None
    harmless: bool = False
    lasts: bool = False


class Cause(Protocol):
    """The shape of a module, or of a row of the table."""

    CAUSE: str
    FUNCTIONS: frozenset[str]
    CALLERS: frozenset[str]
    PRIORITY: int
    STATES: str

    def explain(self, blocked: Blocked, view: View) -> Explanation | None:
        """Why; None if it is not that."""


def is_sleep(function: str) -> bool:
    """Whether the function is the machinery of sleeping and locking, not a reason for it."""
    return function in _WAITING or is_lock_function(function)


def waits_in(functions: tuple[str, ...]) -> str | None:
    """The innermost function that is a reason to sleep."""
    return next((name for name in functions if not is_sleep(name)), None)


def candidates(blocked: Blocked) -> Iterator[Cause]:
    """The causes that the stack shows, the most likely first."""
    found: list[tuple[bool, int, int, int, Cause]] = []
    by_function, by_caller = _index()
    direct = True
    for depth, name in enumerate(blocked.functions[:NEAR]):
        claims = by_function.get(name, ())
        if direct:
            claims = (*claims, *by_caller.get(name, ()))
        for order, cause in enumerate(claims):
            if blocked.task.state is None or blocked.task.state in _states(cause):
                generic = cause.PRIORITY >= GENERIC
                found.append((generic, depth, cause.PRIORITY, order, cause))
        direct = direct and is_sleep(name)
    found.sort(key=lambda claim: claim[:4])
    return (claim[-1] for claim in found)


def explain(blocked: Blocked, view: View) -> tuple[str, Explanation]:
    """(cause, Explanation) by the first cause that knows; "unknown", with the functions, if none
    does."""
    from faultkit.causes.context import in_context

    if blocked.task.state in ("T", "t"):
        from faultkit.causes import stopped

        return stopped.CAUSE, stopped.explain(blocked, view)
    for cause in candidates(blocked):
        found = cause.explain(blocked, view)
        if found is not None:
            found = _recorded(found, blocked, view)
            return found.cause or cause.CAUSE, in_context(found, blocked)
    name, explanation = _unknown(blocked, view)
    explanation = _recorded(explanation, blocked, view)
    return explanation.cause or name, in_context(explanation, blocked)


def _recorded(found: Explanation, blocked: Blocked, view: View) -> Explanation:
    """With those who have to act by the kernel's own structures, where the cause names nobody."""
    from faultkit.causes.recorded import FAULTS, needs_others, with_wait

    if found.behind or found.harmless or found.cause in FAULTS:
        return found
    wait = view.wait(blocked)
    return with_wait(found, view, wait) if wait is not None and needs_others(wait) else found


@cache
def interruptible_functions() -> frozenset[str]:
    """Functions in which a task that sleeps interruptibly is as good as hung."""
    return frozenset(
        name
        for cause in all_causes()
        if "S" in _states(cause)
        for name in (*cause.FUNCTIONS, *_callers(cause))
    )


def _unknown(blocked: Blocked, view: View) -> tuple[str, Explanation]:
    """Where nothing is known of the function: frozen where it slept, or the functions."""
    from faultkit.causes import freezer

    frozen = freezer.frozen_by(blocked.task, view, ("freezer",)) if blocked.functions else None
    if frozen is not None:
        return freezer.CAUSE, frozen
    return "unknown", _functions_only(blocked, view)


def _functions_only(blocked: Blocked, view: View) -> Explanation:
    from faultkit.causes._files import on_its_file

    function = waits_in(blocked.functions)
    if function is None:
        return Explanation("what it waits for can't be seen", key=("unseen",))
    steps = [name for name in blocked.functions if not is_sleep(name)][:4]
    wait = view.wait(blocked)
    if wait is not None and wait.lock.kind == "completion":
        name = view.name_of(wait.lock) or f"at {wait.lock.address or 0:#x}"
        return Explanation(
            f"waits for the completion {name}, in {' <- '.join(steps)}",
            (wait.lock.identity,),
            next="" if wait.holders else f"see who completes what {function}() waits for",
            cause="completion",
        )
    text = f"waits in {' <- '.join(steps)}, of which no more is known here"
    advice = f"look {function}() up in the kernel's source: what wakes it"
    if blocked.task.state == "S":  # for a device one waits in D: what its file lies on has no part
        return Explanation(text, tuple(steps), next=advice)
    return on_its_file(blocked, view, text, tuple(steps), advice)


@cache
def all_causes() -> tuple[Cause, ...]:
    """Every module here and every row of the table, in the order of their priority."""
    from faultkit.causes.table import ROWS

    names = [os.path.splitext(file) for file in sorted(os.listdir(__path__[0]))]
    modules: list[Any] = [
        import_module(f"{__name__}.{name}")
        for name, ending in names
        if ending == ".py" and not name.startswith("_") and name not in _HELPERS
    ]
    return tuple(sorted([*modules, *ROWS], key=lambda cause: int(cause.PRIORITY)))


@cache
def _index() -> tuple[dict[str, tuple[Cause, ...]], dict[str, tuple[Cause, ...]]]:
    by_function: dict[str, tuple[Cause, ...]] = {}
    by_caller: dict[str, tuple[Cause, ...]] = {}
    for cause in all_causes():
        for name in cause.FUNCTIONS:
            by_function[name] = (*by_function.get(name, ()), cause)
        for name in _callers(cause):
            by_caller[name] = (*by_caller.get(name, ()), cause)
    return by_function, by_caller


def _callers(cause: Cause) -> frozenset[str]:
    return getattr(cause, "CALLERS", frozenset())


def _states(cause: Cause) -> str:
    return getattr(cause, "STATES", "D")
