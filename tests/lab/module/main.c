// SPDX-License-Identifier: GPL-2.0
/*
 * Writing names of faults, separated by commas, to the parameter `start` starts them, and returns
 * when all actors are in place.
 */
#include "faultlab.h"

#define ACTORS 8192
#define READY_SECONDS 60

unsigned int faultlab_count = 20;
module_param_named(count, faultlab_count, uint, 0444);
MODULE_PARM_DESC(count, "how many victims, readers and the like");

enum where { STARTING, BLOCKS, SPINS, STAYS, GOT_ON };

static struct actor {
	struct task_struct *task;
	enum where where;
} actors[ACTORS];
static atomic_t actor_count;
static unsigned int actors_expected;

static const struct {
	const char *name;
	void (*start)(void);
} table[] = {
#define FAULTLAB_ENTRY(name) { #name, faultlab_##name },
	FAULTLAB_FAULTS(FAULTLAB_ENTRY)
};

static struct actor *add(struct task_struct *task)
{
	unsigned int i = atomic_inc_return(&actor_count) - 1;

	if (i >= ACTORS) {
		pr_emerg("faultlab: not ready: too many actors\n");
		return NULL;
	}
	get_task_struct(task);
	WRITE_ONCE(actors[i].task, task);
	return &actors[i];
}

static struct task_struct *start(struct task_struct *task)
{
	if (IS_ERR(task)) {
		pr_emerg("faultlab: not ready: no kthread: %ld\n", PTR_ERR(task));
		return NULL;
	}
	actors_expected++;
	add(task);
	wake_up_process(task);
	return task;
}

void expect_others(unsigned int count)
{
	actors_expected += count;
}

struct task_struct *actor(const char *name, int (*body)(void *), void *argument)
{
	return start(kthread_create(body, argument, "%s", name));
}

struct task_struct *actor_on(unsigned int cpu, const char *name, int (*body)(void *), void *argument)
{
	struct task_struct *task = kthread_create(body, argument, "%s", name);

	if (!IS_ERR(task))
		kthread_bind(task, cpu);
	return start(task);
}

static unsigned int count(void)
{
	return min_t(unsigned int, atomic_read(&actor_count), ACTORS);
}

static void say(enum where where)
{
	struct actor *actor = NULL;
	unsigned int i;

	for (i = 0; i < count() && !actor; i++)
		if (READ_ONCE(actors[i].task) == current)
			actor = &actors[i];
	if (!actor)
		actor = add(current);
	if (actor)
		WRITE_ONCE(actor->where, where);
}

void blocks_here(void)
{
	say(BLOCKS);
}

void spins_here(void)
{
	say(SPINS);
}

void stays_here(void)
{
	say(STAYS);
}

static bool over; /* never: objtool wants functions that return */

void got_on(void)
{
	say(GOT_ON);
	while (!READ_ONCE(over))
		schedule_timeout_idle(MAX_SCHEDULE_TIMEOUT);
}

void rest(void)
{
	say(STAYS);
	while (!READ_ONCE(over))
		schedule_timeout_idle(MAX_SCHEDULE_TIMEOUT);
}

void rest_interruptible(void)
{
	say(STAYS);
	while (!READ_ONCE(over))
		schedule_timeout_interruptible(MAX_SCHEDULE_TIMEOUT);
}

void meet(atomic_t *place, int parties)
{
	atomic_inc(place);
	while (atomic_read(place) < parties)
		msleep(1);
}

void meet_spinning(atomic_t *place, int parties)
{
	atomic_inc(place);
	while (atomic_read(place) < parties)
		cpu_relax();
}

void until_wanted(struct mutex *lock)
{
	while (!(atomic_long_read(&lock->owner) & 1)) /* MUTEX_FLAG_WAITERS */
		msleep(1);
}

int wants_mutex(void *lock)
{
	while (!mutex_is_locked(lock))
		msleep(1);
	FOREVER(mutex_lock(lock));
	return 0;
}

int holds_mutex(void *lock)
{
	mutex_lock(lock);
	rest();
	return 0;
}

static void constructed(void *object)
{
}

struct kmem_cache *own_cache(const char *name, unsigned int size)
{
	return kmem_cache_create(name, size, 0, 0, constructed);
}

static bool in_place(const struct actor *actor)
{
	enum where where = READ_ONCE(actor->where);

	if (!READ_ONCE(actor->task))
		return false;
	return where == SPINS || where == STAYS ||
	       (where == BLOCKS && task_state_index(actor->task));
}

static bool all_in_place(bool tell)
{
	bool all = count() >= actors_expected;
	unsigned int i;

	if (!all && tell)
		pr_emerg("faultlab: not ready: %u of %u actors\n", count(), actors_expected);
	for (i = 0; i < count(); i++) {
		if (in_place(&actors[i]))
			continue;
		all = false;
		if (tell && actors[i].task)
			pr_emerg("faultlab: not ready: %s where=%d state=%c\n",
				 actors[i].task->comm, actors[i].where,
				 task_state_to_char(actors[i].task));
	}
	return all;
}

/* Whether all actors are where they should be, five times in a row. */
static bool await_all(void)
{
	unsigned long end = jiffies + READY_SECONDS * HZ;
	int quiet = 0;

	while (quiet < 5) {
		quiet = all_in_place(false) ? quiet + 1 : 0;
		if (time_after(jiffies, end))
			return all_in_place(true);
		msleep(20);
	}
	return true;
}

static bool start_one(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		if (!strcmp(table[i].name, name)) {
			table[i].start();
			return true;
		}
	}
	pr_emerg("faultlab: no fault %s\n", name);
	return false;
}

static int start_all(const char *value, const struct kernel_param *parameter)
{
	char *names = kstrdup(value, GFP_KERNEL), *rest = names, *name;
	int error = 0;

	while (rest && !error && (name = strsep(&rest, ",\n")))
		if (*name && !start_one(name))
			error = -EINVAL;
	kfree(names);
	if (!error && !await_all())
		error = -ETIMEDOUT;
	if (!error)
		pr_emerg("faultlab: %u actors in place\n", count());
	return error;
}

static const struct kernel_param_ops start_ops = { .set = start_all };
module_param_cb(start, &start_ops, NULL, 0200);
MODULE_PARM_DESC(start, "faults to start, separated by commas");

static int __init faultlab_init(void)
{
	return device_init();
}

module_init(faultlab_init);
MODULE_DESCRIPTION("Faults for dumps");
MODULE_LICENSE("GPL");
