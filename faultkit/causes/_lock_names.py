"""Which lock a kernel function takes, by its name, and where its holders are found."""

from __future__ import annotations

from faultkit.record import NamedTuple


class LockName(NamedTuple):
    """`holders` are functions that are on the stack of those who may hold it; `of_file` tells a
    lock of the file system that the call works on."""

    kind: str
    words: str
    holders: frozenset[str] = frozenset()
    of_file: bool = False
    advice: str = ""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MM_CALLERS = """
    vm_mmap_pgoff vm_munmap __vm_munmap do_mprotect_pkey __do_sys_brk __x64_sys_brk
    __x64_sys_munmap __do_munmap do_madvise madvise_lock do_mlock apply_vma_lock_flags mlock_fixup
    __mm_populate dup_mmap dup_mm copy_process exit_mmap exit_mm mmput __mmput do_mremap
    __x64_sys_mremap __do_sys_mremap do_user_addr_fault __do_page_fault do_page_fault
    lock_mm_and_find_vma exc_page_fault mmap_write_lock mmap_read_lock mmap_write_lock_killable
    mmap_read_lock_killable __access_remote_vm access_remote_vm get_cmdline proc_pid_cmdline_read
    environ_read m_start proc_map_files_readdir show_smap show_smaps_rollup
    get_user_pages_unlocked internal_get_user_pages_fast gup_fast_fallback get_arg_page
    pin_user_pages_remote process_vm_rw_core __get_user_pages_locked collapse_huge_page
    khugepaged_scan_mm_slot task_numa_work get_task_mm userfaultfd_register userfaultfd_ioctl
    mmap_region ksys_mmap_pgoff do_mmap __do_sys_msync __x64_sys_msync elf_map setup_arg_pages
    exec_mmap futex_lock_pi fault_in_user_writeable fixup_user_fault do_shmat ksys_shmdt
    prctl_set_mm prctl_set_vma pagemap_read clear_refs_write
    do_mincore migrate_pages do_pages_move kernel_mbind do_mbind
    handle_mm_fault lock_vma_under_rcu __vma_start_write
"""
MMAP = LockName("rwsem", "mmap_lock", _names(_MM_CALLERS))

_INODE = LockName(
    "rwsem",
    "the lock of a file or directory (i_rwsem)",
    _names(
        """
        path_openat do_last open_last_lookups lookup_open lookup_slow __lookup_slow walk_component
        vfs_unlink do_unlinkat do_rmdir vfs_rmdir vfs_rename do_renameat2 vfs_create vfs_mkdir
        do_mkdirat filename_create iterate_dir notify_change do_truncate chmod_common chown_common
        vfs_utimes vfs_fallocate ext4_file_write_iter ext4_buffered_write_iter ext4_dio_write_iter
        xfs_file_write_iter xfs_file_buffered_write xfs_file_dio_write btrfs_file_write_iter
        btrfs_do_write_iter btrfs_sync_file generic_file_write_iter fuse_file_write_iter
        fuse_perform_write fuse_cache_write_iter fuse_direct_write_iter nfs_file_write
        fuse_atomic_open fuse_lookup fuse_lookup_name fuse_setattr fuse_do_setattr
        nfs_start_io_write nfs_start_io_read cifs_strict_writev ceph_write_iter vfs_setxattr
        f2fs_file_write_iter ext4_sync_file fuse_fsync ext4_fallocate xfs_file_fallocate
        fuse_file_fallocate __fuse_copy_file_range simple_recursive_removal vfs_link vfs_symlink
        fuse_readdir fuse_readdir_uncached blkdev_write_iter
        """
    ),
    True,
    "see which task works on that file or directory: it holds the lock",
)
_LOOKUP = LockName(
    "lookup",
    "another task's lookup of the same name",
    _names("fuse_lookup fuse_lookup_name lookup_slow __lookup_slow lookup_open nfs_lookup "
           "ext4_lookup xfs_vn_lookup cifs_lookup ceph_lookup fuse_atomic_open path_openat "
           "nfs_atomic_open kernfs_iop_lookup autofs_lookup ovl_lookup"),
    True,
    "see which task looks up the same name: the file system does not answer it",
)  # fmt: skip


def _simple(kind: str, words: str, functions: str, holders: str = "", advice: str = "") -> None:
    held = _names(f"{holders} {functions}") if holders else frozenset()
    name = LockName(kind, words, held, False, advice)
    LOCKS.update(dict.fromkeys(functions.split(), name))


