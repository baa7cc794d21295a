"""Waits of programs in system calls: futexes, pipes, sockets, file locks, System V IPC, children,
polls.  The kernel's functions say that a task sleeps there; what it waits for, the providers for
live processes tell (faultkit/waits)."""

from __future__ import annotations

from faultkit.kernel.programs import programs_of
from faultkit.kernel.sleeper import Sleeper
from faultkit.model import Wait
from faultkit.waits.calls import child, file_lock, flock, pipe, poll, socket, sysv_msg, sysv_sem

FUNCTIONS = frozenset(
    (
        # fs/pipe.c; 6.15 split off the unnamed ones
        "pipe_read",
        "pipe_write",
        "anon_pipe_read",
        "anon_pipe_write",
        "fifo_open",
        "fifo_pipe_read",
        "fifo_pipe_write",
        # fs/locks.c
        "locks_lock_inode_wait",
        "flock_lock_inode_wait",
        "posix_lock_inode_wait",
        "fcntl_setlk",
        "do_lock_file_wait",
        "__do_sys_flock",
        # net
        "unix_stream_read_generic",
        "unix_stream_data_wait",
        "unix_stream_connect",
        "unix_wait_for_peer",
        "unix_stream_sendmsg",
        "unix_dgram_sendmsg",
        "__skb_wait_for_more_packets",
        "sock_alloc_send_pskb",
        "sk_wait_data",
        "sk_stream_wait_memory",
        "sk_stream_wait_connect",
        "inet_wait_for_connect",
        # ipc
        "do_semtimedop",
        "__do_semtimedop",
        "do_msgrcv",
        "do_msgsnd",
        # kernel/exit.c
        "do_wait",
        "kernel_wait4",
        "kernel_waitid",
        # fs/select.c, fs/eventpoll.c
        "do_sys_poll",
        "do_poll",
        "do_select",
        "ep_poll",
        "do_epoll_wait",
    )
)
PRIORITY = 40

MODULES = (child, file_lock, flock, pipe, poll, socket, sysv_msg, sysv_sem)
NUMBERS = frozenset(number for module in MODULES for number in module.SYSCALLS)


def recognise(sleeper: Sleeper) -> Wait | None:
    """The wait by the task's system call."""
    call = sleeper.call
    if call is None or call.orig_rax not in NUMBERS:
        return None
    return programs_of(sleeper.system).look(sleeper)
