// SPDX-License-Identifier: GPL-2.0
/*
 * Completions that a task would complete, but for the lock that the waiter holds.  A timer,
 * delayed work or an interrupt completes some of them, too: those are no deadlocks.  A work item does
 * that never that is in line behind one which wants the lock.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/semaphore.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <linux/version.h>
#include <linux/workqueue.h>

#include "labhelpers.h"

#define LATE 36000 /* seconds */

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 16, 0)
#define timer_container_of from_timer
#endif

struct job {
	struct mutex busy;
	struct completion done;
	struct semaphore slots;
	struct timer_list timer;
	struct hrtimer precise;
	struct delayed_work later;
	struct work_struct blocker, item;
	struct kthread_work kthread_blocker, kthread_item;
	struct kthread_delayed_work kthread_later;
	struct completion *elsewhere;
	void (*hook)(struct job *job);
	struct list_head list;
	int count;
};

static int work; /* behind calls, which so are no jumps */

static noinline void ring(struct job *job)
{
	complete(&job->done);
	work++;
}

static void on_timer(struct timer_list *timer)
{
	struct job *job = timer_container_of(job, timer, timer);

	job->count++;
	ring(job);
	job->count++;
}

static void on_timer_elsewhere(struct timer_list *timer)
{
	struct job *job = timer_container_of(job, timer, timer);

	complete(job->elsewhere);
	job->count++;
}

static void on_timer_hook(struct timer_list *timer)
{
	struct job *job = timer_container_of(job, timer, timer);

	job->hook(job);
	job->count++;
}

static void on_timer_work(struct timer_list *timer)
{
	struct job *job = timer_container_of(job, timer, timer);

	schedule_work(&job->item);
	job->count++;
}

static void on_timer_up(struct timer_list *timer)
{
	struct job *job = timer_container_of(job, timer, timer);

	up(&job->slots);
	job->count++;
}

static irqreturn_t on_interrupt(int number, void *device)
{
	struct job *job = device;

	job->count++;
	complete(&job->done);
	return IRQ_HANDLED;
}

/* Has nothing to do with the completion. */
static void on_timer_count(struct timer_list *timer)
{
	struct job *job = timer_container_of(job, timer, timer);

	job->count++;
}

static enum hrtimer_restart on_precise(struct hrtimer *timer)
{
	struct job *job = container_of(timer, struct job, precise);

	complete_all(&job->done);
	job->count++;
	return HRTIMER_NORESTART;
}

static void on_work(struct work_struct *item)
{
	struct job *job = container_of(item, struct job, item);

	ring(job);
	job->count++;
}

static void on_later(struct work_struct *item)
{
	struct job *job = container_of(to_delayed_work(item), struct job, later);

	complete(&job->done);
	job->count++;
}

static noinline void want_busy(struct job *job)
{
	mutex_lock(&job->busy);
	got_on();
	mutex_unlock(&job->busy);
}

static void on_blocker(struct work_struct *item)
{
	want_busy(container_of(item, struct job, blocker));
	work++;
}

static void on_kthread_blocker(struct kthread_work *item)
{
	want_busy(container_of(item, struct job, kthread_blocker));
	work++;
}

static void on_kthread_item(struct kthread_work *item)
{
	ring(container_of(item, struct job, kthread_item));
	work++;
}

static void on_kthread_later(struct kthread_work *item)
{
	struct job *job = container_of(item, struct job, kthread_later.work);

	complete(&job->done);
	job->count++;
}

/* For what is in line behind itself. */
static void on_kthread_wait(struct kthread_work *item)
{
	struct job *job = container_of(item, struct job, kthread_blocker);

	wait_for_completion(&job->done);
	got_on();
}

static int waits(void *argument)
{
	struct job *job = argument;

	mutex_lock(&job->busy);
	WRITE_ONCE(job->count, 1);
	wait_for_completion(&job->done);
	got_on();
	mutex_unlock(&job->busy);
	return 0;
}

static int downs(void *argument)
{
	struct job *job = argument;

	mutex_lock(&job->busy);
	WRITE_ONCE(job->count, 1);
	down(&job->slots);
	got_on();
	mutex_unlock(&job->busy);
	return 0;
}

static int ends(void *argument)
{
	struct job *job = argument;

	want_busy(job);
	ring(job);
	return 0;
}

static int ups(void *argument)
{
	struct job *job = argument;

	want_busy(job);
	up(&job->slots);
	job->count++;
	return 0;
}

/* Late, and by a pointer, or each of a list. */
static int naps(void *argument)
{
	struct job *job = argument;

	msleep(LATE * 1000);
	job->hook(job);
	return 0;
}

