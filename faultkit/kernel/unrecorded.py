"""Locks that record no holder: who has them, told from the tasks' stacks and code.  Every lock is
looked into once."""

from faultkit.findings import UNNAMED
from faultkit.kernel.details import name_address
from faultkit.kernel.functions import FAMILIES
from faultkit.kernel.snapshot import KernelSnapshot
from faultkit.model import EVENT, HELD, Wait

SPINNING = frozenset(("spinlock", "rwlock_t"))  # kinds that a task may not sleep with
MOST_LOCKS = 64  # that are looked into


def fill_holders(snapshot: KernelSnapshot) -> None:
    """Look for the holders that locks do not record, and for who would complete a completion."""
    groups: dict[tuple[object, ...], list[Wait]] = {}
    for wait in snapshot.waits.values():
        if _is_open(wait):
            groups.setdefault((*wait.lock.identity, wait.mode), []).append(wait)
    if not groups:
        return
    from faultkit.kernel.search import Search  # what reads code takes long to import

    search = Search(snapshot)
    sought = sorted(groups.values(), key=len, reverse=True)  # what most wait for comes first
    for number, group in enumerate(sought):
        if number >= MOST_LOCKS:
            snapshot.system.limit(
                f"the holders of {len(groups) - MOST_LOCKS} more locks were not looked for"
            )
            return
        first = group[0]
        resolved = search.resolve(first, {wait.task for wait in group})
        signs = resolved.evidence[len(first.evidence) :]
        for wait in group:
            snapshot.waits[wait.task] = wait.but(
                holders=resolved.holders,
                needs=resolved.needs,
                any_of=resolved.any_of,
                others=resolved.others,
                suspects=resolved.suspects,
                confidence=resolved.confidence if resolved.holders else wait.confidence,
                evidence=wait.evidence + signs,
                missing=resolved.missing,
            )
        if resolved.holders and first.lock.kind in SPINNING:
            _tell_of_owners(snapshot, resolved, len(group))
    if search.code.exhausted:
        snapshot.system.limit(
            "the code of the tasks that may hold locks was too much to be read to its end"
        )


def _tell_of_owners(snapshot: KernelSnapshot, wait: Wait, waiters: int) -> None:
    """What those do who hold a lock that CPUs spin for: sleeping is wrong in itself; running may
    be all right."""
    system = snapshot.system
    address = wait.lock.address or 0
    name = name_address(system, address)
    if name is None or name.endswith(UNNAMED):
        name = hex(address)
    spinners = "1 CPU spins" if waiters == 1 else f"{waiters} CPUs spin"
    for holder in wait.holders[:4]:
        of = snapshot.waits.get(holder)
        if of is not None and holder in snapshot.sleepers:
            text = f"by its code it sleeps with {wait.lock.kind} {name} held, which is forbidden"
            snapshot.waits[holder] = of.but(evidence=(*of.evidence, text))
            if of.timed:  # then no finding has it
                system.note(
                    f"{spinners} for {wait.lock.kind} {name}; task {holder.tid} holds it by its "
                    "code, and sleeps for a time with it, which is forbidden"
                )
        elif of is None:
            system.note(
                f"{spinners} for {wait.lock.kind} {name}, which task {holder.tid} on CPU "
                f"{holder.cpu} holds, and runs: if it does not get on, its stack tells why"
            )


def _is_open(wait: Wait) -> bool:
    """Whether nobody is known who would end a wait for a lock that is of a known family."""
    return (
        wait.lock.kind in FAMILIES
        and wait.lock.address is not None
        and wait.needs in (HELD, EVENT)
        and not wait.holders
        and not wait.fault
        and not wait.changing
    )
