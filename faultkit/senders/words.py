"""When the kernel comes to a place that sends a signal, in words."""

# By function; from the sources of 5.10 to 7.3.
_WHEN = {
    # faults and exceptions: arch/x86/mm/fault.c, arch/x86/kernel/traps.c
    "__bad_area_nosemaphore": "a user access to an address that nothing is mapped at, or that the "
    "mapping or its protection key does not permit",
    "do_user_addr_fault": "a user access whose page can't be had: beyond the end of its file, an "
    "I/O error, or hardware-poisoned memory",
    "do_sigbus": "a user access whose page can't be had: beyond the end of its file, an I/O error, "
    "or hardware-poisoned memory",
    "exc_divide_error": "integer division by zero, or a quotient that does not fit",
    "exc_overflow": "the instruction into",
    "exc_bounds": "the instruction bound",
    "exc_invalid_op": "an invalid instruction (ud2 among them)",
    "exc_coproc_segment_overrun": "coprocessor segment overrun",
    "exc_invalid_tss": "an invalid task state segment",
    "exc_segment_not_present": "a segment that is not present",
    "exc_stack_segment": "a non-canonical address used through the stack pointer",
    "exc_alignment_check": "a misaligned access with alignment checking on (EFLAGS.AC)",
    "exc_general_protection": "a general protection fault: a non-canonical address, or an "
    "instruction that user code may not use",
    "exc_int3": "a breakpoint instruction (int3)",
    "noist_exc_debug": "a single step, a hardware breakpoint or watchpoint",
    "exc_debug_user": "a single step, a hardware breakpoint or watchpoint",
    "exc_device_not_available": "an FPU instruction whose state can't be had",
    "exc_control_protection": "the shadow stack and a return address differ (CET)",
    "exc_virtualization_exception": "a virtualization exception of a TDX guest",
    "math_error": "a floating-point exception that the program has unmasked",
    "handle_bus_lock": "a bus lock, with split_lock_detect=fatal",
    "handle_guest_split_lock": "a guest's split lock, with split_lock_detect=fatal",
    "handle_user_split_lock": "a split lock, with split_lock_detect=fatal",
    "user_exc_vmm_communication": "a #VC exception of an SEV-ES guest that can't be handled",
    "fixup_umip_exception": "an emulated UMIP instruction (sgdt, sidt, smsw) with a bad operand",
    "emulate_vsyscall": "a vsyscall with bad arguments, or one that is not allowed",
    "__emulate_vsyscall": "a vsyscall with bad arguments, or one that is not allowed",
    "user_single_step_report": "a single step after a system call",
    "l1d_flush_force_sigbus": "a task that asked for L1D flushing runs on a CPU with SMT",
    # uprobes: kernel/events/uprobes.c, arch/x86/kernel/uprobes.c
    "uprobe_notify_resume": "a uprobe that can't go on, or an int3 that no uprobe put there",
    "uprobe_handle_trampoline": "a return probe's trampoline without a return to it",
    "arch_uprobe_post_xol": "a single step over a probed instruction",
    "arch_uprobe_skip_sstep": "a single step over a probed instruction",
    "arch_uretprobe_hijack_return_addr": "a return address that a return probe can't replace",
    "__x64_sys_uretprobe": "uretprobe() called from elsewhere than its trampoline",
    "__x64_sys_uprobe": "uprobe() called from elsewhere than its trampoline",
    # hardware memory errors: mm/memory-failure.c, arch/x86/kernel/cpu/mce, drivers/acpi/apei
    "kill_procs": "memory failure: a process maps a hardware-poisoned page; SIGKILL where the "
    "page could not be unmapped",
    "kill_proc": "memory failure: a process maps a hardware-poisoned page",
    "kill_accessing_process": "a process touched a page that was hardware-poisoned before",
    "kill_me_maybe": "a machine check while the task ran: the page could not be taken away",
    "kill_me_now": "a machine check while the task ran, in a place that can't be recovered",
    "arch_memory_failure": "memory failure in SGX memory",
    "ghes_do_proc": "firmware (APEI) reports a memory error that the task ran into",
    "memory_failure_cb": "memory failure that firmware (APEI) or a driver has queued",
    # signal frames, exec, exit: kernel/signal.c, fs/exec.c, kernel/exit.c
    "signal_setup_done": "the frame of a handler can't be written: the stack has overflowed, or "
    "the alternate stack is bad",
    "signal_fault": "sigreturn with a bad frame on the stack",
    "bprm_execve": "execve(): it failed behind the point of no return; SIGTRAP for a tracer",
    "load_elf_binary": "execve() of an ELF file that can't be mapped",
    "begin_new_exec": "execve() by one thread ends all the others",
    "de_thread": "execve() by one thread ends all the others",
    "do_group_exit": "one thread ends the process, by exit_group() or a fatal signal: the others "
    "are killed",
    "complete_signal": "a fatal signal without a core dump: all threads of the process are killed",
    "do_coredump": "a core is dumped: the other threads, and who else shares the memory, are "
    "killed",
    "vfs_coredump": "a core is dumped: the other threads, and who else shares the memory, are "
    "killed",
    "coredump_wait": "a core is dumped: the other threads, and who else shares the memory, are "
    "killed",
    "do_exit": "a task ends: SIGCHLD, or what clone() asked for, to its parent; PR_SET_PDEATHSIG "
    "to its children",
    "exit_notify": "a task ends: SIGCHLD, or what clone() asked for, to its parent",
    "forget_original_parent": "the parent has ended: what prctl(PR_SET_PDEATHSIG) asked for",
    "reparent_leader": "the parent has ended: what prctl(PR_SET_PDEATHSIG) asked for",
    "release_task": "the last thread of a process is gone: the parent is told of its leader's end",
    "wait_consider_task": "a tracer has reaped a traced task: its real parent is told",
    "__ptrace_detach": "a tracer detaches from a task that has ended: its parent is told",
    "ptrace_stop": "a traced task stops: its tracer is told, and its real parent",
    "do_signal_stop": "a process is stopped by SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU: its parent is "
    "told",
    "exit_signals": "the last running thread of a stopping process ends: its parent is told",
    "get_signal": "a process was stopped or continued: its parent is told; or a tracer changed the "
    "signal",
    "kill_orphaned_pgrp": "the last tie of a stopped process group to its session is gone: SIGHUP, "
    "then SIGCONT",
    "zap_pid_ns_processes": "init of a pid namespace has ended: all in it are killed",
    "reboot_pid_ns": "reboot() inside a pid namespace: its init is killed",
    "pidfs_file_release": "the last descriptor of a pidfd made with CLONE_PIDFD_AUTOKILL is closed",
    # out of memory, cgroups, limits
    "__oom_kill_process": "the OOM killer's choice, and who shares its memory",
    "oom_kill_process": "the OOM killer's choice",
    "__cgroup_kill": "a write to cgroup.kill",
    "cgroup_post_fork": "a process was born in a cgroup while that was being killed",
    "posix_cpu_timers_work": "CPU time limits (RLIMIT_CPU: SIGXCPU, SIGKILL; RLIMIT_RTTIME) and "
    "timers of setitimer()",
    "run_posix_cpu_timers": "CPU time limits (RLIMIT_CPU, RLIMIT_RTTIME) and timers of setitimer()",
    "generic_write_check_limits": "a write beyond RLIMIT_FSIZE",
    "inode_newsize_ok": "truncate() beyond RLIMIT_FSIZE",
    "audit_log_execve_info": "auditing can't read execve()'s arguments any more",
    "aa_audit": "AppArmor: a rule with `kill`",
    "__seccomp_filter": "a system call that a seccomp filter refuses with kill or trap",
    "__secure_computing_strict": "a system call that seccomp's strict mode does not know",
    "seccomp_log": "a system call that a seccomp filter refuses",
    "syscall_user_dispatch": "system call user dispatch: a call that its selector blocks, or a "
    "selector that can't be read",
    "__rseq_handle_notify_resume": "a thread's rseq area is bad, or can't be read",
    "__rseq_handle_slowpath": "a thread's rseq area is bad, or can't be read",
    "__rseq_signal_deliver": "a thread's rseq area is bad, or can't be read",
    "__rseq_debug_syscall_return": "a system call inside an rseq critical section",
    "rseq_syscall": "a system call inside an rseq critical section",
    "rseq_unregister": "rseq area that can't be written when it is given up",
    # timers and notifications
    "it_real_fn": "alarm() or setitimer(ITIMER_REAL) has expired",
    "check_cpu_itimer": "setitimer(ITIMER_VIRTUAL or ITIMER_PROF) has expired",
    "send_sigqueue": "a timer of timer_create() has expired",
    "posixtimer_queue_sigqueue": "a timer of timer_create() has expired",
    "posixtimer_send_sigqueue": "a timer of timer_create() has expired",
    "__do_notify": "mq_notify(): a message came to an empty queue",
    "do_notify": "mq_notify(): a message came to an empty queue",
    "send_sigio_to_task": "a descriptor with O_ASYNC is ready: SIGIO, or what F_SETSIG asked for",
    "send_sigurg": "urgent (out-of-band) data came to a socket with an owner (F_SETOWN)",
    "perf_pending_task": "a perf event with attr.sigtrap",
    "perf_pending_irq": "a perf event with attr.sigtrap",
    "do_bpf_send_signal": "a BPF program called bpf_send_signal()",
    "bpf_send_signal_common": "a BPF program called bpf_send_signal()",
    "usb_async_completed": "an asynchronous USB request (usbfs) is done",
    "async_completed": "an asynchronous USB request (usbfs) is done",
    # terminals and consoles: drivers/tty
    "n_tty_receive_buf_standard": "a key at the terminal: Ctrl-C, Ctrl-\\ or Ctrl-Z",
    "n_tty_receive_char_special": "a key at the terminal: Ctrl-C, Ctrl-\\ or Ctrl-Z",
    "n_tty_receive_char_flagged": "a break condition at the terminal, with BRKINT",
    "n_tty_receive_break": "a break condition at the terminal, with BRKINT",
    "n_tty_read": "a background job reads its terminal",
    "tty_check_change": "a background job changes the settings of its terminal, or writes with "
    "TOSTOP",
    "tty_jobctrl_ioctl": "a background job takes the terminal (tcsetpgrp())",
    "tty_do_resize": "the terminal's window has changed its size",
    "pty_resize": "the terminal's window has changed its size",
    "pty_signal": "TIOCSIG: whoever has the other end of a pty sends a signal",
    "disassociate_ctty": "the session leader has ended, or gives up its terminal",
    "tty_signal_session_leader": "the terminal was hung up: the line was dropped, the terminal's "
    "window or connection closed",
    "__do_SAK": "the secure attention key (sysrq-k)",
    "sysrq_handle_term": "sysrq-e: SIGTERM to everybody but init",
    "sysrq_handle_kill": "sysrq-i: SIGKILL to everybody but init",
    "ctrl_alt_del": "Ctrl-Alt-Del: to init",
    "fn_spawn_con": "the keyboard's spawn-console key, to who asked for it (KDSIGACCEPT)",
    "change_console": "the console is switched: to who controls it (VT_SETMODE)",
    "complete_change_console": "the console is switched: to who controls it (VT_SETMODE)",
    # pipes and sockets
    "pipe_write": "a write to a pipe that nobody reads any more",
    "anon_pipe_write": "a write to a pipe that nobody reads any more",
    "add_to_pipe": "splice() to a pipe that nobody reads any more",
    "splice_to_pipe": "splice() to a pipe that nobody reads any more",
    "wait_for_space": "splice() to a pipe that nobody reads any more",
    "do_splice": "splice() to a pipe that nobody reads any more",
    "opipe_prep": "splice() or tee() to a pipe that nobody reads any more",
    "do_tee": "tee() to a pipe that nobody reads any more",
    "__do_sys_vmsplice": "vmsplice() to a pipe that nobody reads any more",
    "sk_stream_error": "a write to a stream socket that is closed",
    "unix_stream_sendmsg": "a write to a unix socket whose peer is gone",
    "unix_stream_sendpage": "a write to a unix socket whose peer is gone",
    # tracing
    "ptrace_attach": "ptrace(PTRACE_ATTACH)",
    "ptrace_request": "ptrace(PTRACE_KILL)",
    "exit_ptrace": "a tracer with PTRACE_O_EXITKILL has ended",
    "syscall_trace_enter": "what a tracer asks for at a system call",
    "syscall_exit_to_user_mode": "what a tracer asks for at a system call",
    "syscall_exit_to_user_mode_prepare": "what a tracer asks for at a system call",
    "ret_from_fork": "what a tracer asks for at a system call",
    "do_syscall_64": "what a tracer asks for at a system call",
    "do_int80_emulation": "what a tracer asks for at a system call",
    "fred_int80_emulation": "what a tracer asks for at a system call",
    "__do_fast_syscall_32": "what a tracer asks for at a system call",
}
# By the rest of a system call's name
_CALLS = {
    "kill": "kill()",
    "tkill": "tkill()",
    "tgkill": "tgkill(), pthread_kill(), raise()",
    "rt_sigqueueinfo": "sigqueue()",
    "rt_tgsigqueueinfo": "pthread_sigqueue()",
    "pidfd_send_signal": "pidfd_send_signal()",
}
# By where in the source a function is
_PLACES = (
    ("arch/x86/kvm/", "a KVM guest"),
    ("arch/x86/kernel/cpu/mce", "a machine check"),
    ("arch/x86/", "an exception of the CPU"),
    ("mm/memory-failure", "hardware-poisoned memory"),
    ("mm/oom_kill", "the OOM killer"),
    ("drivers/tty/", "a terminal"),
    ("drivers/usb/", "a USB device"),
    ("fs/nfs", "NFS"),
    ("net/", "the network"),
    ("security/", "a security module"),
    ("kernel/ptrace", "a tracer"),
    ("kernel/time/", "a timer"),
)
_CALL_PREFIXES = ("__x64_", "__ia32_", "__x32_", "__do_", "__se_", "compat_", "sys_")


def when(function: str, file: "str | None" = None) -> str:
    """When the function sends a signal, in words; "" where that is not known."""
    known = _WHEN.get(function)
    if known is not None:
        return known
    call = system_call(function)
    if call:
        return _CALLS.get(call, f"the system call {call}()")
    for place, words in _PLACES:
        if file and place in file:
            return words
    return ""


def system_call(function: str) -> str:
    """The system call that a function is the beginning of ("__x64_sys_kill": "kill"), or ""."""
    rest, found = function, False
    for prefix in _CALL_PREFIXES:
        if rest.startswith(prefix):
            rest = rest[len(prefix) :]
            found = found or prefix == "sys_"
    return rest if found else ""
