// SPDX-License-Identifier: GPL-2.0
/* Threads that take locks of all kinds all the time, always in the same order, and get on */
#include <linux/percpu-rwsem.h>
#include <linux/random.h>
#include <linux/rtmutex.h>
#include <linux/rwsem.h>
#include <linux/semaphore.h>
#include <linux/workqueue.h>

#include "faultlab.h"

static DEFINE_MUTEX(storm_outer);
static DEFINE_MUTEX(storm_inner);
static DECLARE_RWSEM(storm_tree);
DEFINE_STATIC_PERCPU_RWSEM(storm_percpu);
static struct semaphore storm_pair = __SEMAPHORE_INITIALIZER(storm_pair, 2);
static DEFINE_RT_MUTEX(storm_urgent);
static struct workqueue_struct *storm_queue;

static bool chance(unsigned int percent)
{
	return get_random_u32() % 100 < percent;
}

static void pause_a_little(void)
{
	if (chance(30))
		usleep_range(50, 500);
	else
		cond_resched();
}

/* Items take a lock, too, that nobody holds who waits for an item. */
static void storm_item(struct work_struct *work)
{
	mutex_lock(&storm_inner);
	pause_a_little();
	mutex_unlock(&storm_inner);
}
static DECLARE_WORK(storm_work, storm_item);

static void storm_turn(void)
{
	bool outer = chance(8), tree = chance(60), writes = chance(20), pair = chance(50);
	bool urgent = chance(40), percpu = chance(40), inner = chance(40);

	if (outer)
		mutex_lock(&storm_outer);
	if (tree && writes)
		down_write(&storm_tree);
	else if (tree)
		down_read(&storm_tree);
	if (pair)
		down(&storm_pair);
	pause_a_little();
	if (urgent)
		rt_mutex_lock(&storm_urgent);
	if (percpu && chance(30))
		percpu_down_write(&storm_percpu), percpu_up_write(&storm_percpu);
	if (percpu)
		percpu_down_read(&storm_percpu);
	if (inner)
		mutex_lock(&storm_inner);
	pause_a_little();
	if (inner)
		mutex_unlock(&storm_inner);
	if (percpu)
		percpu_up_read(&storm_percpu);
	if (urgent)
		rt_mutex_unlock(&storm_urgent);
	if (pair)
		up(&storm_pair);
	if (chance(20)) {
		queue_work(storm_queue, &storm_work);
		if (chance(50))
			flush_work(&storm_work);
		else
			flush_workqueue(storm_queue);
	}
	if (tree && writes)
		up_write(&storm_tree);
	else if (tree)
		up_read(&storm_tree);
	if (outer)
		mutex_unlock(&storm_outer);
}

static int storm_thread(void *unused)
{
	stays_here();
	for (;;)
		storm_turn();
	return 0;
}

FAULT(quiet_storm)
{
	char name[16];
	unsigned int i;

	storm_queue = alloc_workqueue("lab_storm", WQ_UNBOUND, 1);
	for (i = 0; i < 24; i++) {
		snprintf(name, sizeof(name), "storm-%u", i);
		actor(name, storm_thread, NULL);
	}
}
