"""The system calls of x86_64 by number: their names, and where a file is among the arguments."""

from __future__ import annotations

# arch/x86/entry/syscalls/syscall_64.tbl; a number once given never changes its meaning.
_NAMES = """
read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction
rt_sigprocmask rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield
mremap msync mincore madvise shmget shmat shmctl dup dup2 pause nanosleep getitimer alarm
setitimer getpid sendfile socket connect accept sendto recvfrom sendmsg recvmsg shutdown bind
listen getsockname getpeername socketpair setsockopt getsockopt clone fork vfork execve exit wait4
kill uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock fsync fdatasync
truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink
readlink chmod fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo times
ptrace getuid syslog getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid setreuid
setregid getgroups setgroups setresuid getresuid setresgid getresgid getpgid setfsuid setfsgid
getsid capget capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime
mknod uselib personality ustat statfs fstatfs sysfs getpriority setpriority sched_setparam
sched_getparam sched_setscheduler sched_getscheduler sched_get_priority_max sched_get_priority_min
sched_rr_get_interval mlock munlock mlockall munlockall vhangup modify_ldt pivot_root _sysctl
prctl arch_prctl adjtimex setrlimit chroot sync acct settimeofday mount umount2 swapon swapoff
reboot sethostname setdomainname iopl ioperm create_module init_module delete_module
get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg afs_syscall tuxcall security
gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr
flistxattr removexattr lremovexattr fremovexattr tkill time futex sched_setaffinity
sched_getaffinity set_thread_area io_setup io_destroy io_getevents io_submit io_cancel
get_thread_area lookup_dcookie epoll_create epoll_ctl_old epoll_wait_old remap_file_pages
getdents64 set_tid_address restart_syscall semtimedop fadvise64 timer_create timer_settime
timer_gettime timer_getoverrun timer_delete clock_settime clock_gettime clock_getres
clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes vserver mbind set_mempolicy
get_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr kexec_load
waitid add_key request_key keyctl ioprio_set ioprio_get inotify_init inotify_add_watch
inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat futimesat newfstatat unlinkat
renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll unshare set_robust_list
get_robust_list splice tee sync_file_range vmsplice move_pages utimensat epoll_pwait signalfd
timerfd_create eventfd fallocate timerfd_settime timerfd_gettime accept4 signalfd4 eventfd2
epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open recvmmsg
fanotify_init fanotify_mark prlimit64 name_to_handle_at open_by_handle_at clock_adjtime syncfs
sendmmsg setns getcpu process_vm_readv process_vm_writev kcmp finit_module sched_setattr
sched_getattr renameat2 seccomp getrandom memfd_create kexec_file_load bpf execveat userfaultfd
membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx
io_pgetevents rseq
""".split()
_FROM_424 = """
pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen
fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2
process_madvise epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule
landlock_restrict_self memfd_secret process_mrelease futex_waitv set_mempolicy_home_node cachestat
fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount
lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat
removexattrat open_tree_attr file_getattr file_setattr
""".split()

AT_FDCWD = -100

# The argument that is a descriptor of what the call works on, where it is not the first.
_OTHER_FD = {"mmap": 4, "epoll_ctl": 2, "splice": 0, "sendfile": 1, "io_uring_enter": 0}
_FD_FIRST = frozenset(
    """
    read write close fstat lseek ioctl pread64 pwrite64 readv writev sendto recvfrom sendmsg
    recvmsg fcntl flock fsync fdatasync ftruncate getdents getdents64 fchdir fchmod fchown fstatfs
    fadvise64 readahead fallocate sync_file_range syncfs preadv pwritev preadv2 pwritev2
    fsetxattr fgetxattr flistxattr fremovexattr copy_file_range tee vmsplice accept accept4
    connect epoll_wait epoll_pwait sendmmsg recvmmsg
    """.split()
)
# The arguments (descriptor of the directory or None, path) of calls that name a file.
_PATHS: dict[str, tuple[int | None, int]] = {
    **dict.fromkeys(
        """
        open stat lstat access truncate chdir rename mkdir rmdir creat link unlink symlink
        readlink chmod chown lchown utime mknod statfs uselib pivot_root chroot acct setxattr
        lsetxattr getxattr lgetxattr listxattr llistxattr removexattr lremovexattr utimes execve
        umount2 swapon swapoff
        """.split(),
        (None, 0),
    ),
    **dict.fromkeys(
        """
        openat mkdirat mknodat fchownat futimesat newfstatat unlinkat renameat linkat readlinkat
        fchmodat faccessat utimensat name_to_handle_at renameat2 execveat statx openat2
        faccessat2 fchmodat2 open_tree
        """.split(),
        (0, 1),
    ),
    "symlinkat": (1, 2),
    "symlink": (None, 1),
    "mount": (None, 1),
}


def syscall_name(nr: int) -> str:
    """The call's name, "system call N" for a number that is not known here."""
    if 0 <= nr < len(_NAMES):
        return _NAMES[nr]
    if 424 <= nr < 424 + len(_FROM_424):
        return _FROM_424[nr - 424]
    return f"system call {nr}"


def descriptor_argument(nr: int) -> int | None:
    """Which argument is the descriptor of the file that the call works on, None if none is."""
    name = syscall_name(nr)
    return 0 if name in _FD_FIRST else _OTHER_FD.get(name)


def path_arguments(nr: int) -> tuple[int | None, int] | None:
    """Which arguments are (the directory's descriptor, the path), None if there is no path."""
    return _PATHS.get(syscall_name(nr))
