// SPDX-License-Identifier: GPL-2.0
/* Waits for another task's deed: completions, kthread_stop, work items */
#include <linux/workqueue.h>

#include "faultlab.h"

#ifdef WQ_PERCPU /* 6.17: one of the two has to be said */
#define BOUND WQ_PERCPU
#else
#define BOUND 0
#endif

/* co-a holds what co-b needs before it can complete what co-a waits for. */
DECLARE_COMPLETION(lab_done);
DEFINE_MUTEX(lab_done_mutex);
static atomic_t done_place;

static int done_a(void *unused)
{
	mutex_lock(&lab_done_mutex);
	meet(&done_place, 2);
	FOREVER(wait_for_completion(&lab_done));
	mutex_unlock(&lab_done_mutex);
	return 0;
}

static int done_b(void *unused)
{
	meet(&done_place, 2);
	FOREVER(mutex_lock(&lab_done_mutex));
	complete(&lab_done);
	return 0;
}

FAULT(completion_mutex)
{
	actor("co-a", done_a, NULL);
	actor("co-b", done_b, NULL);
}

/* ks-a stops ks-b, which wants what ks-a holds. */
DEFINE_MUTEX(lab_stop_mutex);
static atomic_t stop_place;

static int stop_a(void *other)
{
	mutex_lock(&lab_stop_mutex);
	meet(&stop_place, 2);
	FOREVER(kthread_stop(other));
	return 0;
}

static int stop_b(void *unused)
{
	meet(&stop_place, 2);
	FOREVER(mutex_lock(&lab_stop_mutex));
	return 0;
}

FAULT(kthread_stop_mutex)
{
	actor("ks-a", stop_a, actor("ks-b", stop_b, NULL));
}

/* NAME-a holds the mutex that the item wants which it waits for, in one way or another. */
#define FLUSH(name, prefix, flags, step)					\
	DEFINE_MUTEX(lab_##name##_mutex);					\
	static struct workqueue_struct *name##_queue;				\
	static atomic_t name##_place;						\
	static void name##_item(struct work_struct *work)			\
	{									\
		meet(&name##_place, 2);						\
		FOREVER(mutex_lock(&lab_##name##_mutex));			\
	}									\
	DECLARE_WORK(lab_##name##_work, name##_item);				\
	static int name##_a(void *unused)					\
	{									\
		mutex_lock(&lab_##name##_mutex);				\
		queue_work(name##_queue, &lab_##name##_work);			\
		meet(&name##_place, 2);						\
		FOREVER(step);							\
		return 0;							\
	}									\
	FAULT(name)								\
	{									\
		name##_queue = alloc_workqueue("lab_" #name, flags, 0);		\
		expect_others(1);						\
		actor(prefix "-a", name##_a, NULL);				\
	}

FLUSH(flush_work, "fw", WQ_UNBOUND, flush_work(&lab_flush_work_work))
FLUSH(cancel_work, "cw", BOUND, cancel_work_sync(&lab_cancel_work_work))
FLUSH(flush_queue, "fq", WQ_UNBOUND, flush_workqueue(flush_queue_queue))
FLUSH(drain_queue, "dq", WQ_UNBOUND, drain_workqueue(drain_queue_queue))

/* An item that waits for another item of its own ordered queue, which comes after it. */
static void later_item(struct work_struct *work)
{
}
DECLARE_WORK(lab_later_work, later_item);
static struct workqueue_struct *ordered_queue;

static void ordered_item(struct work_struct *work)
{
	queue_work(ordered_queue, &lab_later_work);
	FOREVER(flush_work(&lab_later_work));
}
DECLARE_WORK(lab_ordered_work, ordered_item);

FAULT(flush_ordered)
{
	ordered_queue = alloc_ordered_workqueue("lab_ordered", 0);
	expect_others(1);
	queue_work(ordered_queue, &lab_ordered_work);
}
