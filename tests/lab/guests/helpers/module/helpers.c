// SPDX-License-Identifier: GPL-2.0
/*
 * Locks that are given back by helpers of helpers, or by what a pointer says, and completions that
 * helpers would complete.  Whoever takes one here and gives it back then waits for `busy`, whose
 * owner wants the lock; who really has it took it where nobody sees it any more.
 */
#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu-rwsem.h>
#include <linux/rwlock.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/semaphore.h>
#include <linux/slab.h>

#include "labhelpers.h"

static int spin;
module_param(spin, int, 0444);

struct box;

struct box_operations {
	void (*leave)(struct box *box);
};

struct box {
	struct mutex busy;
	struct rw_semaphore sem;
	struct semaphore slots;
	struct percpu_rw_semaphore often;
	struct completion done;
	const struct box_operations *operations;
	void (*release)(struct box *box);
	struct list_head list;
	atomic_t users, place;
	int count;
};

struct visit {
	struct box *box, *next;
	int turn;
};

static int work; /* behind calls, which so are no jumps */

/* How deep helpers are nested: the innermost gives back, or takes, the lock. */
#define HELPERS(name, argument, step)						\
	static noinline void name##_1(argument) { step; work++; }		\
	static noinline void name##_2(argument) { name##_1(it); work++; }	\
	static noinline void name##_3(argument) { name##_2(it); work++; }	\
	static noinline void name##_4(argument) { name##_3(it); work++; }	\
	static noinline void name##_5(argument) { name##_4(it); work++; }	\
	static noinline void name##_6(argument) { name##_5(it); work++; }	\
	static noinline void name##_7(argument) { name##_6(it); work++; }

HELPERS(leave, struct box *it, up_read(&it->sem))
HELPERS(enter, struct box *it, down_read(&it->sem))
HELPERS(post, struct box *it, up(&it->slots))
HELPERS(wait, struct box *it, down(&it->slots))
HELPERS(part, struct box *it, percpu_up_read(&it->often))
HELPERS(join, struct box *it, percpu_down_read(&it->often))
HELPERS(end, struct box *it, complete(&it->done))
HELPERS(depart, struct visit *it, up_read(&it->box->sem))

/* Jumps to a neighbour take two bytes, and calls five. */
static noinline void leave_last(struct box *box)
{
	box->count--;
	up_read(&box->sem);
}

static noinline void leave_soon(struct box *box)
{
	box->count--;
	leave_last(box);
}

static struct box *known;

static noinline void leave_known(void)
{
	up_read(&known->sem);
	work++;
}

static noinline void leave_what_is_known(void)
{
	leave_known();
	work++;
}

static noinline void forget_known(void)
{
	leave_what_is_known();
	work++;
}

static LIST_HEAD(listed);

static noinline void leave_listed(void)
{
	struct box *box;

	list_for_each_entry(box, &listed, list)
		up_read(&box->sem);
	work++;
}

static void let_go(struct box *box)
{
	up_read(&box->sem);
}

static const struct box_operations operations = { let_go };

static noinline void put(struct box *box)
{
	if (atomic_dec_and_test(&box->users) && box->release)
		box->release(box);
	work++;
}

static struct box *new_box(void)
{
	struct box *box = kzalloc(sizeof(*box), GFP_KERNEL);

	mutex_init(&box->busy);
	init_rwsem(&box->sem);
	sema_init(&box->slots, 1);
	if (percpu_init_rwsem(&box->often)) {}
	init_completion(&box->done);
	INIT_LIST_HEAD(&box->list);
	box->operations = &operations;
	box->release = let_go;
	atomic_set(&box->users, 1);
	return box;
}

static void meet(struct box *box, int parties)
{
	atomic_inc(&box->place);
	while (atomic_read(&box->place) < parties)
		msleep(1);
}

static int want_busy(struct box *box, int parties)
{
	meet(box, parties);
	mutex_lock(&box->busy);
	got_on();
	mutex_unlock(&box->busy);
	return 0;
}

static bool over; /* never */

