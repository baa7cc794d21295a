// SPDX-License-Identifier: GPL-2.0
/* struct rw_semaphore and percpu_rw_semaphore */
#include <linux/percpu-rwsem.h>
#include <linux/rwsem.h>

#include "faultlab.h"

/* Two writers. */
DECLARE_RWSEM(lab_index);
DECLARE_RWSEM(lab_journal);
CROSS(rwsem_writers, "rw",
      down_write(&lab_index), down_write(&lab_journal),
      down_write(&lab_journal), down_write(&lab_index))

/* rm-a reads and wants the mutex, whose owner wants to write. */
DECLARE_RWSEM(lab_tree);
DEFINE_MUTEX(lab_tree_mutex);
CROSS(rwsem_reader, "rm",
      down_read(&lab_tree), mutex_lock(&lab_tree_mutex),
      mutex_lock(&lab_tree_mutex), down_write(&lab_tree))

/* wm-a writes and wants the mutex, whose owner wants to read. */
DECLARE_RWSEM(lab_map);
DEFINE_MUTEX(lab_map_mutex);
CROSS(rwsem_writer, "wm",
      down_write(&lab_map), mutex_lock(&lab_map_mutex),
      mutex_lock(&lab_map_mutex), down_read(&lab_map))

/* Interruptible and killable sleeps. */
DECLARE_RWSEM(lab_first);
DECLARE_RWSEM(lab_second);
CROSS(rwsem_killable, "rk",
      down_write(&lab_first), IGNORE(down_write_killable(&lab_second)),
      down_write(&lab_second), IGNORE(down_read_interruptible(&lab_first)))

/*
 * rq-reader reads and wants the mutex; rq-writer queues to write; rq-late has the mutex and wants
 * to read, which it could if there were no writer before it in the queue.
 */
DECLARE_RWSEM(lab_queue);
DEFINE_MUTEX(lab_queue_mutex);
static atomic_t queue_place;

static int queue_reader(void *unused)
{
	down_read(&lab_queue);
	meet(&queue_place, 2);
	FOREVER(mutex_lock(&lab_queue_mutex));
	return 0;
}

static int queue_writer(void *unused)
{
	while (atomic_read(&queue_place) < 2)
		msleep(1);
	FOREVER(down_write(&lab_queue));
	return 0;
}

static int queue_late(void *unused)
{
	mutex_lock(&lab_queue_mutex);
	meet(&queue_place, 2);
	while (!rwsem_is_contended(&lab_queue))
		msleep(1);
	FOREVER(down_read(&lab_queue));
	return 0;
}

FAULT(rwsem_queued_writer)
{
	actor("rq-reader", queue_reader, NULL);
	actor("rq-writer", queue_writer, NULL);
	actor("rq-late", queue_late, NULL);
}

/* A reader that reads again while a writer queues. */
DECLARE_RWSEM(lab_again);

static int again_reader(void *unused)
{
	down_read(&lab_again);
	while (!rwsem_is_contended(&lab_again))
		msleep(1);
	FOREVER(down_read(&lab_again));
	return 0;
}

static int again_writer(void *unused)
{
	while (!rwsem_is_locked(&lab_again))
		msleep(1);
	FOREVER(down_write(&lab_again));
	return 0;
}

FAULT(rwsem_read_twice)
{
	actor("again-reader", again_reader, NULL);
	actor("again-writer", again_writer, NULL);
}

/*
 * Four read, three of them at rest; rr-3 wants the mutex, whose owner rr-w wants to write.
 */
DECLARE_RWSEM(lab_shared);
DEFINE_MUTEX(lab_shared_mutex);
#define READERS 4
static atomic_t shared_place;

static int shared_reader(void *argument)
{
	long i = (long)argument;

	down_read(&lab_shared);
	meet(&shared_place, READERS + 1);
	if (i == READERS - 1)
		FOREVER(mutex_lock(&lab_shared_mutex));
	rest_interruptible();
	up_read(&lab_shared);
	return 0;
}

static int shared_writer(void *unused)
{
	mutex_lock(&lab_shared_mutex);
	meet(&shared_place, READERS + 1);
	FOREVER(down_write(&lab_shared));
	return 0;
}

FAULT(rwsem_readers)
{
	char name[16];
	long i;

	for (i = 0; i < READERS; i++) {
		snprintf(name, sizeof(name), "rr-%ld", i);
		actor(name, shared_reader, (void *)i);
	}
	actor("rr-w", shared_writer, NULL);
}

/* percpu_rw_semaphore: its writer holds, or its reader. */
DEFINE_PERCPU_RWSEM(lab_percpu);
DEFINE_MUTEX(lab_percpu_mutex);
CROSS(percpu_writer, "pw",
      percpu_down_write(&lab_percpu), mutex_lock(&lab_percpu_mutex),
      mutex_lock(&lab_percpu_mutex), percpu_down_read(&lab_percpu))

DEFINE_PERCPU_RWSEM(lab_percpu_read);
DEFINE_MUTEX(lab_percpu_read_mutex);
CROSS(percpu_reader, "pr",
      percpu_down_read(&lab_percpu_read), mutex_lock(&lab_percpu_read_mutex),
      mutex_lock(&lab_percpu_read_mutex), percpu_down_write(&lab_percpu_read))
