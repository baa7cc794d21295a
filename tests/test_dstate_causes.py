"""What is made of stacks that this machine can't play: causes by function, chains by a view.

The stacks are written by hand after those of kernels 4.18 to 6.18; where the first function is the
scheduler's they are as in a log, else as in /proc/PID/stack."""

from pathlib import Path

import pytest

from faultkit import causes
from faultkit.causes.chain import device_link, follow
from faultkit.causes.table import ROWS
from faultkit.causes.view import Blocked, Device, Mount, OpenFile, View
from faultkit.model import Task
from faultkit.procfs.block import block_device, block_device_named
from faultkit.procfs.mounts import mount_of_path, parse_mountinfo

STACKS = {
    "block-io": [
        "schedule io_schedule folio_wait_bit_common filemap_get_pages filemap_read vfs_read",
        "__iomap_dio_rw iomap_dio_rw ext4_file_read_iter vfs_read",
        "schedule io_schedule bit_wait_io __wait_on_bit out_of_line_wait_on_bit __wait_on_buffer "
        "__ext4_find_entry ext4_lookup",
        "ext4_block_write_begin ext4_da_write_begin generic_perform_write ext4_buffered_write_iter",
        "schedule schedule_timeout io_schedule_timeout wait_for_completion_io submit_bio_wait",
    ],
    "queue-frozen": ["schedule blk_queue_enter generic_make_request submit_bio"],
    "queue-freeze": ["blk_mq_freeze_queue_wait elevator_switch elv_iosched_store"],
    "no-request": ["io_schedule blk_mq_get_tag __blk_mq_alloc_requests blk_mq_submit_bio"],
    "writeback-throttle": [
        "schedule io_schedule rq_qos_wait wbt_wait __rq_qos_throttle blk_mq_submit_bio",
        "schedule_timeout io_schedule_timeout balance_dirty_pages ext4_buffered_write_iter",
    ],
    "scsi-error-handling": ["schedule scsi_block_when_processing_errors sd_open blkdev_get_whole"],
    "nvme": ["schedule nvme_wait_freeze nvme_update_ns_info nvme_scan_work process_one_work"],
    "dm": ["io_schedule dm_wait_for_completion __dm_suspend dm_suspend do_resume"],
    "md": ["schedule md_write_start raid1_make_request md_handle_request md_submit_bio"],
    "page-lock": ["io_schedule folio_wait_bit_common __folio_lock ext4_writepages"],
    "frozen-fs": [
        "schedule percpu_rwsem_wait mnt_want_write path_openat",
        "schedule rwsem_down_read_slowpath __percpu_down_read __sb_start_write ext4_page_mkwrite",
    ],
    "jbd2": [
        "schedule wait_transaction_locked add_transaction_credits start_this_handle "
        "jbd2__journal_start",
        "schedule jbd2_log_wait_commit ext4_sync_file",
    ],
    "xfs": ["schedule xlog_wait_on_iclog xfs_log_force_seq xfs_file_fsync"],
    "btrfs": ["schedule wait_current_trans start_transaction btrfs_create"],
    "nfs": [
        "schedule rpc_wait_bit_killable __wait_on_bit out_of_line_wait_on_bit __rpc_execute",
        "schedule io_schedule nfs_wait_on_request nfs_wb_folio nfs_file_flush",
    ],
    "fuse": ["schedule request_wait_answer __fuse_simple_request fuse_lookup_name"],
    "cifs": ["schedule wait_for_response compound_send_recv smb2_compound_op cifs_lookup"],
    "9p": ["schedule p9_virtio_request p9_client_rpc p9_client_walk v9fs_vfs_lookup"],
    "ceph": ["schedule ceph_mdsc_wait_request ceph_mdsc_do_request __ceph_do_getattr"],
    "swap": ["io_schedule folio_wait_bit_common swap_read_folio swapin_readahead do_swap_page"],
    "reclaim": [
        "schedule_timeout reclaim_throttle shrink_inactive_list shrink_lruvec try_to_free_pages",
        "schedule_timeout io_schedule_timeout congestion_wait shrink_inactive_list",
    ],
    "memory-limit": ["schedule mem_cgroup_oom_synchronize pagefault_out_of_memory"],
    "mutex": ["schedule schedule_preempt_disabled __mutex_lock mutex_lock rtnl_lock rtnetlink_rcv"],
    "rwsem": [
        "schedule rwsem_down_write_slowpath down_write_killable vm_mmap_pgoff ksys_mmap_pgoff",
        "schedule rwsem_down_read_failed call_rwsem_down_read_failed down_read lookup_slow",
        "vm_mmap_pgoff do_syscall_64",
    ],
    "percpu-rwsem": ["schedule percpu_rwsem_wait __percpu_down_read cgroup_can_fork copy_process"],
    "rt-mutex": ["schedule rt_mutex_slowlock_block __rt_mutex_slowlock rt_mutex_lock i2c_transfer"],
    "vfork": [
        "schedule schedule_timeout wait_for_completion_killable kernel_clone __do_sys_vfork",
        "schedule wait_for_completion_killable _do_fork do_syscall_64",
    ],
    "exec": ["schedule begin_new_exec load_elf_binary bprm_execve"],
    "coredump": [
        "schedule coredump_task_exit do_exit do_group_exit get_signal",
        "schedule wait_for_completion do_coredump get_signal",
    ],
    "exit": ["schedule zap_pid_ns_processes forget_original_parent exit_notify do_exit"],
    "freezer": [
        "schedule __refrigerator get_signal",
        "schedule futex_wait_queue futex_wait do_futex",
    ],
    "userfaultfd": ["schedule handle_userfault do_anonymous_page handle_mm_fault"],
    "flush-work": ["schedule_timeout wait_for_completion __flush_work frob_close"],
    "rcu": ["schedule_timeout wait_for_completion __wait_rcu_gp synchronize_rcu namespace_unlock"],
    "io-uring": ["schedule io_uring_cancel_generic do_exit"],
    "usermode-helper": ["wait_for_completion_state call_usermodehelper_exec __request_module"],
    "autofs": ["schedule autofs_wait autofs_mount_wait autofs_d_automount"],
    "sleep": ["schedule schedule_timeout msleep frob_poll_status frob_ioctl"],
    "gpu": ["schedule_timeout dma_fence_default_wait dma_fence_wait_timeout drm_ioctl"],
    "unknown": ["schedule frob_wait frob_ioctl"],
    "unstarted-thread": ["schedule_preempt_disabled kthread ret_from_fork"],
    "lookup": ["schedule d_alloc_parallel __lookup_slow walk_component"],
    "stop-machine": ["schedule_timeout wait_for_completion affine_move_task set_cpus_allowed_ptr"],
    "kthread": ["schedule_timeout wait_for_completion kthread_stop frob_remove"],
    "loop": ["schedule loop_flush lo_release"],
}