LOCKS: dict[str, LockName] = {
    **dict.fromkeys(_MM_CALLERS.split(), MMAP),
    **dict.fromkeys(
        """
        path_openat do_last open_last_lookups lookup_slow walk_component do_unlinkat do_rmdir
        do_renameat2 do_mkdirat filename_create iterate_dir notify_change do_truncate
        chmod_common chown_common vfs_utimes vfs_fallocate ext4_file_write_iter
        ext4_buffered_write_iter ext4_dio_write_iter ext4_file_read_iter ext4_dio_read_iter
        xfs_ilock xfs_ilock_iocb xfs_ilock_for_iomap btrfs_inode_lock btrfs_file_write_iter
        generic_file_write_iter fuse_file_write_iter fuse_cache_write_iter fuse_direct_write_iter
        fuse_lock_inode fuse_direct_io nfs_start_io_write nfs_start_io_read nfs_start_io_direct
        cifs_strict_writev ceph_start_io_write ceph_start_io_read vfs_setxattr __vfs_setxattr
        f2fs_file_write_iter ext4_sync_file fuse_fsync ext4_fallocate vfs_link do_linkat
        do_symlinkat lock_rename __start_dirop start_dirop ext4_setattr inode_lock
        inode_lock_shared vfs_rename vfs_unlink vfs_rmdir utimes_common ext4_map_blocks
        ext4_llseek ext4_truncate ext4_evict_inode fuse_dentry_revalidate lookup_one_unlocked
        """.split(),
        _INODE,
    ),
    "d_alloc_parallel": _LOOKUP,
    "d_wait_lookup": _LOOKUP,
}
_simple("rwsem", "the super block's lock (s_umount)",
        """grab_super super_lock __super_lock deactivate_super iterate_supers iterate_supers_type
        sget sget_fc get_super trylock_super user_get_super freeze_super thaw_super ksys_sync
        sync_filesystem __x64_sys_syncfs do_umount do_remount reconfigure_super""",
        "generic_shutdown_super freeze_super deactivate_locked_super sync_filesystem mount_bdev "
        "get_tree_bdev get_tree_bdev_flags vfs_get_tree",
        "see which task mounts, unmounts, freezes or syncs the file system")  # fmt: skip
_simple("rwsem", "the lock of the mount tree (namespace_sem)",
        "namespace_lock do_lock_mount lock_mount do_add_mount attach_recursive_mnt "
        "path_umount mounts_open_common copy_mnt_ns do_move_mount",
        "do_umount graft_tree copy_mnt_ns",
        "see which task mounts or unmounts")  # fmt: skip
_simple("mutex", "the network configuration's lock (rtnl_mutex)",
        """rtnl_lock rtnl_lock_killable rtnetlink_rcv_msg rtnl_dumpit __rtnl_newlink dev_ioctl
        rtnetlink_rcv rtnl_net_lock netdev_run_todo devinet_ioctl inet6_ioctl
        linkwatch_event netlink_dump register_netdevice_notifier""",
        """unregister_netdevice_many unregister_netdevice_queue netdev_run_todo dev_close
        dev_open __dev_open __dev_close_many rtnl_newlink rtnl_dellink do_setlink
        register_netdevice ethtool_set_channels dev_ethtool synchronize_net cleanup_net""",
        "see which task changes network devices: it holds rtnl")  # fmt: skip
_simple("mutex", "cgroup_mutex",
        """cgroup_kn_lock_live cgroup_lock_and_drain_offline cgroup_apply_control proc_cgroup_show
        cgroup_lock cgroup_release cgroup_attach_task cgroup1_get_tree cgroup_get_tree
        css_release_work_fn css_killed_work_fn cgroup_do_get_tree proc_cgroupstats_show
        cpuset_write_resmask cgroup_mkdir cgroup_rmdir cgroup_transfer_tasks""",
        "cgroup_procs_write cgroup_mkdir cgroup_rmdir cgroup_apply_control_enable css_create "
        "cgroup_migrate_execute cpuset_hotplug_workfn",
        "see which task works on control groups")  # fmt: skip
_simple("percpu-rwsem", "cgroup_threadgroup_rwsem",
        "cgroup_can_fork cgroup_procs_write_start cgroup_attach_lock exit_signals "
        "cgroup_threadgroup_change_begin",
        "cgroup_procs_write_start cgroup_attach_lock cgroup_procs_write __cgroup_procs_write "
        "cgroup_update_dfl_csses",
        "see which task moves processes between control groups")  # fmt: skip
