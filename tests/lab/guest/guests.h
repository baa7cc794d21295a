/* Every userspace fault there is. */
#define GUEST_FAULTS(F)		\
	/* futexes.c */		\
	F(user_mutex)		\
	F(user_mutex_shared)	\
	F(user_mutex_pi)	\
	F(user_mutex_timed)	\
	F(user_mutex_robust)	\
	F(user_rwlock)		\
	F(user_rwlock_reader)	\
	F(user_join)		\
	F(user_quiet)		\
	/* files.c */		\
	F(flock_abba)		\
	F(posix_flock)		\
	F(ofd_abba)		\
	F(pipe_cycle)		\
	F(pipe_full)		\
	F(unix_cycle)		\
	F(sysv_semaphore)	\
	F(wait_child)		\
	/* streams.c */		\
	F(poll_cycle)		\
	F(unix_accept)		\
	F(tcp_cycle)		\
	F(sysv_messages)	\
	F(stream_quiet)		\
	/* device.c */		\
	F(user_kernel)		\
	F(user_kthread)		\
	F(user_chain)		\
	/* mounts.c */		\
	F(fuse_silent)		\
	F(fuse_flock)		\
	F(frozen)		\
	/* events.c */		\
	F(mmap_lock)		\
	F(vfork_flock)		\
	F(core_dump)		\
	/* crowd.c */		\
	F(crowd)
