"""Block I/O: a read, a write or a flush that a device, or what lies below it, has not completed;
and requests that can't even be sent: no tag free, queue frozen."""

from faultkit.causes import Explanation
from faultkit.causes._files import on_block_device
from faultkit.causes.view import Blocked, View

_QUEUE = {
    "queue-frozen": (
        "may not send its request: the device's queue is frozen or quiesced (it is being "
        "reconfigured, reset or removed)",
        "see who froze the queue: tasks in blk_mq_freeze_queue_wait, elevator changes, resets",
        "blk_queue_enter __bio_queue_enter bio_queue_enter ",
    ),
    "queue-freeze": (
        "freezes a device's queue, and waits until the requests that were sent have completed",
        "see why the device does not complete its requests: they hold up the change",
        """blk_mq_freeze_queue_wait blk_mq_freeze_queue_wait_timeout blk_freeze_queue
        blk_mq_quiesce_queue blk_mq_wait_quiesce_done blk_cleanup_queue blk_drain_queue""",
    ),
    "no-request": (
        "waits for a free request: all that the device's queue holds are in flight",
        "see why the device does not complete its requests",
        """blk_mq_get_tag get_request blk_mq_get_request __blk_mq_alloc_requests
        mempool_alloc bio_alloc_rescue bvec_alloc""",
    ),
    "writeback-throttle": (
        "writes faster than the device writes back, and is throttled",
        "see how fast the device writes (iostat -x 1); Dirty and Writeback in /proc/meminfo",
        """balance_dirty_pages balance_dirty_pages_ratelimited_flags rq_qos_wait wbt_wait
        __wbt_wait ioc_rqos_throttle blkcg_maybe_throttle_blkg
        blkcg_maybe_throttle_current """,
    ),
}
_BUFFER = "waits until a buffer has been read or written"
_IO = {
    "waits until pages that are being written have reached the device": """
        folio_wait_writeback folio_wait_writeback_killable wait_on_page_writeback
        __filemap_fdatawait_range filemap_fdatawait_range folio_wait_stable
        wait_for_stable_page wb_wait_for_completion sync_inodes_sb wait_sb_inodes
        inode_wait_for_writeback __inode_wait_for_writeback inode_sleep_on_writeback""",
    "waits until a page has been read": """
        filemap_get_pages filemap_read_folio filemap_update_page generic_file_buffered_read
        generic_file_read_iter do_read_cache_page do_read_cache_folio read_cache_page
        folio_lock_killable __folio_lock_killable wait_on_page_read put_and_wait_on_page_locked
        folio_put_wait_locked filemap_fault do_generic_file_read page_cache_sync_readahead
        squashfs_readpage_block migration_entry_wait_on_locked""",
    "waits for a page of a file, which another task reads or writes": """
        __filemap_get_folio filemap_get_folio pagecache_get_page grab_cache_page_write_begin
        find_lock_entries find_lock_page truncate_inode_pages_range
        invalidate_inode_pages2_range write_cache_pages writeback_iter mpage_prepare_extent_to_map
        folio_lock_or_retry extent_write_cache_pages prepare_one_page prepare_pages
        iomap_get_folio""",
    _BUFFER: """
        __wait_on_buffer wait_on_buffer __lock_buffer lock_buffer __sync_dirty_buffer
        sync_dirty_buffer __bread_gfp bh_uptodate_or_lock write_dirty_buffer
        jbd2_write_superblock xfs_buf_iowait xfs_buf_lock _xfs_buf_read
        read_extent_buffer_pages wait_on_extent_buffer_writeback """,
    "waits for its direct I/O": """
        __iomap_dio_rw iomap_dio_rw __blkdev_direct_IO
        __blkdev_direct_IO_simple blkdev_direct_IO do_blockdev_direct_IO dio_await_one
        dio_await_completion __inode_dio_wait inode_dio_wait btrfs_direct_IO""",
    "waits for an I/O request of its own": """
        submit_bio_wait blk_execute_rq blk_rq_poll_completion
        blkdev_issue_discard blkdev_issue_zeroout scsi_execute_cmd __scsi_execute scsi_execute
        """,
    "waits until the device has flushed its cache": "blkdev_issue_flush blkdev_fsync",
}
# Call __wait_on_buffer(), which ends in a jump into the scheduler's code and leaves no frame
# (fs/buffer.c, fs/ext4/): in /proc/PID/stack these are innermost.
_OF_BUFFERS = """
    __bread_slow __bh_read __block_write_begin_int __block_write_begin block_truncate_page
    fsync_buffers_list ext4_block_write_begin ext4_block_zero_page_range
    __ext4_block_zero_page_range ext4_read_bh ext4_read_bh_lock ext4_bread ext4_bread_batch
    __ext4_find_entry ext4_wait_block_bitmap ext4_read_inode_bitmap __ext4_get_inode_loc""".split()
_WORDS = {name: words for words, names in _IO.items() for name in names.split()}
_QUEUES = {name: cause for cause, row in _QUEUE.items() for name in row[2].split()}

CAUSE = "block-io"
FUNCTIONS = frozenset(_WORDS) | frozenset(_QUEUES)
CALLERS = frozenset(_OF_BUFFERS)
PRIORITY = 50


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for a device: which one, what it has in flight, and what lies below it."""
    name = next(name for name in blocked.functions if name in FUNCTIONS or name in CALLERS)
    if name in _QUEUES:
        cause = _QUEUES[name]
        words, advice, _ = _QUEUE[cause]
        return on_block_device(blocked, view, words, advice=advice, cause=cause)
    return on_block_device(
        blocked,
        view,
        _WORDS.get(name, _BUFFER),
        advice="see which device: iostat -x 1, /sys/block/*/inflight, dmesg",
    )
