"""Other file systems whose server is elsewhere: SMB, Ceph, 9P, AFS."""

from faultkit.causes import Explanation
from faultkit.causes._files import of_type, on_file_system
from faultkit.causes.view import Blocked, View

_KINDS = {
    "cifs": (
        ("cifs", "smb3", "smb"),
        "an SMB server",
        "cat /proc/fs/cifs/DebugData",
        """
        wait_for_response wait_for_free_credits wait_for_free_request wait_for_compound_request
        compound_send_recv cifs_send_recv SendReceive SendReceive2 SendReceiveBlockingLock
        cifs_wait_for_server_reconnect smb2_reconnect cifs_reconnect_tcon
        """,
    ),
    "ceph": (
        ("ceph",),
        "a Ceph cluster",
        "cat /sys/kernel/debug/ceph/*/{mdsc,osdc}; ceph -s",
        """
        ceph_mdsc_do_request ceph_mdsc_wait_request ceph_osdc_wait_request wait_request_timeout
        ceph_get_caps __ceph_get_caps ceph_osdc_sync rbd_img_handle_request
        wait_caps_flush flush_mdlog_and_wait_mdsc_unsafe_requests
        """,
    ),
    "9p": (
        ("9p",),
        "a 9P server (often the host of this virtual machine)",
        "see whether the server, or the host's hypervisor process, is alive",
        "p9_client_rpc p9_virtio_request p9_virtio_zc_request p9_client_zc_rpc p9_fd_request",
    ),
    "afs": (
        ("afs",),
        "an AFS server",
        "cat /proc/fs/afs/servers",
        "afs_wait_for_call_to_complete afs_wait_for_operation afs_begin_vnode_operation",
    ),
    "gfs2": (
        ("gfs2", "ocfs2"),
        "a lock of the cluster file system that another node holds",
        "cat /sys/kernel/debug/gfs2/*/glocks; dlm_tool ls",
        """
        gfs2_glock_wait gfs2_glock_nq dlm_posix_lock
        ocfs2_wait_for_mask __ocfs2_cluster_lock ocfs2_wait_for_recovery gfs2_log_reserve
        gdlm_lock dlm_lock_sync
        """,
    ),
}
_BY_FUNCTION = {
    name: cause for cause, (*_, functions) in _KINDS.items() for name in functions.split()
}

CAUSE = "network-fs"
FUNCTIONS = frozenset(_BY_FUNCTION)
PRIORITY = 10


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for the file system's server."""
    cause = next(_BY_FUNCTION[name] for name in blocked.functions if name in _BY_FUNCTION)
    types, who, advice, _ = _KINDS[cause]
    return on_file_system(
        blocked, view, f"waits for {who}", fits=of_type(*types), advice=advice, cause=cause
    )
