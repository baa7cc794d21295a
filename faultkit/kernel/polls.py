"""What poll() and select() wait for (fs/select.c): the entries of the struct poll_wqueues on the
task's stack, one for each wait queue that it is on."""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.kernel.objects import is_kernel_pointer, need
from faultkit.kernel.sleeper import Sleeper
from faultkit.target import FaultkitError, ReadError

MOST_INLINE = 64  # N_INLINE_POLL_ENTRIES is about 9
MOST_PAGES = 4096
PAGE = 4096
ALL_EVENTS = 0xFFFF_FFFF  # include/linux/poll.h, init_poll_funcptr()


def polled_files(sleeper: Sleeper) -> dict[int, int] | None:
    """The events by the struct file; None if the task is in no such call.

    Entries point back to the struct, which proves it; one without any is taken for a poll of
    nothing if there is no other.
    """
    kernel = sleeper.kernel
    layout = sleeper.system.layout(
        "poll_wqueues", "pt._qproc", "pt._key", "table", "triggered", "error", "inline_index"
    )
    proof_at = need(kernel, "poll_wqueues", "pt._qproc")
    # it is NULL once the first round is over; before, the task would not sleep
    proofs = [word.to_bytes(8, "little") for word in (0, kernel.symbol("__pollwait") or 0)]
    window = sleeper.window
    nothing: dict[int, int] | None = None
    for queues in sleeper.waiter_structs("poll_wqueues", "polling_task"):
        # the task's address lies in a dozen places: this tells most of them apart
        at = queues + proof_at - sleeper.sp
        if at < 0 or window[at : at + 8] not in proofs:
            continue
        try:
            proof, asked, table, triggered, error, count = layout.read(queues, sleeper.peek)
            if count > MOST_INLINE:
                continue
            if not count and not table:
                # as poll_initwait() left it: no file was asked for anything
                if (proof, asked, triggered, error) == (0, ALL_EVENTS, 0, 0):
                    nothing = {}
                continue
            found = _files(sleeper, queues, count, table)
        except FaultkitError:
            continue
        if found:
            return found
    return nothing


def _files(sleeper: Sleeper, queues: int, count: int, table: int) -> dict[int, int] | None:
    kernel = sleeper.kernel
    system = sleeper.system
    if table and not is_kernel_pointer(table):
        return None
    entry = system.layout("poll_table_entry", "filp", "key", "wait.private")
    size = kernel.size("poll_table_entry") or 64
    found: dict[int, int] = {}
    first = queues + need(kernel, "poll_wqueues", "inline_entries")
    places = [first + size * index for index in range(count)]
    places += _in_pages(sleeper, table, size)
    for place in places:
        file, events, owner = entry.read(place, sleeper.peek)
        if not is_kernel_pointer(file) or owner != queues:
            return None
        found[file] = found.get(file, 0) | events
    return found


def _in_pages(sleeper: Sleeper, page: int, size: int) -> Iterator[int]:
    """The entries that did not fit in; each page says where its next one would be."""
    layout = sleeper.system.layout("poll_table_page", "next", "entry")
    first = need(sleeper.kernel, "poll_table_page", "entries")
    for _ in range(MOST_PAGES):
        if not page:
            return
        following, end = layout.read(page)
        if not page < end <= page + PAGE:
            raise ReadError(page, PAGE)
        yield from range(page + first, end, size)
        page = following
