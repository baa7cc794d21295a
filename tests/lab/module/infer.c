// SPDX-License-Identifier: GPL-2.0
/* Locks that record no holder, taken less plainly: in objects, through helpers, by interrupts */
#include <linux/completion.h>
#include <linux/hrtimer.h>
#include <linux/percpu-rwsem.h>
#include <linux/rwsem.h>
#include <linux/semaphore.h>
#include <linux/spinlock.h>

#include "faultlab.h"

struct shelf {
	long count;
	spinlock_t lock;
	rwlock_t table;
	struct mutex guard;
	struct rw_semaphore sem;
	struct semaphore slots;
	struct completion done;
	struct percpu_rw_semaphore often;
};

static struct shelf *new_shelf(void)
{
	struct shelf *shelf = kzalloc(sizeof(*shelf), GFP_KERNEL);

	spin_lock_init(&shelf->lock);
	rwlock_init(&shelf->table);
	mutex_init(&shelf->guard);
	init_rwsem(&shelf->sem);
	sema_init(&shelf->slots, 1);
	init_completion(&shelf->done);
	IGNORE(percpu_init_rwsem(&shelf->often));
	return shelf;
}

/* Two CPUs move books from one shelf to the other, interrupts off. */
static struct shelf *moves[2];
static atomic_t move_place;

static noinline void put(struct shelf *to)
{
	unsigned long flags;

	meet_spinning(&move_place, 2);
	FOREVER_SPINNING(spin_lock_irqsave(&to->lock, flags));
	to->count++;
	spin_unlock_irqrestore(&to->lock, flags);
}

static noinline void move(struct shelf *from, struct shelf *to)
{
	unsigned long flags;

	spin_lock_irqsave(&from->lock, flags);
	from->count--;
	put(to);
	from->count++;
	spin_unlock_irqrestore(&from->lock, flags);
}

static int mover(void *backwards)
{
	if (backwards)
		move(moves[1], moves[0]);
	else
		move(moves[0], moves[1]);
	return 0;
}

FAULT(spin_objects)
{
	moves[0] = new_shelf();
	moves[1] = new_shelf();
	actor_on(1, "so-a", mover, NULL);
	actor_on(2, "so-b", mover, (void *)1L);
}

/* An interrupt wants what the code that it came upon holds. */
DEFINE_SPINLOCK(lab_irq_lock);
static struct hrtimer irq_timer;

static enum hrtimer_restart irq_handler(struct hrtimer *unused)
{
	spins_here();
	spin_lock(&lab_irq_lock);
	spin_unlock(&lab_irq_lock);
	return HRTIMER_NORESTART;
}

static noinline void until_interrupted(void)
{
	for (;;)
		cpu_relax();
}