static LIST_HEAD(jobs);

static int naps_for_each(__attribute__((unused)) void *argument)
{
	struct job *job;

	msleep(LATE * 1000);
	list_for_each_entry(job, &jobs, list)
		complete(&job->done);
	return 0;
}

static struct job *new_job(void)
{
	struct job *job = kzalloc(sizeof(*job), GFP_KERNEL);

	mutex_init(&job->busy);
	init_completion(&job->done);
	sema_init(&job->slots, 0);
	job->elsewhere = &job->done;
	job->hook = ring;
	return job;
}

static struct job *start(const char *prefix, int (*waiter)(void *), int (*ender)(void *))
{
	struct job *job = new_job();

	kthread_run(waiter, job, "%s-waits", prefix);
	while (!READ_ONCE(job->count))
		msleep(1);
	if (ender)
		kthread_run(ender, job, "%s-ends", prefix);
	return job;
}

static void set_timer(struct job *job, void (*function)(struct timer_list *))
{
	timer_setup(&job->timer, function, 0);
	mod_timer(&job->timer, jiffies + LATE * HZ);
}

static void set_precise(struct job *job)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	hrtimer_init(&job->precise, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	job->precise.function = on_precise;
#else
	hrtimer_setup(&job->precise, on_precise, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
#endif
	hrtimer_start(&job->precise, ktime_set(LATE, 0), HRTIMER_MODE_REL);
}

/* COM2's, which nobody uses. */
static int expect_interrupt(struct job *job)
{
	return request_irq(3, on_interrupt, 0, "lab", job);
}

static int run_behind(struct job *job)
{
	struct workqueue_struct *one_by_one = alloc_ordered_workqueue("lab_ordered", 0);

	if (!one_by_one)
		return -ENOMEM;
	INIT_WORK(&job->blocker, on_blocker);
	INIT_WORK(&job->item, on_work);
	queue_work(one_by_one, &job->blocker);
	queue_work(one_by_one, &job->item);
	return 0;
}

static struct kthread_worker *start_worker(const char *prefix)
{
	struct kthread_worker *worker = kthread_create_worker(0, "%s-worker", prefix);

	if (!IS_ERR(worker))
		wake_up_process(worker->task); /* since 6.14 creating no longer does */
	return worker;
}

static int run_by_kthread(struct job *job, const char *prefix, kthread_work_func_t blocker)
{
	struct kthread_worker *worker = start_worker(prefix);

	if (IS_ERR(worker))
		return PTR_ERR(worker);
	kthread_init_work(&job->kthread_blocker, blocker);
	kthread_init_work(&job->kthread_item, on_kthread_item);
	kthread_queue_work(worker, &job->kthread_blocker);
	kthread_queue_work(worker, &job->kthread_item);
	return 0;
}

static int run_later_by_kthread(struct job *job, const char *prefix)
{
	struct kthread_worker *worker = start_worker(prefix);

	if (IS_ERR(worker))
		return PTR_ERR(worker);
	kthread_init_delayed_work(&job->kthread_later, on_kthread_later);
	kthread_queue_delayed_work(worker, &job->kthread_later, LATE * HZ);
	return 0;
}

int __init start_deferred(void)
{
	struct job *job;

	set_timer(start("dt-timer", waits, ends), on_timer);
	set_timer(start("dt-else", waits, ends), on_timer_elsewhere);
	set_timer(start("dt-hook", waits, ends), on_timer_hook);
	job = start("dt-work", waits, ends);
	INIT_WORK(&job->item, on_work);
	set_timer(job, on_timer_work);
	kthread_run(naps, start("dt-nap", waits, ends), "dt-nap-naps");
	job = start("dt-each", waits, ends);
	list_add(&job->list, &jobs);
	kthread_run(naps_for_each, job, "dt-each-naps");
	set_timer(start("dt-up", downs, ups), on_timer_up);
	set_timer(start("dc", waits, ends), on_timer_count);
	set_precise(start("dt-precise", waits, ends));
	job = start("dt-later", waits, ends);
	INIT_DELAYED_WORK(&job->later, on_later);
	schedule_delayed_work(&job->later, LATE * HZ);
	return expect_interrupt(start("dt-irq", waits, ends)) ?:
	       run_behind(start("dw", waits, NULL)) ?:
	       run_by_kthread(start("dk", waits, NULL), "dk", on_kthread_blocker) ?:
	       run_by_kthread(new_job(), "ds", on_kthread_wait) ?:
	       run_later_by_kthread(start("dt-klater", waits, ends), "dt-klater");
}