def blocked(stack, state="D", **more):
    return Blocked(Task(7, 7, "task", state), tuple(stack.split()), **more)


@pytest.mark.parametrize(
    ("cause", "stack"), [(cause, stack) for cause, stacks in STACKS.items() for stack in stacks]
)
def test_causes_by_stack(cause, stack):
    found, explanation = causes.explain(blocked(stack), View())
    assert found == cause
    assert explanation.text
    assert explanation.harmless == (cause == "unstarted-thread")


def test_a_fork_that_waits_for_a_lock_is_no_vfork():
    stack = "schedule rwsem_down_write_slowpath down_write_killable dup_mmap dup_mm copy_process "
    cause, explanation = causes.explain(blocked(stack + "kernel_clone"), View())
    assert (cause, explanation.resource.lock) == ("rwsem", "mmap_lock of process 7")


def test_the_innermost_specific_function_decides():
    """Reclaim that writes to a FUSE file waits for FUSE; what it was at is told too."""
    stack = "schedule request_wait_answer fuse_flush_time shrink_slab try_to_free_pages"
    cause, explanation = causes.explain(blocked(stack), View())
    assert cause == "fuse"
    assert "while reclaiming memory" in explanation.text


def test_interruptible_sleeps_are_left_alone_but_for_a_few():
    names = causes.interruptible_functions()
    assert {"request_wait_answer", "handle_userfault", "get_signal"} <= names
    assert not {"futex_do_wait", "ep_poll", "do_nanosleep", "pipe_read"} & names


def test_every_cause_is_whole():
    for cause in causes.all_causes():
        assert cause.CAUSE and isinstance(cause.PRIORITY, int)
        assert cause.FUNCTIONS or getattr(cause, "CALLERS", None)
        assert set(getattr(cause, "STATES", "D")) <= set("DSTt")


def test_every_cause_is_in_the_document():
    document = (Path(__file__).resolve().parent.parent / "docs" / "dstate.md").read_text()
    named = set(STACKS) - {"unstarted-thread"} | {row.CAUSE for row in ROWS}
    assert not {cause for cause in named if f"`{cause}`" not in document}


# Views


class Pictured(View):
    """A view with a file, devices, a log, and a connection."""

    def __init__(self, mount=None, path=None, devices=(), log=(), connection=None):
        super().__init__()
        self._file = OpenFile(path, mount, 3)
        self._devices = {device.name: device for device in devices}
        self._log = log
        self._connection = connection

    def file(self, blocked):
        return self._file

    def mounts(self, tid):
        return [self._file.mount] if self._file.mount else []

    def device(self, number):
        return next((d for d in self._devices.values() if d.number == number), None)

    def device_named(self, name):
        return self._devices.get(name)

    def log(self, *words):
        return [line for line in self._log if any(word in line for word in words)]

    def connection_to(self, pid, server, port):
        return self._connection and f"{self._connection} {server}:{port}"

    def rpc_tasks(self, server):
        return ["call nfsv4 READ xid 0x1f, a:call_status q:xprt_pending"]