static int irq_holder(void *unused)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(&irq_timer, irq_handler, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
#else
	hrtimer_init(&irq_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	irq_timer.function = irq_handler;
#endif
	spin_lock(&lab_irq_lock);
	hrtimer_start(&irq_timer, ms_to_ktime(5), HRTIMER_MODE_REL_PINNED_HARD);
	until_interrupted();
	spin_unlock(&lab_irq_lock);
	return 0;
}

FAULT(spin_irq)
{
	actor_on(1, "irq-holder", irq_holder, NULL);
}

/* rwlock_t: a reader against a spinlock, and a writer that queues */
DEFINE_RWLOCK(lab_table);
DEFINE_SPINLOCK(lab_table_lock);
static atomic_t table_place;

static int table_reader(void *unused)
{
	read_lock(&lab_table);
	meet_spinning(&table_place, 2);
	FOREVER_SPINNING(spin_lock(&lab_table_lock));
	spin_unlock(&lab_table_lock);
	read_unlock(&lab_table);
	return 0;
}

static int table_writer(void *unused)
{
	spin_lock(&lab_table_lock);
	meet_spinning(&table_place, 2);
	FOREVER_SPINNING(write_lock(&lab_table));
	write_unlock(&lab_table);
	spin_unlock(&lab_table_lock);
	return 0;
}

FAULT(rwlock_cross)
{
	actor_on(3, "rl-reader", table_reader, NULL);
	actor_on(4, "rl-writer", table_writer, NULL);
}

/* Nothing but contention. */
DEFINE_SPINLOCK(lab_hot);
static unsigned long hot_count;

static int hot(void *unused)
{
	int i;

	stays_here();
	for (;;) {
		spin_lock(&lab_hot);
		for (i = 0; i < 500; i++)
			WRITE_ONCE(hot_count, hot_count + 1);
		spin_unlock(&lab_hot);
		cond_resched();
	}
	return 0;
}

FAULT(spin_hot)
{
	actor_on(1, "hot-1", hot, NULL);
	actor_on(2, "hot-2", hot, NULL);
	actor_on(3, "hot-3", hot, NULL);
}

/* A reader, by a pointer that helpers pass on, against a mutex. */
static struct shelf *helped[2];
static atomic_t reader_place;

static noinline long count_all(struct shelf *shelf, struct shelf *other)
{
	long sum;

	meet(&reader_place, 2);
	blocks_here();
	mutex_lock(&other->guard);
	sum = other->count + shelf->count;
	mutex_unlock(&other->guard);
	got_on();
	return sum;
}

static noinline void begin_reading(struct shelf *shelf)
{
	down_read(&shelf->sem);
	shelf->count++;
}

static noinline void end_reading(struct shelf *shelf)
{
	shelf->count--;
	up_read(&shelf->sem);
}

static int helped_reader(void *argument)
{
	struct shelf **both = argument;
	struct shelf *shelf = both[0];
	long sum;

	begin_reading(shelf);
	sum = count_all(shelf, both[1]);
	end_reading(shelf);
	return sum > 0;
}

static int helped_writer(void *argument)
{
	struct shelf **both = argument;

	mutex_lock(&both[1]->guard);
	meet(&reader_place, 2);
	FOREVER(down_write(&both[0]->sem));
	up_write(&both[0]->sem);
	mutex_unlock(&both[1]->guard);
	return 0;
}

FAULT(reader_helped)
{
	helped[0] = new_shelf();
	helped[1] = new_shelf();
	actor("rh-reader", helped_reader, helped);
	actor("rh-writer", helped_writer, helped);
}

/* Readers that only sleep for a while. */
static struct shelf *calm;

static int calm_reader(void *unused)
{
	down_read(&calm->sem);
	stays_here();
	for (;;)
		msleep(1000);
	up_read(&calm->sem);
	return 0;
}

static int calm_writer(void *unused)
{
	while (!rwsem_is_locked(&calm->sem))
		msleep(1);
	FOREVER(down_write(&calm->sem));
	up_write(&calm->sem);
	return 0;
}

FAULT(reader_calm)
{
	calm = new_shelf();
	actor("rc-1", calm_reader, NULL);
	actor("rc-2", calm_reader, NULL);
	actor("rc-writer", calm_writer, NULL);
}

/* rp-reader gave the lock back, and would take it again; who has it is gone. */
static struct shelf *past;
static atomic_t past_place;

static int past_reader(void *unused)
{
	down_read(&past->sem);
	past->count++;
	up_read(&past->sem);
	meet(&past_place, 2);
	FOREVER(mutex_lock(&past->guard));
	down_read(&past->sem);
	past->count--;
	up_read(&past->sem);
	mutex_unlock(&past->guard);
	return 0;
}

static int past_writer(void *unused)
{
	mutex_lock(&past->guard);
	meet(&past_place, 2);
	FOREVER(down_write(&past->sem));
	up_write(&past->sem);
	mutex_unlock(&past->guard);
	return 0;
}

static int past_holder(void *unused)
{
	down_read_non_owner(&past->sem);
	return 0;
}

FAULT(reader_past)
{
	struct task_struct *holder;

	past = new_shelf();
	holder = kthread_run(past_holder, NULL, "rp-gone");
	IGNORE(IS_ERR(holder));
	msleep(20);
	actor("rp-reader", past_reader, NULL);
	actor("rp-writer", past_writer, NULL);
}

/* Semaphores in objects, given back at the end; and one that would be taken only later. */
static struct shelf *slots;
static atomic_t slots_place;

static int slots_taker(void *unused)
{
	if (down_interruptible(&slots->slots))
		return 0;
	meet(&slots_place, 2);
	FOREVER(mutex_lock(&slots->guard));
	mutex_unlock(&slots->guard);
	up(&slots->slots);
	return 0;
}

static int slots_wanter(void *unused)
{
	mutex_lock(&slots->guard);
	meet(&slots_place, 2);
	FOREVER(down(&slots->slots));
	up(&slots->slots);
	mutex_unlock(&slots->guard);
	return 0;
}

static int slots_later(void *unused)
{
	while (!mutex_is_locked(&slots->guard))
		msleep(1);
	FOREVER(mutex_lock(&slots->guard));
	down(&slots->slots);
	up(&slots->slots);
	mutex_unlock(&slots->guard);
	return 0;
}

FAULT(semaphore_objects)
{
	slots = new_shelf();
	actor("sl-taker", slots_taker, NULL);
	actor("sl-wanter", slots_wanter, NULL);
	actor("sl-later", slots_later, NULL);
}

/* A completion in an object, by a helper behind a mutex. */
static struct shelf *job;
static atomic_t job_place;

static noinline void job_done(struct shelf *shelf)
{
	shelf->count++;
	complete(&shelf->done);
}

static int job_waits(void *unused)
{
	mutex_lock(&job->guard);
	meet(&job_place, 2);
	FOREVER(wait_for_completion(&job->done));
	mutex_unlock(&job->guard);
	return 0;
}

static int job_ends(void *argument)
{
	struct shelf *shelf = argument;

	meet(&job_place, 2);
	FOREVER(mutex_lock(&shelf->guard));
	mutex_unlock(&shelf->guard);
	job_done(shelf);
	return 0;
}

FAULT(completion_helped)
{
	job = new_shelf();
	actor("ch-waits", job_waits, NULL);
	actor("ch-ends", job_ends, job);
}

/* A percpu reader in an object against a mutex. */
static struct shelf *often;
static atomic_t often_place;

static int often_reader(void *unused)
{
	percpu_down_read(&often->often);
	meet(&often_place, 2);
	FOREVER(mutex_lock(&often->guard));
	mutex_unlock(&often->guard);
	percpu_up_read(&often->often);
	return 0;
}

static int often_writer(void *unused)
{
	mutex_lock(&often->guard);
	meet(&often_place, 2);
	FOREVER(percpu_down_write(&often->often));
	percpu_up_write(&often->often);
	mutex_unlock(&often->guard);
	return 0;
}

FAULT(percpu_objects)
{
	often = new_shelf();
	actor("po-reader", often_reader, NULL);
	actor("po-writer", often_writer, NULL);
}
