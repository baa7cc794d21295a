"""Swap-in: memory of the task itself has to be read back from a swap device."""

from faultkit.causes import Explanation
from faultkit.causes.chain import device_link
from faultkit.causes.view import Blocked, View

CAUSE = "swap"
FUNCTIONS = frozenset(
    """
    swap_read_folio swap_readpage swap_read_page swapin_readahead swap_cluster_readahead
    read_swap_cache_async do_swap_page shmem_swapin_folio shmem_swapin_page try_to_unuse
    unuse_mm
    """.split()
)
PRIORITY = 40


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for a page from swap; on which devices that may be, and what they have in flight."""
    links = [device_link(device) for device in view.swap_devices()]
    busy = [link for link in links if any(link.about.in_flight or ())]
    return Explanation(
        "waits until a page of its memory has been read back from swap",
        behind=tuple((busy or links)[:1]),
        next="see how much is swapped (free, vmstat 1: si, so) and how fast the swap device is",
    )
