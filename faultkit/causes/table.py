"""Causes that need no module: kernel functions, words, and what to look at next."""

from __future__ import annotations

from faultkit.causes import Explanation
from faultkit.causes._files import on_block_device, on_file_system
from faultkit.causes.view import Blocked, View
from faultkit.record import NamedTuple

NONE, FILE, DEVICE = "", "file", "device"  # what the call's file has to do with it


class Row(NamedTuple):
    """One row: a Cause."""

    CAUSE: str
    functions: str
    words: str
    advice: str
    about: str = NONE
    PRIORITY: int = 30
    callers: str = ""
    STATES: str = "D"
    harmless: bool = False

    @property
    def FUNCTIONS(self) -> frozenset[str]:
        return frozenset(self.functions.split())

    @property
    def CALLERS(self) -> frozenset[str]:
        return frozenset(self.callers.split())

    def explain(self, blocked: Blocked, view: View) -> Explanation | None:
        """The row's words, with the file or device that the call works on."""
        if self.about == FILE:
            return on_file_system(blocked, view, self.words, advice=self.advice)
        if self.about == DEVICE:
            return on_block_device(blocked, view, self.words, advice=self.advice)
        return Explanation(self.words, (self.CAUSE,), next=self.advice, harmless=self.harmless)


ROWS = (
    # storage below the file systems
    Row(
        "scsi-error-handling",
        """scsi_block_when_processing_errors scsi_error_handler scsi_eh_ready_devs
        scsi_send_eh_cmnd scsi_try_host_reset
        ata_scsi_error ata_port_wait_eh ata_eh_recover ata_wait_after_reset""",
        "waits for the SCSI or ATA layer to recover a device from an error",
        "see the kernel log for resets and timeouts; /sys/class/scsi_host/host*/state",
        DEVICE,
    ),
    Row(
        "nvme",
        """nvme_submit_sync_cmd __nvme_submit_sync_cmd nvme_wait_freeze nvme_wait_freeze_timeout
        nvme_wait_ready nvme_wait_reset nvme_reset_ctrl_sync nvme_dev_disable nvme_stop_queues
        nvme_execute_rq nvme_execute_passthru_rq nvme_disable_ctrl nvme_passthru_end
        nvme_rdma_reconnect_ctrl_work nvme_tcp_alloc_queue """,
        "waits for an NVMe controller: a command, a reset, or a lost path",
        "see the kernel log; /sys/class/nvme/nvme*/state; nvme list-subsys",
        DEVICE,
    ),
    Row(
        "dm",
        """dm_wait_for_completion dm_suspend __dm_suspend dm_swap_table
        dm_wait_for_bios_completion dm_internal_suspend_noflush dm_io sync_io
        dm_pool_commit_metadata dm_bufio_read new_read __get_unclaimed_buffer
        __wait_for_free_buffer multipath_wait_for_pg_init_completion
        dm_wait_event """,
        "waits inside of the device mapper",
        "see dmsetup info (State: SUSPENDED?), dmsetup status; who runs lvm or dmsetup",
        DEVICE,
    ),
    Row(
        "md",
        """md_write_start md_handle_request md_do_sync md_super_wait raise_barrier
        wait_barrier wait_read_barrier _wait_barrier freeze_array raid5_get_active_stripe
        raid5_make_request raid5_quiesce raid10_quiesce raid1_quiesce mddev_suspend
        md_check_recovery md_flush_request submit_flushes
        make_stripe_request md_wait_for_blocked_rdev mddev_lock
        stop_sync_thread idle_sync_thread frozen_sync_thread md_bitmap_wait_writes
        md_bitmap_unplug reshape_request r5l_write_stripe""",
        "waits for a software RAID (md): a resync, a barrier, or a failed disk",
        "see /proc/mdstat; md/sync_action and md/array_state in /sys/block/md*",
        DEVICE,
    ),
    Row(
        "drbd",
        "drbd_al_begin_io drbd_make_request inc_ap_bio wait_until_done_or_force_detached "
        "drbd_md_get_buffer drbd_req_state conn_request_state",
        "waits for DRBD: the peer, or its own disk",
        "see drbdadm status: is the peer connected?",
        DEVICE,
    ),
    Row(
        "bcache",
        "bch_btree_node_get cached_dev_make_request bch_data_insert __closure_sync "
        "bch_bucket_alloc bch_journal",
        "waits for bcache",
        "see /sys/block/bcache*/bcache/state and the backing device's errors",
        DEVICE,
    ),
    Row(
        "loop",
        "loop_clr_fd __loop_clr_fd loop_change_fd loop_flush",
        "waits until a loop device has finished its requests",
        "see the loop device's backing file: losetup -l",
        DEVICE,
    ),
    Row(
        "tape-or-usb",
        """usb_start_wait_urb usb_kill_urb usb_poison_urb usb_stor_msg_common usb_sg_wait
        usb_stor_bulk_transfer_sglist hub_port_reset usb_hcd_flush_endpoint
        st_do_scsi sd_sync_cache mmc_wait_for_req mmc_wait_for_req_done mmc_wait_for_cmd
        __mmc_claim_host mmc_blk_rw_wait""",
        "waits for a USB, tape or MMC device",
        "see the kernel log for that device; unplug it",
        DEVICE,
    ),
    # file systems
    Row(
        "inode",
        """__wait_on_freeing_inode find_inode find_inode_fast iget_locked iget5_locked wait_on_inode
        ilookup ilookup5 """,
        "waits until another task has finished reading in, or throwing away, the same inode",
        "see which other task on that file system is in evict() or in reading an inode",
        FILE,
    ),
    Row(
        "quota",
        "dqget dquot_acquire dqput wait_on_dquot __dquot_initialize dquot_release "
        "invalidate_dquots",
        "waits for disk quota structures",
        "see quotacheck, quotaoff, and the file system's journal",
        FILE,
    ),
    Row(
        "fscache",
        """fscache_wait_for_operation __fscache_wait_on_page_write
        cachefiles_ondemand_send_req netfs_wait_for_read netfs_wait_for_request
        netfs_wait_for_in_progress_stream netfs_unbuffered_read netfs_read_folio
        netfs_wait_for_outstanding_io netfs_wait_for_paused_read """,
        "waits for cached network file data (netfs, fscache)",
        "see cachefilesd, and the server of that file system",
        FILE,
    ),
    Row(
        "file-lock",
        "locks_lock_inode_wait posix_lock_inode_wait __break_lease do_flock",
        "waits for a file lock or a lease",
        "see /proc/locks; `faultkit deadlock PID` follows it",
        FILE,
    ),
    Row(
        "io-uring",
        "io_uring_cancel_generic io_uring_task_cancel io_uring_del_tctx_node io_ring_exit_work "
        "io_wq_exit_workers io_wq_put_and_exit io_uring_files_cancel io_ring_ctx_wait_and_kill",
        "waits until its io_uring requests have ended",
        "see the iou-wrk threads of the process: one is blocked in a request",
        NONE,
    ),
    Row(
        "aio",
        "exit_aio kill_ioctx ioctx_alloc ",
        "waits until its asynchronous I/O has completed",
        "see the device that it was sent to",
        FILE,
    ),
    # memory
    Row(
        "reclaim",
        """reclaim_throttle throttle_direct_reclaim shrink_inactive_list too_many_isolated
        wait_iff_congested congestion_wait consider_reclaim_throttle
        drain_all_pages __alloc_pages_direct_compact compact_zone_order
        isolate_migratepages_block oom_killer_disable
        __alloc_pages_may_oom should_reclaim_retry""",
        "waits for free memory: reclaim is throttled",
        "see free -m, vmstat 1, /proc/pressure/memory, and whether the OOM killer was at work; a "
        "blocked flusher or swap device holds up reclaim",
    ),
    Row(
        "mempool",
        "mempool_alloc mempool_alloc_noprof mempool_resize",
        "waits for an element of an emergency pool: all are in use by I/O in flight",
        "see the device whose I/O does not complete",
        DEVICE,
    ),
    Row(
        "migration",
        "migration_entry_wait migration_entry_wait_on_locked __migration_entry_wait "
        "pmd_migration_entry_wait ",
        "waits until a page that moves (compaction, NUMA balancing) has arrived",
        "see who migrates pages: kcompactd, task_numa_work; a page in I/O holds it up",
    ),
    Row(
        "hugetlb",
        "hugetlb_fault hugetlb_wp hugetlb_no_page hugetlb_vma_lock_read hugetlb_vma_lock_write",
        "waits for a huge page's fault mutex",
        "see which other task faults the same huge page in",
        NONE,
        callers="hugetlb_fault hugetlb_no_page",
    ),
    Row(
        "ksm",
        "ksm_scan_thread wait_while_offlining unmerge_and_remove_all_rmap_items",
        "waits for memory hot-plug or KSM",
        "see memory hot-plug in the kernel log",
    ),
    # processes
    Row(
        "usermode-helper",
        "call_usermodehelper_exec usermodehelper_read_lock_wait __request_module "
        "wait_for_dump_helpers usermodehelper_disable ",
        "waits for a program that the kernel has started (modprobe, a core_pattern program)",
        "see that program: ps, children of kthreadd or of a kworker",
    ),
    Row(
        "kthread",
        "kthread_stop kthread_park kthread_stop_put smpboot_park_threads",
        "waits until a kernel thread has stopped or parked",
        "see which kernel thread does not stop: those in D or R state",
    ),
    Row(
        "kthread-create",
        "__kthread_create_on_node kthread_create_on_node ",
        "waits until kthreadd has created a kernel thread",
        "see what kthreadd (pid 2) waits for: memory, most likely",
    ),
    Row(
        "async",
        "async_synchronize_cookie_domain async_synchronize_full wait_for_device_probe "
        "async_synchronize_cookie ",
        "waits until devices have been probed",
        "see the kernel log: which driver's probe has not come back",
    ),
    Row(
        "firmware",
        "fw_load_sysfs_fallback fw_sysfs_wait_timeout firmware_fallback_sysfs _request_firmware",
        "waits for firmware that user space has to load",
        "see /sys/class/firmware and udev",
    ),
    Row(
        "stop-machine",
        "stop_machine stop_cpus stop_one_cpu stop_two_cpus __stop_cpus "
        "stop_machine_cpuslocked affine_move_task set_cpus_allowed_ptr "
        "wait_task_inactive sched_exec __set_cpus_allowed_ptr_locked",
        "waits until a CPU has run its stopper thread, or let go of the task",
        "see which CPU does not schedule: soft lockups and real-time hogs in the kernel log, top",
        callers="sched_exec affine_move_task",
    ),
    Row(
        "cpu-hotplug",
        "_cpu_down _cpu_up cpuhp_kick_ap cpuhp_kick_ap_work wait_for_ap_thread bringup_wait_for_ap "
        "__cpuhp_kick_ap cpuhp_bringup_ap",
        "waits for a step of CPU hot-plug",
        "see the cpuhp/N threads, and /sys/devices/system/cpu/cpu*/hotplug/state",
    ),
    Row(
        "cgroup",
        "cgroup_lock_and_drain_offline percpu_ref_switch_to_atomic_sync ",
        "waits until dying control groups, or their references, are gone",
        "see which cgroups do not go away: tasks in them that are in D state",
    ),
    Row(
        "perf",
        "perf_event_release_kernel perf_trace_destroy event_function_call",
        "waits for a CPU to take a perf event down",
        "see which CPU does not answer",
    ),
    Row(
        "audit",
        "audit_log_start ",
        "waits for room in the audit backlog: auditd does not keep up",
        "see auditctl -s, and what auditd waits for",
    ),
    Row(
        "random",
        "wait_for_random_bytes ",
        "waits for the random number generator to be seeded",
        "see rngd, virtio-rng",
        STATES="DS",
    ),
    # devices
    Row(
        "gpu",
        """dma_fence_default_wait dma_fence_wait_timeout dma_resv_wait_timeout
        drm_atomic_helper_wait_for_fences drm_atomic_helper_wait_for_flip_done
        drm_atomic_helper_commit_tail drm_sched_entity_flush i915_request_wait_timeout
        amdgpu_fence_wait_empty nouveau_fence_wait radeon_fence_default_wait
        ttm_bo_wait_ctx """,
        "waits for a GPU",
        "see the kernel log for GPU hangs and resets",
    ),
    Row(
        "tty",
        "tty_wait_until_sent uart_wait_until_sent ",
        "waits until a terminal or serial line has sent its output",
        "see stty -a (flow control), and what is at the other end of the line",
        FILE,
    ),
    Row(
        "irq",
        "synchronize_irq __synchronize_irq free_irq disable_irq synchronize_hardirq",
        "waits until an interrupt's handler has finished",
        "see /proc/interrupts and irq/* threads",
    ),
    Row(
        "power",
        "rpm_resume __pm_runtime_resume __pm_runtime_barrier dpm_wait dpm_wait_for_superior "
        "pm_runtime_barrier rpm_suspend device_pm_wait_for_dev",
        "waits for a device's power state to change",
        "see the kernel log, and power/runtime_status in /sys/devices",
    ),
    Row(
        "net-device",
        "netdev_wait_allrefs netdev_wait_allrefs_any napi_disable napi_disable_locked "
        "napi_synchronize dev_deactivate_many",
        "waits until nothing uses a network device any more",
        "see `unregister_netdevice: waiting for` in the kernel log",
    ),
    Row(
        "network",
        "lock_sock_nested __lock_sock sk_stream_wait_memory inet_csk_accept sk_wait_data "
        "__sk_flush_backlog ",
        "waits for a socket that another task has locked, or for its peer",
        "see ss -tnpi, and the other threads that use the socket",
        FILE,
    ),
    Row(
        "virtio",
        "virtnet_send_command read_reply xs_talkv vmbus_wait_for_unload",
        "waits for the hypervisor",
        "see the host of this virtual machine",
    ),
    Row(
        "hardware",
        """pci_wait_cfg
        acpi_os_wait_semaphore acpi_ex_acquire_mutex i801_transaction tpm_transmit
        tpm_try_transmit mlx5_cmd_exec wait_func mlx5_cmd_invoke qla2x00_wait_for_hba_online
        lpfc_sli_issue_iocb_wait mpt3sas_wait_for_commands_to_complete megasas_issue_blocked_cmd
        iwl_trans_send_cmd be_mcc_notify_wait ice_sq_send_cmd
        vfio_wait""",
        "waits for a device's firmware",
        "see the kernel log for that driver",
    ),
    # sleeps of a fixed length
    Row(
        "sleep",
        "msleep usleep_range usleep_range_state fsleep ssleep msleep_interruptible "
        "schedule_timeout_uninterruptible schedule_timeout_idle schedule_timeout_killable "
        "schedule_hrtimeout_range",
        "sleeps for a fixed time, uninterruptibly: a driver that polls its device",
        "see which driver: the functions that call msleep()",
        NONE,
        200,
    ),
)
