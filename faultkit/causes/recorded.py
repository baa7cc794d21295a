"""What the kernel's own structures record of a wait (View.wait), added to a cause's explanation:
who has to act, or that nobody ever will."""

from __future__ import annotations

from faultkit.causes.chain import task_link
from faultkit.causes.view import View
from faultkit.model import EVENT, INFERRED, Behind, Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.causes import Explanation

# What a broken lock is called, and what to do about it.
FAULTS = {
    "corrupt-lock": (
        "the lock's own words are impossible: it was overwritten, or freed",
        "find who overwrote it: see what lies around it (crash: rd -S, kmem), a use after free, a "
        "module of your own; KASAN finds it next time",
    ),
    "orphaned-lock": (
        "its owner has ended without letting go of it",
        "see which code takes this lock, and returns, or ends its thread, with it held",
    ),
    "lost-wakeup": (
        "nobody holds it, and nobody is about to wake its waiters",
        "a wake-up was lost: see the code that lets go of it, and memory ordering",
    ),
}
MOST = 4  # holders named in evidence


def with_wait(found: Explanation, view: View, wait: Wait) -> Explanation:
    """The explanation with those who have to act, by the wait graph; the chain goes on with the
    first one that is blocked itself."""
    if wait.fault in FAULTS:
        words, advice = FAULTS[wait.fault]
        detail = f" ({wait.fault_detail})" if wait.fault_detail else ""
        return found._replace(
            text=f"{found.text}; {words}{detail}",
            key=(*found.key, wait.fault),
            cause=wait.fault,
            lasts=True,
            behind=(),
            next=advice,
            evidence=wait.evidence[:MOST],
            confidence=wait.confidence,
        )
    links = [task_link(view, holder) for holder in wait.holders[:MOST]]
    links.sort(key=_weight)
    if not links:
        return found
    sure = INFERRED not in (wait.confidence, found.confidence)
    return found._replace(
        behind=(_also(links[0], len(wait.holders)),),
        evidence=tuple(dict.fromkeys((*found.evidence, *wait.evidence)))[:MOST],
        confidence=found.confidence if sure else INFERRED,
    )


def _weight(link: Behind) -> int:
    """Blocked ones first: they explain why nothing goes on."""
    state = link.about.task.state if link.about is not None else None
    return {"D": 0, "T": 1, "t": 1, "S": 2}.get(state or "", 3)


def _also(link: Behind, count: int) -> Behind:
    if count < 2:
        return link
    return link._replace(detail=f"{link.detail}; one of {count} that have to act")


def needs_others(wait: Wait) -> bool:
    """Whether the wait ends by what another task does."""
    return bool(wait.holders or wait.fault) and wait.needs in (EVENT, "held")
