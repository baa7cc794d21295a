/* What blocks tasks in D state, or only looks so. */
#define GUEST_FAULTS(F)		\
	/* devices.c */		\
	F(dm_suspended)		\
	F(dm_frozen)		\
	F(nbd_silent)		\
	F(scsi_silent)		\
	/* servers.c */		\
	F(loop_over_fuse)	\
	F(fuse_stopped)		\
	F(nfs_gone)		\
	/* processes.c */	\
	F(vfork_sleeps)		\
	F(frozen_v1)		\
	F(frozen_v2)		\
	/* memory.c */		\
	F(swap_in)		\
	F(memory_limit)		\
	/* uffd.c */		\
	F(userfault)		\
	/* busy.c */		\
	F(busy)			\
	F(waiters)		\
	/* ../../guest/crowd.c */	\
	F(crowd)
