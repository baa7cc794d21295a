"""FUSE: a request was sent to the process that serves the file system, and no answer came.

fs/fuse/dev.c, request_wait_answer(): interruptible at first (S), killable once a signal came, and
uninterruptible once the server has read the request: then not even SIGKILL ends the wait."""

from faultkit.causes import Explanation
from faultkit.causes._files import of_type, on_file_system
from faultkit.causes.view import Blocked, View

CAUSE = "fuse"
FUNCTIONS = frozenset(
    """
    request_wait_answer __fuse_request_send fuse_request_send __fuse_simple_request
    fuse_get_req __fuse_get_req fuse_wait_on_page_writeback fuse_wait_on_folio_writeback
    fuse_set_nowrite fuse_sync_writes fuse_wait_aborted fuse_uring_wait_stopped_queues
    """.split()
)
PRIORITY = 10
STATES = "DS"

_FULL = frozenset(("fuse_get_req", "__fuse_get_req"))


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for the server of a FUSE mount; its connection, and who serves it."""
    text = "waits for the answer of a FUSE file system's server"
    if _FULL.intersection(blocked.functions[:3]):
        text = (
            "may not send its request to a FUSE file system yet: too many have no answer, or "
            "its server has not even answered the first one (INIT)"
        )
    return on_file_system(
        blocked,
        view,
        text,
        fits=of_type("fuse", "fuseblk", "virtiofs"),
        advice="find the FUSE server: the process that has /dev/fuse open; or abort the "
        "connection: echo 1 > /sys/fs/fuse/connections/N/abort",
    )
