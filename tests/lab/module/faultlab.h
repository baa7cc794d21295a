/* SPDX-License-Identifier: GPL-2.0 */
/*
 * faultlab: faults for dumps.  A fault is a function FAULT(name) and a line in faults.h; it starts
 * actors, which are kthreads with telling names, and returns.
 */
#ifndef FAULTLAB_H
#define FAULTLAB_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/version.h>

#define FAULT(name) void faultlab_##name(void)

#include "faults.h"
#define FAULTLAB_DECLARE(name) FAULT(name);
FAULTLAB_FAULTS(FAULTLAB_DECLARE)

/* How many victims, readers and the like: the module parameter `count`. */
extern unsigned int faultlab_count;

/* Start a kthread `name`; the module is ready only when all of them have said where they are. */
struct task_struct *actor(const char *name, int (*body)(void *), void *argument);
/* The same on one CPU. */
struct task_struct *actor_on(unsigned int cpu, const char *name, int (*body)(void *), void *argument);

/* Makes /dev/faultlab; 0, or an error. */
int device_init(void);

/* So many tasks that are not actors will say where they are, too: kworkers, or user tasks. */
void expect_others(unsigned int count);

/*
 * The caller will block (or, spins, run) for ever in what it does next.  A task that is no actor
 * is counted from then on.
 */
void blocks_here(void);
void spins_here(void);
/* The caller is where it should be, and goes on with what it does: sleeping, contending. */
void stays_here(void);
/* The caller got on where it should not have: then the module is not ready. */
void got_on(void);

/* Do `step` and never come back from it. */
#define FOREVER(step) do { blocks_here(); step; got_on(); } while (0)
#define FOREVER_SPINNING(step) do { spins_here(); step; got_on(); } while (0)

/* For what returns an error when it is interrupted, which does not happen here. */
#define IGNORE(call) do { if (call) {} } while (0)

/* Sleep in TASK_IDLE, as resting kthreads do: the actor is done with its part. */
void rest(void);

/* Wait until `parties` callers have met here. */
void meet(atomic_t *place, int parties);
void meet_spinning(atomic_t *place, int parties);
/* Wait until somebody waits for a mutex. */
void until_wanted(struct mutex *lock);
/* An actor's body: waits until somebody has the mutex, and wants it for ever. */
int wants_mutex(void *lock);
/* An actor's body: takes the mutex, and rests. */
int holds_mutex(void *lock);

/* A slab cache that no other one is merged with. */
struct kmem_cache *own_cache(const char *name, unsigned int size);

/* Sleep in S, as threads do that wait for a request. */
void rest_interruptible(void);

/*
 * Two actors, PREFIX-a and PREFIX-b, that do their first step, meet, and do their second: a takes
 * and wants first1 and then1, b takes and wants first2 and then2.
 * CROSS_AFTER does `setup` before.
 */
#define CROSS_AFTER(name, prefix, setup, first1, then1, first2, then2)			\
	static atomic_t name##_place;							\
	static int name##_a(void *unused)						\
	{										\
		first1;									\
		meet(&name##_place, 2);							\
		FOREVER(then1);								\
		return 0;								\
	}										\
	static int name##_b(void *unused)						\
	{										\
		first2;									\
		meet(&name##_place, 2);							\
		FOREVER(then2);								\
		return 0;								\
	}										\
	FAULT(name)									\
	{										\
		setup;									\
		actor(prefix "-a", name##_a, NULL);					\
		actor(prefix "-b", name##_b, NULL);					\
	}
#define CROSS(name, prefix, first1, then1, first2, then2)				\
	CROSS_AFTER(name, prefix, (void)0, first1, then1, first2, then2)

#endif