#define BODY(name) static int name(void *argument)
#define PAST(name, take, give)				\
	BODY(past_##name)				\
	{						\
		struct box *box = argument;		\
							\
		take;					\
		box->count++;				\
		give;					\
		meet(box, 3);				\
		mutex_lock(&box->busy);			\
		got_on();				\
		mutex_unlock(&box->busy);		\
		return 0;				\
	}
#define HOLDER(name, take)				\
	BODY(holder_##name)				\
	{						\
		struct box *box = argument;		\
							\
		take;					\
		meet(box, 3);				\
		while (!READ_ONCE(over))		\
			schedule_timeout_idle(MAX_SCHEDULE_TIMEOUT); \
		return 0;				\
	}
#define WANTS(name, parties, take, give)		\
	BODY(wants_##name)				\
	{						\
		struct box *box = argument;		\
							\
		mutex_lock(&box->busy);			\
		meet(box, parties);			\
		take;					\
		got_on();				\
		give;					\
		mutex_unlock(&box->busy);		\
		return 0;				\
	}

PAST(deep, down_read(&box->sem), leave_3(box))
PAST(deeper, down_read(&box->sem), leave_7(box))
PAST(jump, down_read(&box->sem), leave_soon(box))
PAST(known, (known = box, down_read(&box->sem)), forget_known())
PAST(listed, (list_add(&box->list, &listed), down_read(&box->sem)), leave_listed())
PAST(pointer, down_read(&box->sem), box->operations->leave(box))
PAST(last, down_read(&box->sem), put(box))
PAST(slots, down(&box->slots), post_5(box))
PAST(often, percpu_down_read(&box->often), part_4(box))

BODY(past_visit)
{
	struct visit visit = { argument, NULL, 1 };

	down_read(&visit.box->sem);
	visit.box->count++;
	depart_3(&visit);
	return want_busy(visit.box, 3);
}

/* It had the lock of the box that was there then. */
BODY(past_moved)
{
	struct visit *visit = argument;

	down_read(&visit->box->sem);
	visit->turn++;
	return want_busy(visit->next, 3);
}

HOLDER(sem, enter_7(box))
HOLDER(slots, wait_7(box))
HOLDER(often, join_7(box))
WANTS(sem, 3, down_write(&box->sem), up_write(&box->sem))
WANTS(slots, 3, down(&box->slots), up(&box->slots))
WANTS(often, 3, percpu_down_write(&box->often), percpu_up_write(&box->often))

/* And those that it is: a reader, and who would complete something, by helpers of helpers. */
BODY(reads)
{
	struct box *box = argument;

	enter_5(box);
	meet(box, 2);
	mutex_lock(&box->busy);
	got_on();
	mutex_unlock(&box->busy);
	leave_5(box);
	return 0;
}

WANTS(again, 2, down_write(&box->sem), up_write(&box->sem))

BODY(ends)
{
	struct box *box = argument;

	meet(box, 2);
	mutex_lock(&box->busy);
	got_on();
	mutex_unlock(&box->busy);
	end_4(box);
	return 0;
}

WANTS(end, 2, wait_for_completion(&box->done), box->count++)

/* A lock on a kernel stack. */
static noinline void lock_again(struct mutex *mutex)
{
	mutex_lock(mutex);
	got_on();
	mutex_unlock(mutex);
}

BODY(locks_its_own)
{
	struct mutex own;

	mutex_init(&own);
	mutex_lock(&own);
	lock_again(&own);
	mutex_unlock(&own);
	return 0;
}

/* A reader that reads again behind a writer, which queues for it. */
static DEFINE_RWLOCK(lab_index);
static atomic_t index_place;

static void meet_spinning(void)
{
	atomic_inc(&index_place);
	while (atomic_read(&index_place) < 2)
		cpu_relax();
}

BODY(index_reader)
{
	read_lock(&lab_index);
	meet_spinning();
	mdelay(200);
	read_lock(&lab_index);
	got_on();
	read_unlock(&lab_index);
	read_unlock(&lab_index);
	return 0;
}

BODY(index_writer)
{
	meet_spinning();
	write_lock(&lab_index);
	got_on();
	write_unlock(&lab_index);
	return 0;
}

/* Loading a module does not end while CPUs spin. */
BODY(start_spinning)
{
	struct task_struct *reader = kthread_create(index_reader, NULL, "ra-reader");
	struct task_struct *writer = kthread_create(index_writer, NULL, "ra-writer");

	msleep(1000);
	kthread_bind(reader, 1);
	kthread_bind(writer, 2);
	wake_up_process(reader);
	wake_up_process(writer);
	while (!READ_ONCE(over))
		schedule_timeout_idle(MAX_SCHEDULE_TIMEOUT);
	return 0;
}

static void start(const char *prefix, int (*past)(void *), int (*holder)(void *),
		  int (*wants)(void *))
{
	struct box *box = new_box();

	kthread_run(past, box, "%s-past", prefix);
	while (holder && atomic_read(&box->place) < 1)
		msleep(1);
	if (holder)
		kthread_run(holder, box, "%s-holds", prefix);
	while (holder && atomic_read(&box->place) < 2)
		msleep(1);
	kthread_run(wants, box, "%s-wants", prefix);
}

static void start_moved(void)
{
	struct visit *visit = kzalloc(sizeof(*visit), GFP_KERNEL);
	struct box *box = new_box();

	visit->box = new_box();
	visit->next = box;
	kthread_run(past_moved, visit, "hp-moved-past");
	while (atomic_read(&box->place) < 1)
		msleep(1);
	visit->box = box;
	kthread_run(holder_sem, box, "hp-moved-holds");
	while (atomic_read(&box->place) < 2)
		msleep(1);
	kthread_run(wants_sem, box, "hp-moved-wants");
}

static int __init labhelpers_init(void)
{
	if (spin) {
		kthread_run(start_spinning, NULL, "spinning");
		return 0;
	}
	start("hp-deep", past_deep, holder_sem, wants_sem);
	start("hp-deeper", past_deeper, holder_sem, wants_sem);
	start("hp-jump", past_jump, holder_sem, wants_sem);
	start("hp-known", past_known, holder_sem, wants_sem);
	start("hp-listed", past_listed, holder_sem, wants_sem);
	start("hp-pointer", past_pointer, holder_sem, wants_sem);
	start("hp-last", past_last, holder_sem, wants_sem);
	start("hp-visit", past_visit, holder_sem, wants_sem);
	start("hp-slots", past_slots, holder_slots, wants_slots);
	start("hp-often", past_often, holder_often, wants_often);
	start_moved();
	start("hr", reads, NULL, wants_again);
	start("he", ends, NULL, wants_end);
	kthread_run(locks_its_own, NULL, "os-self");
	return start_deferred();
}

module_init(labhelpers_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Locks given back by helpers, for tests");
