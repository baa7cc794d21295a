"""Every struct member that this package relies on, so that a kernel's debug information can be
checked for them without a dump.

Each entry of NEEDED is a group of (type, member) alternatives, the newest first, of which one must
exist.  Members that only some configurations have, and that are done without, are not listed.
"""

from collections.abc import Iterator

Place = tuple[str, str]
Group = tuple[Place, ...]


def _members(type_name: str, *members: str) -> Iterator[Group]:
    """One group for each member, without alternatives."""
    for member in members:
        yield ((type_name, member),)


NEEDED: tuple[Group, ...] = (
    # tasks and their sleeps: system.py, sleeper.py, sleep.py, ages.py
    (("task_struct", "__state"), ("task_struct", "state")),
    *_members("task_struct", "exit_state", "flags", "mm", "se", "signal", "stack", "start_time"),
    *_members("task_struct", "thread", "comm", "nvcsw", "nivcsw"),
    *_members("thread_struct", "sp"),
    *_members("sched_entity", "exec_start"),
    *_members("rq", "clock", "clock_task"),
    *_members("timer_list", "entry", "function"),
    (("hrtimer", "is_queued"), ("hrtimer", "state")),
    *_members("hrtimer", "function"),
    # modules.py
    *_members("module", "list", "name", "kallsyms"),
    (("module", "mem"), ("module", "core_layout")),
    (("module_memory", "base"), ("module_layout", "base")),
    (("module_memory", "size"), ("module_layout", "size")),
    *_members("mod_kallsyms", "num_symtab", "strtab", "symtab"),
    # registers.py
    *_members("inactive_task_frame", "bx", "bp", "r12", "r13", "r14", "r15"),
    # spinlocks.py
    *_members("mcs_spinlock", "next", "count"),
    *_members("qrwlock", "cnts", "wait_lock"),
    # waits/mutex.py, rwsem.py, semaphore.py
    (("mutex", "wait_list"), ("mutex", "first_waiter")),
    *_members("mutex", "owner", "wait_lock"),
    *_members("mutex_waiter", "list", "task"),
    (("rw_semaphore", "wait_list"), ("rw_semaphore", "first_waiter")),
    *_members("rw_semaphore", "count", "owner", "wait_lock"),
    *_members("rwsem_waiter", "list", "task", "type"),
    (("mm_struct", "mmap_lock"),),
    (("semaphore", "wait_list"), ("semaphore", "first_waiter")),
    *_members("semaphore", "count"),
    *_members("semaphore_waiter", "list", "task"),
    # waits/rt_mutex.py
    *_members("task_struct", "pi_blocked_on"),
    *_members("rt_mutex_waiter", "task", "lock"),
    (("rt_mutex_waiter", "tree.entry"), ("rt_mutex_waiter", "tree_entry")),
    (("rt_mutex_base", "owner"), ("rt_mutex", "owner")),
    (
        ("rt_mutex_base", "waiters.rb_root.rb_node"),
        ("rt_mutex", "waiters.rb_root.rb_node"),
    ),
    *_members("rb_node", "__rb_parent_color"),
    # waits/percpu_rwsem.py, filesystems.py
    *_members("percpu_rw_semaphore", "block", "read_count", "waiters.head", "writer.task"),
    *_members("wait_queue_entry", "entry", "flags", "func", "private"),
    *_members("super_block", "s_id", "s_list", "s_writers.frozen", "s_writers.rw_sem"),
    # waits/completion.py and those who say who completes it
    *_members("completion", "wait.task_list"),
    *_members("swait_queue", "task", "task_list"),
    *_members("task_struct", "vfork_done"),
    *_members("kthread", "data", "exited", "parked"),
    *_members("kthread_create_info", "done", "list"),
    *_members("cpuhp_cpu_state", "done_up", "done_down", "thread"),
    *_members("kthread_flush_work", "done"),
    *_members("kthread_work", "func", "node", "worker"),
    *_members("kthread_worker", "current_work", "task", "work_list"),
    *_members("subprocess_info", "complete", "path", "work"),
    (("signal_struct", "core_state"), ("mm_struct", "core_state")),
    *_members("core_state", "dumper", "startup"),
    *_members("core_thread", "task", "next"),
    # workers.py, waits/workqueue.py
    (("task_struct", "worker_private"), ("task_struct", "set_child_tid")),
    *_members("worker", "current_work", "current_func", "current_pwq", "scheduled", "task"),
    *_members("work_struct", "entry", "func"),
    (("pool_workqueue", "inactive_works"), ("pool_workqueue", "delayed_works")),
    *_members("pool_workqueue", "nr_in_flight", "pwqs_node", "wq"),
    *_members("workqueue_struct", "first_flusher", "flusher_overflow", "flusher_queue"),
    *_members("workqueue_struct", "list", "name", "pwqs"),
    *_members("wq_barrier", "done", "task", "work"),
    *_members("wq_flusher", "done", "flush_color", "list"),
    # deferred.py
    *_members("timer_base", "vectors"),
    *_members("delayed_work", "timer"),
    *_members("kthread_delayed_work", "timer"),
    *_members("hrtimer", "node.node"),
    *_members("hrtimer_cpu_base", "clock_base"),
    *_members("hrtimer_clock_base", "active.rb_root.rb_root.rb_node"),
    *_members("irq_desc", "action"),
    *_members("irqaction", "dev_id", "handler", "next", "thread_fn"),
    *_members("pool_workqueue", "pool"),
    *_members("worker_pool", "worklist"),
    # waits/folio.py, buffer.py
    (("wait_page_queue", "folio"), ("wait_page_queue", "page")),
    *_members("wait_page_queue", "bit_nr", "wait"),
    (("folio", "mapping"), ("page", "mapping")),
    (("folio", "index"), ("page", "index")),
    *_members("address_space", "host"),
    *_members("inode", "i_ino", "i_sb"),
    *_members("wait_bit_queue_entry", "key", "wq_entry"),
    *_members("wait_bit_key", "bit_nr", "flags"),
    *_members("buffer_head", "b_bdev", "b_blocknr"),
    *_members("block_device", "bd_disk"),
    *_members("gendisk", "disk_name"),
    # files.py, mm.py: open files, their inodes and paths, mappings
    *_members("task_struct", "files"),
    *_members("files_struct", "fdt"),
    *_members("fdtable", "fd", "max_fds"),
    *_members("file", "f_flags", "f_inode", "f_mode", "f_pos", "private_data"),
    *_members("file", "f_path.dentry", "f_path.mnt"),
    *_members("inode", "i_flctx", "i_mapping", "i_mode", "i_pipe", "i_size"),
    *_members("super_block", "s_dev", "s_magic", "s_type"),
    *_members("file_system_type", "name"),
    *_members("vfsmount", "mnt_root"),
    *_members("mount", "mnt", "mnt_mountpoint", "mnt_parent"),
    *_members("dentry", "d_hash", "d_name", "d_parent"),
    *_members("qstr", "name"),
    *_members("pipe_inode_info", "head", "max_usage", "readers", "tail", "writers"),
    *_members("vm_area_struct", "vm_end", "vm_file", "vm_flags", "vm_mm", "vm_pgoff", "vm_start"),
    *_members("vm_area_struct", "shared.rb"),
    *_members("address_space", "i_mmap"),
    *_members("rb_root_cached", "rb_root"),
    (("mm_struct", "mm_mt"), ("mm_struct", "mmap")),
    (("maple_tree", "ma_root"), ("vm_area_struct", "vm_next")),
    *_members("mm_struct", "start_brk", "start_stack", "map_count"),
    # kinship.py: processes among each other
    *_members("task_struct", "children", "nsproxy", "real_parent", "sibling", "sighand"),
    *_members("task_struct", "pid_links", "thread_pid"),
    *_members("pid", "level", "numbers", "tasks"),
    *_members("upid", "nr", "ns"),
    *_members("pid_namespace", "idr"),
    *_members("signal_struct", "pids"),
    *_members("sighand_struct", "action"),
    *_members("idr", "idr_rt"),
    *_members("xarray", "xa_head"),
    *_members("xa_node", "shift", "slots"),
    # filelocks.py; 6.9 split struct file_lock
    *_members("file_lock_context", "flc_flock", "flc_posix"),
    *_members("file_lock", "fl_end", "fl_start"),
    *(
        (("file_lock", f"c.flc_{name}"), ("file_lock", f"fl_{name}"))
        for name in ("blocker", "file", "flags", "list", "owner", "pid", "type", "wait")
    ),
    *_members("wait_queue_head", "head"),
    # sockets.py; struct unix_sock may be the module unix's
    *_members("socket_alloc", "socket", "vfs_inode"),
    *_members("socket", "sk"),
    *_members("sock", "__sk_common.skc_family", "__sk_common.skc_state"),
    *_members("sock", "sk_protocol", "sk_rcvtimeo", "sk_receive_queue", "sk_receive_queue.qlen"),
    *_members("sock", "sk_sndbuf", "sk_sndtimeo", "sk_socket", "sk_type", "sk_wmem_alloc"),
    *_members("sock_common", "skc_daddr", "skc_dport", "skc_num", "skc_rcv_saddr"),
    *_members("sk_buff", "sk"),
    *_members("tcp_sock", "copied_seq", "rcv_nxt", "snd_una", "write_seq"),
    *_members("unix_address", "len", "name"),
    *_members("unix_sock", "addr", "peer"),
    # sysv.py
    *_members("ipc_namespace", "ids"),
    *_members("ipc_ids", "ipcs_idr"),
    *_members("kern_ipc_perm", "id", "key"),
    *_members("sem_array", "sem_nsems", "sem_perm", "sems"),
    *_members("sem", "pending_alter", "sempid", "semval"),
    *_members("sem_queue", "list", "nsops", "sleeper", "sops"),
    *_members("msg_queue", "q_lrpid", "q_lspid", "q_perm", "q_qnum"),
    # machine.py: epoll
    *_members("epitem", "event.events", "ffd.fd", "ffd.file", "rbn"),
    *_members("eventpoll", "rbr"),
    # polls.py
    *_members("poll_wqueues", "inline_entries", "inline_index", "pt._qproc", "pt._key", "table"),
    *_members("poll_wqueues", "triggered", "error"),
    *_members("poll_table_entry", "filp", "key", "wait.private"),
    *_members("poll_table_page", "entries", "entry", "next"),
    # waits/futex.py
    *_members("futex_q", "key.both.offset", "key.both.ptr", "lock_ptr", "pi_state", "task"),
    *_members("futex_pi_state", "owner", "pi_mutex"),
    # signals.py
    *_members("task_struct", "blocked", "exit_code", "jobctl", "last_siginfo", "pdeath_signal"),
    *_members("task_struct", "pending.list", "pending.list.next", "pending.signal"),
    *_members("signal_struct", "flags", "group_exit_code", "oom_mm"),
    *_members("signal_struct", "shared_pending.list", "shared_pending.list.next"),
    *_members("signal_struct", "shared_pending.signal"),
    (("signal_struct", "group_exec_task"), ("signal_struct", "group_exit_task")),
    *_members("sigqueue", "info", "list"),
    *_members("k_sigaction", "sa.sa_handler"),
    *_members("thread_struct", "cr2", "error_code", "trap_nr"),
    # waits/rcu.py
    *_members("rcu_state", "gp_seq"),
    *_members("rcu_data", "grpmask", "mynode"),
    *_members("rcu_node", "blkd_tasks", "exp_tasks", "expmask", "gp_tasks", "qsmask"),
    # blocked/: mounts.py, calls.py
    (("mount", "mnt_node"), ("mount", "mnt_list")),
    (("mnt_namespace", "mounts"), ("mnt_namespace", "list")),
    *_members("mount", "mnt_devname", "mnt_id", "mnt.mnt_sb"),
    *_members("super_block", "s_fs_info", "s_inodes", "s_subtype"),
    *_members("inode", "i_rdev", "i_sb_list"),
    *_members("nsproxy", "mnt_ns"),
    *_members("task_struct", "fs", "parent", "ptrace"),
    *_members("fs_struct", "pwd"),
    *_members("path", "dentry", "mnt"),
    *_members("filename", "name"),
    # blocked/devices.py, requests.py
    *_members("bdev_inode", "bdev", "vfs_inode"),
    *_members("block_device", "bd_dev"),
    (("block_device", "__bd_flags"), ("block_device", "bd_partno")),
    (("block_device", "bd_stats"), ("hd_struct", "dkstats")),
    *_members("disk_stats", "in_flight"),
    *_members("gendisk", "private_data", "queue"),
    *_members("request_queue", "mq_freeze_depth", "mq_ops", "rq_timeout", "tag_set"),
    *_members("blk_mq_tag_set", "nr_hw_queues", "tags"),
    *_members("blk_mq_tags", "nr_tags", "rqs"),
    *_members("request", "cmd_flags", "deadline", "part", "q", "state", "timeout"),
    *_members("clocksource", "mult", "shift"),
    *_members("swap_info_struct", "bdev", "flags"),
    # blocked/cgroups.py
    *_members("task_struct", "cgroups"),
    *_members("css_set", "dfl_cgrp", "subsys"),
    *_members("cgroup_subsys_state", "cgroup"),
    *_members("cgroup", "freezer", "kn", "root", "subsys"),
    *_members("cgroup_freezer_state", "freeze"),
    (("kernfs_node", "__parent"), ("kernfs_node", "parent")),
    *_members("kernfs_node", "name", "priv"),
    *_members("freezer", "css", "state"),
    *_members("mem_cgroup", "css", "memory"),
    *_members("page_counter", "high", "max", "usage"),
    *_members("worker", "desc"),
    # printk.py
    *_members("printk_ringbuffer", "desc_ring", "text_data_ring"),
    *_members("prb_desc_ring", "count_bits", "descs", "head_id", "infos", "tail_id"),
    *_members("prb_desc", "state_var", "text_blk_lpos"),
    *_members("prb_data_ring", "data", "size_bits"),
    *_members("printk_info", "text_len", "ts_nsec"),
    # blocked/drivers.py: of the modules dm_mod, loop and nbd
    *_members("bio", "bi_next"),
    *_members("mapped_device", "deferred.head", "disk", "flags", "interface_ptr", "map"),
    *_members("hash_cell", "name"),
    *_members("dm_table", "devices"),
    *_members("dm_dev_internal", "dm_dev", "list"),
    *_members("dm_dev", "bdev"),
    *_members("loop_device", "lo_backing_file", "lo_disk"),
    *_members("nbd_device", "config", "disk"),
    (("nbd_device", "pid"), ("nbd_device", "task_recv")),
    *_members("nbd_config", "socks"),
    *_members("nbd_sock", "sock"),
    # and scsi_mod
    *_members("request_queue", "queuedata"),
    *_members("scsi_device", "host", "request_queue", "sdev_state"),
    *_members("Scsi_Host", "host_failed", "shost_state"),
    # blocked/nfs.py: of the modules nfs and sunrpc
    *_members("nfs_server", "client"),
    *_members("rpc_clnt", "cl_tasks", "cl_xprt"),
    *_members("rpc_task", "tk_msg", "tk_rqstp", "tk_runstate", "tk_start", "tk_task"),
    *_members("rpc_task", "tk_waitqueue"),
    *_members("rpc_message", "rpc_proc"),
    *_members("rpc_procinfo", "p_name"),
    *_members("rpc_rqst", "rq_ntrans", "rq_xid"),
    *_members("rpc_wait_queue", "name"),
    *_members("rpc_xprt", "address_strings", "state"),
)
