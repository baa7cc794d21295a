// SPDX-License-Identifier: GPL-2.0
/* Spinlocks among CPUs; CPU 0 is left alone, so that the machine can say that it is ready */
#include <linux/spinlock.h>

#include "faultlab.h"

static void hard_lock(spinlock_t *lock)
{
	local_irq_disable();
	spin_lock(lock);
}

static void soft_lock(spinlock_t *lock)
{
	spin_lock(lock);
}

#define SPIN_CROSS(name, prefix, lock1, lock2, take, cpu)	\
	DEFINE_SPINLOCK(lock1);					\
	DEFINE_SPINLOCK(lock2);					\
	static atomic_t name##_place;				\
	static int name##_a(void *unused)			\
	{							\
		take(&lock1);					\
		meet_spinning(&name##_place, 2);		\
		FOREVER_SPINNING(spin_lock(&lock2));		\
		return 0;					\
	}							\
	static int name##_b(void *unused)			\
	{							\
		take(&lock2);					\
		meet_spinning(&name##_place, 2);		\
		FOREVER_SPINNING(spin_lock(&lock1));		\
		return 0;					\
	}							\
	FAULT(name)						\
	{							\
		actor_on(cpu, prefix "-a", name##_a, NULL);	\
		actor_on(cpu + 1, prefix "-b", name##_b, NULL);	\
	}

SPIN_CROSS(spin_abba_irqs_off, "sh", lab_tx_lock, lab_rx_lock, hard_lock, 1)
SPIN_CROSS(spin_abba, "ss", lab_head_lock, lab_tail_lock, soft_lock, 3)

/* A second lock of its own CPU. */
DEFINE_SPINLOCK(lab_spin_twice);

static int spin_self_a(void *unused)
{
	spin_lock(&lab_spin_twice);
	FOREVER_SPINNING(spin_lock(&lab_spin_twice));
	return 0;
}

FAULT(spin_self)
{
	actor_on(1, "spin-self", spin_self_a, NULL);
}

/* The owner merely runs, elsewhere. */
DEFINE_SPINLOCK(lab_busy_lock);

static noinline void busy_loop(void)
{
	for (;;)
		cpu_relax();
}

static int busy_owner(void *unused)
{
	spin_lock(&lab_busy_lock);
	spins_here();
	busy_loop();
	spin_unlock(&lab_busy_lock);
	return 0;
}

static int busy_waiter(void *unused)
{
	while (!spin_is_locked(&lab_busy_lock))
		cpu_relax();
	FOREVER_SPINNING(spin_lock(&lab_busy_lock));
	return 0;
}

FAULT(spin_busy)
{
	actor_on(2, "busy-owner", busy_owner, NULL);
	actor_on(3, "busy-waiter", busy_waiter, NULL);
}

/* The owner sleeps with it, on the very mutex that the spinner has. */
DEFINE_SPINLOCK(lab_slept_lock);
DEFINE_MUTEX(lab_slept_mutex);

static int slept_owner(void *unused)
{
	while (!mutex_is_locked(&lab_slept_mutex))
		msleep(1);
	spin_lock(&lab_slept_lock);
	FOREVER(mutex_lock(&lab_slept_mutex));
	spin_unlock(&lab_slept_lock);
	return 0;
}

static int slept_spinner(void *unused)
{
	mutex_lock(&lab_slept_mutex);
	while (!spin_is_locked(&lab_slept_lock))
		msleep(1);
	FOREVER_SPINNING(spin_lock(&lab_slept_lock));
	mutex_unlock(&lab_slept_mutex);
	return 0;
}

FAULT(spin_slept)
{
	actor_on(4, "slept-owner", slept_owner, NULL);
	actor_on(5, "slept-spinner", slept_spinner, NULL);
}

/* Three CPUs queue for a lock whose owner waits for one that the first of them has. */
DEFINE_SPINLOCK(lab_queued_lock);
DEFINE_SPINLOCK(lab_queued_other);
static atomic_t queued_place;

static int queued_owner(void *unused)
{
	spin_lock(&lab_queued_lock);
	meet_spinning(&queued_place, 4);
	FOREVER_SPINNING(spin_lock(&lab_queued_other));
	return 0;
}

static int queued_waiter(void *argument)
{
	if (!argument)
		spin_lock(&lab_queued_other);
	meet_spinning(&queued_place, 4);
	FOREVER_SPINNING(spin_lock(&lab_queued_lock));
	return 0;
}

FAULT(spin_queued)
{
	actor_on(1, "sq-owner", queued_owner, NULL);
	actor_on(2, "sq-0", queued_waiter, (void *)0L);
	actor_on(3, "sq-1", queued_waiter, (void *)1L);
	actor_on(4, "sq-2", queued_waiter, (void *)2L);
}