def explained(stack, view):
    cause, explanation = causes.explain(blocked(stack), view)
    return cause, explanation, follow(view, explanation.behind)


def test_an_nfs_server_that_does_not_answer():
    mount = Mount(9, (0, 50), "/", "/home", "nfs4", "filer:/export", ("rw", "addr=10.0.0.5"))
    view = Pictured(
        mount,
        "/home/x",
        log=["nfs: server 10.0.0.5 not responding, still trying"],
        connection="trying to connect",
    )
    cause, explanation, step = explained("rpc_wait_bit_killable __rpc_execute nfs_getattr", view)
    assert cause == "nfs"
    assert explanation.resource.server == "10.0.0.5"
    assert [link.kind for link in step.links] == ["file-system", "server"]
    detail = step.links[-1].detail
    assert "trying to connect 10.0.0.5:2049" in detail
    assert "not responding" in detail and "xid 0x1f" in detail
    assert "10.0.0.5" in step.advice and "umount -f /home" in step.advice


def test_a_suspended_device_below_another():
    mount = Mount(9, (253, 1), "/", "/data", "ext4", "/dev/mapper/data", ())
    devices = [
        Device("dm-1", (253, 1), (1, 0), 10, (), None, ("dm-0",)),
        Device("dm-0", (253, 0), (1, 0), 10, ("suspended",)),
    ]
    view = Pictured(mount, "/data/x", devices)
    cause, explanation, step = explained("folio_wait_bit_common filemap_get_pages", view)
    assert cause == "block-io"
    assert explanation.resource.device == "/dev/mapper/data"
    assert [link.name for link in step.links] == ["/data", "dm-1", "dm-0"]
    assert "dmsetup resume dm-0" in step.advice


def test_a_device_with_nothing_in_flight_is_not_blamed():
    device = Device("sda", (8, 0), (0, 0), 10)
    view = Pictured(devices=[device])
    assert "no request in flight" in follow(view, [device_link(device)]).advice


def test_who_holds_rcu_up():
    view = Pictured(log=["rcu: INFO: rcu_preempt detected stalls on CPUs/tasks: { 3-...!: (1 GPs"])
    cause, explanation, step = explained("wait_for_completion __wait_rcu_gp synchronize_rcu", view)
    assert cause == "rcu"
    assert [(link.kind, link.name) for link in step.links] == [("cpu", "3")]
    assert "detected stalls" in explanation.evidence[0]


# /sys and /proc as other machines have them


def make(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_block_devices_by_sysfs(tmp_path):
    host = "devices/pci0/host2/target2:0:0/2:0:0:0"
    disk = f"{host}/block/sdb"
    make(
        tmp_path,
        {
            f"{disk}/dev": "8:16",
            f"{disk}/inflight": "       3        1",
            f"{disk}/stat": "10 0 0 0 20 0 0 0 4 0 0 3 0 0 0 5 0",
            f"{host}/state": "blocked",
            "devices/pci0/host2/scsi_host/host2/state": "recovery",
            "devices/virtual/block/dm-0/dev": "253:0",
            "devices/virtual/block/dm-0/dm/suspended": "1",
            "devices/virtual/block/dm-0/dm/name": "vg-data",
            "devices/virtual/block/dm-0/slaves/sdb": "",
        },
    )
    (tmp_path / disk / "device").symlink_to("../..")
    (tmp_path / "dev/block").mkdir(parents=True)
    (tmp_path / "dev/block/8:16").symlink_to(f"../../{disk}")
    for folder in ("class/block", "block"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "sdb").symlink_to(tmp_path / disk)
        (tmp_path / folder / "dm-0").symlink_to(tmp_path / "devices/virtual/block/dm-0")
    found = block_device((8, 16), str(tmp_path))
    assert (found.name, found.in_flight, found.completed) == ("sdb", (3, 1), 38)
    assert found.trouble == ("state is blocked", "its SCSI host is in state recovery")
    mapped = block_device_named("vg-data", str(tmp_path))
    assert (mapped.name, mapped.number, mapped.below) == ("dm-0", (253, 0), ("sdb",))
    assert mapped.trouble == ("suspended",)
    assert block_device((8, 17), str(tmp_path)) is None
    assert block_device_named("nosuch", str(tmp_path)) is None


MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:45 / /mnt/with\\040blank rw - nfs4 filer:/a\\040b rw,vers=4.2,addr=10.0.0.5
31 22 0:46 / /mnt/with\\040blank/in rw master:3 - tmpfs none rw
garbage
"""


def test_mountinfo():
    mounts = parse_mountinfo(MOUNTINFO)
    assert [mount.point for mount in mounts] == ["/", "/mnt/with blank", "/mnt/with blank/in"]
    assert mounts[1].source == "filer:/a b"
    assert mounts[1].option("addr") == "10.0.0.5"
    assert mount_of_path(mounts, "/mnt/with blank/x").number == 30
    assert mount_of_path(mounts, "/mnt/with blank/in").number == 31
    assert mount_of_path(mounts, "/mnt/with blankets").number == 22
