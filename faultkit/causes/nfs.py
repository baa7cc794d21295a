"""NFS and other users of sunrpc: a call was sent to a server, and no reply came."""

from faultkit.causes import Explanation
from faultkit.causes._files import of_type, on_file_system
from faultkit.causes.view import Blocked, View

CAUSE = "nfs"
FUNCTIONS = frozenset(
    """
    rpc_wait_bit_killable __rpc_wait_for_completion_task rpc_wait_for_completion_task
    rpc_shutdown_client nfs_wait_bit_killable nfs_wait_on_request
    nfs_wait_atomic_killable nfs_wait_client_init_complete
    nfs_iocounter_wait nfs_clear_invalid_mapping nfs_file_block_o_direct
    nfs4_wait_clnt_recover nfs4_client_recover_expired_lease
    nfs_wait_on_sequence
    nfs4_drain_slot_tbl pnfs_wait_on_layoutreturn nfs_lock_and_join_requests nfs_page_group_lock
    wait_on_commit nfs4_delay nfs4_delay_killable
    nfs4_delay_interruptible nlmclnt_block nfs_direct_wait
    """.split()
)
PRIORITY = 10


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for an RPC server; which one, and what is known of the connection."""
    recovery = any("recover" in name or "clnt" in name for name in blocked.functions[:4])
    text = "waits for the reply of an NFS server"
    if recovery:
        text = "waits until the NFS client has recovered its state with the server"
    return on_file_system(
        blocked,
        view,
        text,
        fits=of_type("nfs", "nfs4"),
        advice="see which NFS server does not reply: dmesg | grep 'not responding', "
        "nfsstat -c, cat /sys/kernel/debug/sunrpc/rpc_clnt/*/tasks",
    )
