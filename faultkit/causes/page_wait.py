"""A page or folio that is locked or being written, where nothing nearer says for what."""

from faultkit.causes import GENERIC, Explanation
from faultkit.causes._files import on_block_device
from faultkit.causes.view import Blocked, View

CAUSE = "page-lock"
FUNCTIONS = frozenset(
    """
    folio_wait_bit folio_wait_bit_common folio_wait_bit_killable __folio_lock folio_lock
    __lock_page lock_page __lock_page_killable __lock_page_or_retry __folio_lock_or_retry
    wait_on_page_bit wait_on_page_bit_common __wait_on_page_bit wait_on_page_bit_killable
    softleaf_entry_wait_on_locked
    """.split()
)
PRIORITY = GENERIC
_IO = frozenset(("io_schedule", "io_schedule_timeout"))


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for a page of a file that another task has locked: mostly for I/O into it."""
    return on_block_device(
        blocked,
        view,
        "waits for a page (folio) of a file: it is being read or written, or another task has it "
        "locked",
        advice="see the file's device (iostat -x 1), and which other tasks work on that file",
    )
