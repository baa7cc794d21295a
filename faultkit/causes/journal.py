"""Journals and transactions: the task waits for a commit, or for room in the log; who commits is
a kernel thread of the file system."""

from __future__ import annotations

from faultkit.causes import Explanation
from faultkit.causes._files import mount_for, of_type
from faultkit.causes.chain import mount_link, resource_of, task_link
from faultkit.causes.view import Blocked, Mount, View
from faultkit.model import INFERRED, PROVEN, Behind
from faultkit.record import NamedTuple


class _Kind(NamedTuple):
    types: tuple[str, ...]
    thread: str  # the name of the kernel thread; {} is the device
    functions: str


_KINDS = {
    "jbd2": _Kind(
        ("ext4", "ext3", "ocfs2"),
        "jbd2/{}-",
        """
        jbd2_log_wait_commit wait_transaction_locked wait_transaction_switching
        add_transaction_credits start_this_handle jbd2_journal_commit_transaction
        jbd2_journal_lock_updates jbd2_journal_stop do_get_write_access jbd2_journal_flush
        jbd2_complete_transaction jbd2_log_do_checkpoint __jbd2_log_wait_for_space
        jbd2_journal_destroy jbd2_journal_wait_updates
        ext4_force_commit jbd2_fc_begin_commit ext4_fc_commit
        """,
    ),
    "xfs": _Kind(
        ("xfs",),
        "xfsaild/{}",
        """
        xlog_wait xlog_wait_on_iclog xlog_grant_head_wait xlog_grant_head_check xfs_log_force
        xfs_log_force_seq xfs_log_force_lsn xlog_cil_push_work xlog_cil_force_seq
        xlog_state_get_iclog_space xfs_ail_push_all_sync xfs_log_quiesce xlog_wait_iclog_completion
        xfs_wait_buftarg xfs_buftarg_drain xlog_cil_order_write xfs_log_reserve xfs_ilock_demote
        xfs_inode_item_push xfs_iunpin_wait __xfs_iunpin_wait xfs_buf_wait_unpin
        xlog_force_and_check_iclog xlog_state_release_iclog xfs_inodegc_flush
        """,
    ),
    "btrfs": _Kind(
        ("btrfs",),
        "btrfs-transacti",
        """
        wait_current_trans wait_for_commit btrfs_commit_transaction
        btrfs_wait_for_commit btrfs_wait_ordered_range btrfs_wait_ordered_extents
        btrfs_start_ordered_extent btrfs_start_ordered_extent_nowriteback wait_reserve_ticket
        handle_reserve_ticket __reserve_bytes btrfs_wait_block_group_cache_progress
        btrfs_tree_lock btrfs_tree_read_lock btrfs_tree_lock_nested __btrfs_tree_lock
        btrfs_tree_read_lock_nested __btrfs_tree_read_lock btrfs_lock_root_node
        wait_extent_bit lock_extent_bits lock_extent btrfs_lock_extent
        btrfs_lock_and_flush_ordered_range
        btrfs_scrub_pause btrfs_async_run_delayed_root btrfs_wait_on_delayed_iputs
        btrfs_sync_log btrfs_pause_balance wait_log_commit wait_for_writer
        """,
    ),
    "zfs": _Kind(
        ("zfs",),
        "txg_sync",
        """
        txg_wait_synced txg_wait_synced_impl txg_wait_open zil_commit zil_commit_impl
        zio_wait dmu_tx_wait dmu_tx_assign dbuf_read dmu_buf_hold_array_by_dnode cv_wait_common
        __cv_wait __cv_wait_io spa_config_enter
        """,
    ),
    "f2fs": _Kind(
        ("f2fs",),
        "f2fs_ckpt-{}",
        "f2fs_issue_checkpoint f2fs_wait_on_page_writeback f2fs_wait_on_all_pages",
    ),
}
_BY_FUNCTION = {name: cause for cause, kind in _KINDS.items() for name in kind.functions.split()}
_WORDS = (
    (("space", "reserve", "ticket", "grant", "credits"), "waits for room in the {} log"),
    (("tree_lock", "read_lock", "root_node"), "waits for a lock of a {} tree node"),
    (("extent",), "waits for {} to finish I/O on a range of the file"),
    (
        ("locked", "current_trans", "start_this_handle"),
        "waits until {} lets a new transaction begin",
    ),
)

CAUSE = "journal"
FUNCTIONS = frozenset(_BY_FUNCTION)
PRIORITY = 30


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for a commit: of which file system, by which kernel thread, and what that is at."""
    name = next(name for name in blocked.functions if name in _BY_FUNCTION)
    cause = _BY_FUNCTION[name]
    kind = _KINDS[cause]
    words = next((words for parts, words in _WORDS if any(part in name for part in parts)), None)
    text = (words or "waits for a {} commit").format(cause)
    mount, certain = mount_for(blocked, view, of_type(*kind.types))
    resource = resource_of(view, blocked)
    if mount is None:
        return Explanation(
            text,
            (cause,),
            resource,
            next=f"see what the file system's own thread ({kind.thread.format('DEVICE')}) "
            "waits for",
            cause=cause,
        )
    links = [*_thread(blocked, view, kind, mount), mount_link(mount)]
    if len(links) == 2 and links[0].about is not None and links[0].about.task.state == "D":
        links.pop()  # it is blocked itself: the chain goes on with its wait
    return Explanation(
        text,
        (cause, mount.device),
        resource,
        tuple(links),
        "",
        () if certain else (f"{mount.point} is the only mounted {mount.type}",),
        PROVEN if certain else INFERRED,
        cause,
    )


def _thread(blocked: Blocked, view: View, kind: _Kind, mount: Mount) -> list[Behind]:
    """The kernel thread that commits, if it can be named and is not the task itself."""
    device = mount.source.rpartition("/")[2]
    name = kind.thread.format(device)[:15]  # TASK_COMM_LEN
    if mount.type in ("zfs", "btrfs") and len({m.device for m in _alike(blocked, view, mount)}) > 1:
        return []  # its name does not tell whose it is
    threads = [task for task in view.named(name) if task != blocked.task]
    return [task_link(view, task) for task in threads[:1]]


def _alike(blocked: Blocked, view: View, mount: Mount) -> list[Mount]:
    return [other for other in view.mounts(blocked.task.tid) if other.type == mount.type]
