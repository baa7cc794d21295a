"""Waits for one bit of a word: the entry on the stack, and its wait queue."""

from collections.abc import Iterator

from faultkit.kernel.objects import need
from faultkit.kernel.sleeper import Sleeper
from faultkit.target import FaultkitError


def entries(sleeper: Sleeper, type_name: str, member: str, wakes: str) -> Iterator[int]:
    """The structs of this type on the sleeper's stack whose struct wait_queue_entry `member`
    names the task and that wake function, and is in a queue.

    Many words share one queue (kernel/sched/wait_bit.c, mm/filemap.c): it does not tell what is
    waited for, the struct does.  Raises UnknownLayout.
    """
    kernel = sleeper.kernel
    function = kernel.symbol(wakes)
    entry = need(kernel, type_name, member)
    private = entry + need(kernel, "wait_queue_entry", "private")
    func = entry + need(kernel, "wait_queue_entry", "func")
    node = entry + need(kernel, "wait_queue_entry", "entry")
    for at in sleeper.on_stack(sleeper.task.address or 0):
        struct = at - private
        try:
            following, previous = kernel.words(struct + node, 2)
            if (
                function
                and kernel.u64(struct + func) == function
                and following != struct + node
                and kernel.u64(following + 8) == struct + node
                and kernel.u64(previous) == struct + node
            ):
                yield struct
        except FaultkitError:
            continue
