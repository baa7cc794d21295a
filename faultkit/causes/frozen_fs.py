"""A frozen file system: fsfreeze, a snapshot, or a backup has stopped all writers.

fs/super.c: __sb_start_write(), since 5.12 inlined into those who begin a write, so that on a stack
only they and percpu_rwsem_wait() are seen."""

from faultkit.causes import Explanation
from faultkit.causes._files import mount_for
from faultkit.causes.chain import device_link, device_of, mount_link, resource_of
from faultkit.causes.view import Blocked, View
from faultkit.model import INFERRED

CAUSE = "frozen-fs"
_RWSEM = frozenset(("percpu_rwsem_wait", "__percpu_down_read", "percpu_down_read"))
_WRITERS = frozenset(
    """
    mnt_want_write mnt_want_write_file vfs_write ksys_write vfs_iter_write do_iter_write
    vfs_writev do_writev vfs_fallocate do_page_mkwrite ext4_page_mkwrite iomap_page_mkwrite
    xfs_filemap_fault btrfs_page_mkwrite ext4_evict_inode xfs_trans_alloc start_transaction
    filemap_page_mkwrite block_page_mkwrite do_sendfile vfs_copy_file_range do_splice_from
    do_splice do_clone_file_range vfs_clone_file_range do_dentry_open do_last path_openat
    do_sys_openat2 file_start_write sb_start_write sb_start_pagefault sb_start_intwrite
    aio_write io_write kiocb_start_write io_kiocb_start_write touch_atime
    ovl_want_write ovl_start_write lo_write_bvec lo_rw_aio do_sys_ftruncate do_ftruncate
    do_sys_truncate vfs_truncate open_last_lookups do_open vfs_utimes
    """.split()
)
FUNCTIONS = frozenset(("__sb_start_write", "sb_wait_write", "percpu_rwsem_wait", *_RWSEM))
PRIORITY = 20
_THAW = "fsfreeze --unfreeze {} (xfs_freeze -u), once it is clear who froze it: a snapshot, a \
backup, a hypervisor's agent (qemu-ga)"


def explain(blocked: Blocked, view: View) -> "Explanation | None":
    """Wants to write to a file system that is frozen; None if it is another percpu_rwsem."""
    names = blocked.functions
    at = max(index for index, name in enumerate(names) if name in FUNCTIONS)
    caller = next((name for name in names[at + 1 :] if name not in _RWSEM), "")
    if names[at] not in ("__sb_start_write", "sb_wait_write") and caller not in _WRITERS:
        return None
    mount, certain = mount_for(blocked, view, lambda mount: True)
    if mount is None or not certain:
        return Explanation(
            "wants to write to a file system that is frozen",
            resource=resource_of(view, blocked),
            next="see which file system is frozen, and who froze it: " + _THAW.format("MOUNTPOINT"),
        )
    freezers = [
        other
        for other in view.others()
        if {"freeze_super", "thaw_super", "freeze_bdev"}.intersection(other.functions)
    ]
    words = "wants to write to a file system that is frozen"
    device = device_of(view, mount)
    if device is not None and any("suspended" in trouble for trouble in device.trouble):
        # dm_suspend() freezes what is mounted, and dm_resume() thaws it (drivers/md/dm.c)
        return Explanation(
            f"{words}, as the device below it is suspended",
            (mount.device,),
            resource_of(view, blocked),
            (mount_link(mount), device_link(device)),
            evidence=("it waits for the write side of the super block's freeze lock",),
        )
    if freezers:
        words = "wants to write to a file system that is being frozen"
    from faultkit.causes.chain import task_link

    # The chain ends here: the device below has nothing to do with it.
    detail = f"{mount.type} from {mount.source}, frozen"
    link = mount_link(mount)._replace(detail=detail, about=None)
    behind = [link, *(task_link(view, other.task) for other in freezers[:1])]
    return Explanation(
        words,
        (mount.device,),
        resource_of(view, blocked),
        tuple(behind),
        f"thaw it: {_THAW.format(mount.point)}",
        ("it waits for the write side of the super block's freeze lock",),
        INFERRED if freezers else "proven",
        lasts=not freezers,
    )
