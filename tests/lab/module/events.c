// SPDX-License-Identifier: GPL-2.0
/* More waits for somebody's deed: parked threads, programs, workers, grace periods; queues */
#include <linux/rcupdate.h>
#include <linux/umh.h>
#include <linux/workqueue.h>

#include "faultlab.h"

/* kp-a parks kp-b, which wants what kp-a holds. */
DEFINE_MUTEX(lab_park_mutex);
static atomic_t park_place;

static int park_a(void *other)
{
	mutex_lock(&lab_park_mutex);
	meet(&park_place, 2);
	FOREVER(IGNORE(kthread_park(other)));
	return 0;
}

static int park_b(void *unused)
{
	meet(&park_place, 2);
	return wants_mutex(&lab_park_mutex);
}

FAULT(kthread_park_mutex)
{
	actor("kp-a", park_a, actor("kp-b", park_b, NULL));
}

/* kw-a waits for an item of a kthread_worker, kw-worker, which wants what kw-a holds. */
DEFINE_MUTEX(lab_kwork_mutex);
static atomic_t kwork_place;
static struct kthread_worker *kwork_worker;

static void kwork_item(struct kthread_work *work)
{
	meet(&kwork_place, 2);
	wants_mutex(&lab_kwork_mutex);
}
static DEFINE_KTHREAD_WORK(lab_kwork, kwork_item);

static int kwork_a(void *unused)
{
	mutex_lock(&lab_kwork_mutex);
	kthread_queue_work(kwork_worker, &lab_kwork);
	meet(&kwork_place, 2);
	FOREVER(kthread_flush_work(&lab_kwork));
	return 0;
}

FAULT(kthread_work)
{
	expect_others(1);
	kwork_worker = kthread_create_worker(0, "kw-worker");
#ifdef kthread_run_worker /* 6.14: creating no longer wakes it */
	wake_up_process(kwork_worker->task);
#endif
	actor("kw-a", kwork_a, NULL);
}

/* hb-a flushes an item that is held back, as its queue has one in progress, and no more are
 * allowed: that one wants what hb-a holds. */
DEFINE_MUTEX(lab_held_mutex);
static atomic_t held_place;
static struct workqueue_struct *held_queue;

static void held_active(struct work_struct *work)
{
	meet(&held_place, 2);
	wants_mutex(&lab_held_mutex);
}
static DECLARE_WORK(lab_held_active, held_active);

static void held_back(struct work_struct *work)
{
}
static DECLARE_WORK(lab_held_back, held_back);

static int held_a(void *unused)
{
	mutex_lock(&lab_held_mutex);
	queue_work(held_queue, &lab_held_active);
	meet(&held_place, 2);
	queue_work(held_queue, &lab_held_back);
	FOREVER(flush_work(&lab_held_back));
	return 0;
}

FAULT(held_back)
{
	held_queue = alloc_ordered_workqueue("lab_held", 0);
	expect_others(1);
	actor("hb-a", held_a, NULL);
}

/* tf-first flushes a queue whose item wants what tf-second holds, which flushes it as well. */
DEFINE_MUTEX(lab_flushers_mutex);
static atomic_t flushers_place;
static struct workqueue_struct *flushers_queue;

static void flushers_item(struct work_struct *work)
{
	meet(&flushers_place, 3);
	wants_mutex(&lab_flushers_mutex);
}
static DECLARE_WORK(lab_flushers_work, flushers_item);

static int flushers_first(void *unused)
{
	queue_work(flushers_queue, &lab_flushers_work);
	meet(&flushers_place, 3);
	FOREVER(flush_workqueue(flushers_queue));
	return 0;
}

static int flushers_second(void *unused)
{
	mutex_lock(&lab_flushers_mutex);
	meet(&flushers_place, 3);
	msleep(300); /* tf-first comes first */
	FOREVER(flush_workqueue(flushers_queue));
	return 0;
}

FAULT(two_flushers)
{
	flushers_queue = alloc_workqueue("lab_flushers", WQ_UNBOUND, 0);
	expect_others(1);
	actor("tf-first", flushers_first, NULL);
	actor("tf-second", flushers_second, NULL);
}

/* um-a has started a program that does not end, and holds what um-b wants. */
DEFINE_MUTEX(lab_helper_mutex);

static int helper_a(void *unused)
{
	char *argv[] = { "/bin/busybox", "sleep", "100000", NULL };
	char *envp[] = { NULL };

	mutex_lock(&lab_helper_mutex);
	FOREVER(IGNORE(call_usermodehelper(argv[0], argv, envp, UMH_WAIT_PROC)));
	return 0;
}

FAULT(usermode_helper)
{
	actor("um-a", helper_a, NULL);
	actor("um-b", wants_mutex, &lab_helper_mutex);
}

/* gp-waiter waits for a grace period, which gp-spinner holds up, and has what gp-victim wants. */
DEFINE_MUTEX(lab_grace_mutex);
static atomic_t grace_place;

static int grace_spinner(void *unused)
{
	preempt_disable();
	atomic_inc(&grace_place);
	FOREVER_SPINNING(for (;;) cpu_relax());
	return 0;
}

static int grace_waiter(void *unused)
{
	mutex_lock(&lab_grace_mutex);
	meet(&grace_place, 2);
	FOREVER(synchronize_rcu());
	return 0;
}

FAULT(grace_period)
{
	actor("gp-waiter", grace_waiter, NULL);
	actor("gp-victim", wants_mutex, &lab_grace_mutex);
	actor_on(1, "gp-spinner", grace_spinner, NULL);
}
