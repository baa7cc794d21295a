/* SPDX-License-Identifier: GPL-2.0 */
/* Every fault there is. */
#define FAULTLAB_FAULTS(F)	\
	/* mutex.c */		\
	F(mutex_abba)		\
	F(mutex_ring)		\
	F(mutex_self)		\
	F(mutex_victims)	\
	F(mutex_interruptible)	\
	F(mutex_killable)	\
	F(mutex_heap)		\
	F(mutex_orphan)		\
	F(mutex_reused)		\
	F(mutex_garbage)	\
	F(mutex_freed)		\
	/* rwsem.c */		\
	F(rwsem_writers)	\
	F(rwsem_reader)		\
	F(rwsem_writer)		\
	F(rwsem_killable)	\
	F(rwsem_queued_writer)	\
	F(rwsem_read_twice)	\
	F(rwsem_readers)	\
	F(percpu_writer)	\
	F(percpu_reader)	\
	/* locks.c */		\
	F(semaphore_mutex)	\
	F(semaphore_abba)	\
	F(rt_mutex_abba)	\
	F(rt_mutex_detected)	\
	F(rt_mutex_mutex)	\
	F(ww_mutex_abba)	\
	F(ww_mutex_context)	\
	/* work.c */		\
	F(completion_mutex)	\
	F(kthread_stop_mutex)	\
	F(flush_work)		\
	F(cancel_work)		\
	F(flush_queue)		\
	F(drain_queue)		\
	F(flush_ordered)	\
	/* spin.c */		\
	F(spin_abba_irqs_off)	\
	F(spin_abba)		\
	F(spin_self)		\
	F(spin_busy)		\
	F(spin_slept)		\
	F(spin_queued)		\
	/* pages.c */		\
	F(folio_lock)		\
	F(buffer_lock)		\
	F(folio_mutex)		\
	/* device.c */		\
	F(device_kthread)	\
	/* quiet.c */		\
	F(quiet_contention)	\
	F(quiet_slow_holder)	\
	F(quiet_services)	\
	F(quiet_crowd) \
	/* events.c */		\
	F(kthread_park_mutex)	\
	F(kthread_work)		\
	F(held_back)		\
	F(two_flushers)		\
	F(usermode_helper)	\
	F(grace_period) \
	/* storm.c */		\
	F(quiet_storm) \
	/* infer.c */		\
	F(spin_objects) \
	F(spin_irq) \
	F(rwlock_cross) \
	F(spin_hot) \
	F(reader_helped) \
	F(reader_calm) \
	F(reader_past) \
	F(semaphore_objects) \
	F(completion_helped) \
	F(percpu_objects)