_simple("percpu-rwsem", "the lock of CPU hot-plug (cpu_hotplug_lock)",
        "cpus_read_lock cpus_write_lock static_key_slow_inc "
        "static_key_slow_dec",
        "_cpu_up _cpu_down cpuhp_thread_fun takedown_cpu static_key_enable",
        "see which task brings a CPU up or down, or changes a static key")  # fmt: skip
_simple("mutex", "a device's lock",
        """device_lock __device_attach __driver_attach device_release_driver device_del
        __device_driver_lock device_release_driver_internal device_driver_attach
        driver_attach bus_rescan_devices_helper device_attach device_move""",
        "really_probe __device_attach device_release_driver_internal usb_disconnect "
        "hub_port_connect driver_probe_device nvme_remove nvme_probe pci_device_probe "
        "pciehp_handle_presence_or_link_change usb_reset_device",
        "see which task probes, removes or resets the device")  # fmt: skip
_simple("mutex", "the lock of a block device that is being opened or closed (open_mutex)",
        """bdev_open blkdev_get_by_dev __blkdev_get blkdev_get blkdev_put bdev_release
        bd_prepare_to_claim bd_start_claiming lo_open lo_release blkdev_get_whole
        disk_check_media_change bdev_open_by_dev bdev_disk_changed loop_global_lock_killable
        loop_set_status lo_ioctl nbd_ioctl del_gendisk""",
        """bdev_disk_changed bdev_open blkdev_get_by_dev lo_ioctl __loop_clr_fd sd_open
        sync_blockdev blkdev_put bdev_release read_part_sector check_partition del_gendisk""",
        "see which task opens, closes or configures the device")  # fmt: skip
_simple("mutex", "a pipe's lock",
        "pipe_read pipe_write pipe_release pipe_lock pipe_double_lock fifo_open pipe_poll "
        "splice_from_pipe anon_pipe_read anon_pipe_write splice_to_pipe do_tee",
        "pipe_read pipe_write splice_from_pipe __splice_from_pipe anon_pipe_write anon_pipe_read "
        "iter_file_splice_write",
        "see which task is in splice(), read or write on the pipe")  # fmt: skip
_simple("mutex", "the lock of a file's position (f_pos_lock)",
        "__fdget_pos fdget_pos", "",
        "another thread is in read(), write() or getdents() on the same open file")  # fmt: skip
_simple("mutex", "a process's lock for exec (cred_guard_mutex, exec_update_lock)",
        """prepare_bprm_creds mm_access lock_trace proc_pid_attr_write ptrace_attach
        __ptrace_may_access proc_pid_stack proc_pid_syscall bprm_execve proc_mem_open
        proc_pid_personality seccomp_set_mode_filter kcmp_lock do_io_accounting
        exec_mmap""",
        "begin_new_exec flush_old_exec de_thread load_elf_binary exec_mmap bprm_execve",
        "see which task of that process is in exec")  # fmt: skip
_simple("mutex", "the lock of the kernel's module list (module_mutex)",
        "load_module finished_loading find_module_all free_module ",
        "do_init_module load_module free_module ",
        "see which module is being loaded or removed")  # fmt: skip
_simple("mutex", "a lock of the console or a terminal",
        """console_lock tty_lock tty_ldisc_lock tty_ldisc_ref_wait n_tty_write tty_write
        tty_write_lock tty_release tty_ioctl tty_set_termios con_write __tty_hangup ldsem_down_read
        ldsem_down_write file_tty_write""",
        "n_tty_write con_write console_unlock uart_write serial8250_tx_chars tty_wait_until_sent",
        "see which task writes to the terminal, and whether it is stopped (Ctrl-S)")  # fmt: skip
_simple("rwsem", "the lock of the kernel's list of shrinkers (shrinker_rwsem)",
        "register_shrinker unregister_shrinker prealloc_shrinker shrinker_register "
        "unregister_memcg_shrinker",
        "shrink_slab do_shrink_slab shrink_slab_memcg",
        "see which task is in shrink_slab(), and for what that waits")  # fmt: skip
_simple("mutex", "wq_pool_mutex or a work queue's lock",
        "alloc_workqueue destroy_workqueue apply_workqueue_attrs flush_workqueue_prep_pwqs",
        "destroy_workqueue drain_workqueue apply_wqattrs_commit")  # fmt: skip
