"""Pages of the page cache (mm/filemap.c): waits until one is unlocked, or written back."""

from __future__ import annotations

from faultkit.kernel.objects import first_offset, need, pointer, text, unsigned
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.kernel.waits._bit_wait import entries
from faultkit.model import EVENT, Lock, Wait
from faultkit.target import FaultkitError

FUNCTIONS = frozenset(
    (
        "folio_wait_bit_common",
        "folio_wait_bit",
        "folio_wait_bit_killable",
        "__folio_lock",
        "__folio_lock_killable",
        "__folio_lock_or_retry",
        "wait_on_page_bit_common",
        "wait_on_page_bit",
        "wait_on_page_bit_killable",
        "__lock_page",
        "__lock_page_killable",
        "__lock_page_or_retry",
    )
)
PRIORITY = 16


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait for a folio's (before 5.16, a page's) flag, which is set."""
    kernel = sleeper.kernel
    for struct in entries(sleeper, "wait_page_queue", "wait", "wake_page_function"):
        page_at = first_offset(kernel, ("wait_page_queue", "folio"), ("wait_page_queue", "page"))
        folio = kernel.u64(struct + (page_at or 0))
        bit = unsigned(kernel, struct, "wait_page_queue", "bit_nr")
        flags = kernel.u64(folio)  # the first member of struct folio and of struct page
        if bit < 64 and flags >> bit & 1:
            return _wait_for(sleeper, folio, bit, flags)
    return None


def _wait_for(sleeper: Sleeper, folio: int, bit: int, flags: int) -> Wait:
    system = sleeper.system
    name = _name(system, folio)
    key = ("kernel", folio, bit)
    if bit != _bit(system, "PG_locked"):
        what = "writeback" if bit == _bit(system, "PG_writeback") else "folio"
        return Wait(
            sleeper.task,
            Lock(what, folio, name, key),
            needs=EVENT,
            evidence=(f"bit {bit} of its flags {flags:#x} is set",),
        )
    up_to_date = _bit(system, "PG_uptodate")
    read = (
        up_to_date is not None
        and not flags >> up_to_date & 1
        and (name is not None or _is_swapped(system, folio, flags))
    )
    return Wait(
        sleeper.task,
        Lock("folio", folio, name, key),
        needs=EVENT,
        evidence=(
            f"its flags {flags:#x}: it is locked"
            + (", and not up to date: it is being read from its device" if read else ""),
        ),
        missing=None
        if read
        else "who has locked a folio is not recorded: look for a task that has it locked",
    )


def _bit(system: System, flag: str) -> int | None:
    return system.kernel.enumerator(flag)


def _is_swapped(system: System, folio: int, flags: int) -> bool:
    """Whether it is a program's anonymous memory that is being read from swap."""
    swap = _bit(system, "PG_swapcache")
    mapping = first_offset(system.kernel, ("folio", "mapping"), ("page", "mapping"))
    if swap is not None and flags >> swap & 1:
        return True
    return mapping is not None and bool(system.kernel.u64(folio + mapping) & 1)


def _name(system: System, folio: int) -> str | None:
    """ "page 12 of inode 131 on sda1"; None if it belongs to no file."""
    kernel = system.kernel
    try:
        mapping_at = first_offset(kernel, ("folio", "mapping"), ("page", "mapping"))
        index_at = first_offset(kernel, ("folio", "index"), ("page", "index"))
        mapping = kernel.u64(folio + (mapping_at or 0))
        if not mapping or mapping & 3 or index_at is None:
            return None  # anonymous memory, or none
        inode = pointer(kernel, mapping, "address_space", "host")
        block = pointer(kernel, inode, "inode", "i_sb")
        number = pointer(kernel, inode, "inode", "i_ino")
        device = text(kernel, block + need(kernel, "super_block", "s_id"), 32)
        return f"page {kernel.u64(folio + index_at)} of inode {number} on {device}"
    except FaultkitError:
        return None
