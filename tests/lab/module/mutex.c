// SPDX-License-Identifier: GPL-2.0
/* struct mutex */
#include "faultlab.h"

DEFINE_MUTEX(lab_accounts);
DEFINE_MUTEX(lab_audit);

CROSS(mutex_abba, "mx",
      mutex_lock(&lab_accounts), mutex_lock(&lab_audit),
      mutex_lock(&lab_audit), mutex_lock(&lab_accounts))

/* ring-0 holds 0 and wants 1, ring-1 holds 1 and wants 2, ... */
#define RING 5
struct mutex lab_ring[RING];
static atomic_t ring_place;

static int ring(void *argument)
{
	long i = (long)argument;

	mutex_lock(&lab_ring[i]);
	meet(&ring_place, RING);
	FOREVER(mutex_lock(&lab_ring[(i + 1) % RING]));
	return 0;
}

FAULT(mutex_ring)
{
	char name[16];
	long i;

	for (i = 0; i < RING; i++)
		mutex_init(&lab_ring[i]);
	for (i = 0; i < RING; i++) {
		snprintf(name, sizeof(name), "ring-%ld", i);
		actor(name, ring, (void *)i);
	}
}

DEFINE_MUTEX(lab_twice);

static int self(void *unused)
{
	mutex_lock(&lab_twice);
	FOREVER(mutex_lock(&lab_twice));
	return 0;
}

FAULT(mutex_self)
{
	actor("self", self, NULL);
}

/* A cycle that `count` others queue behind: vic-N on one lock or the other. */
DEFINE_MUTEX(lab_orders);
DEFINE_MUTEX(lab_stock);
static atomic_t victims_place;

static int victims_a(void *unused)
{
	mutex_lock(&lab_orders);
	meet(&victims_place, 2);
	FOREVER(mutex_lock(&lab_stock));
	return 0;
}

static int victims_b(void *unused)
{
	mutex_lock(&lab_stock);
	meet(&victims_place, 2);
	FOREVER(mutex_lock(&lab_orders));
	return 0;
}

FAULT(mutex_victims)
{
	char name[16];
	unsigned int i;

	actor("vx-a", victims_a, NULL);
	actor("vx-b", victims_b, NULL);
	for (i = 0; i < faultlab_count; i++) {
		snprintf(name, sizeof(name), "vic-%u", i);
		actor(name, wants_mutex, i % 2 ? &lab_orders : &lab_stock);
	}
}

/* Waiters in S, and in D but killable. */
DEFINE_MUTEX(lab_patient);
DEFINE_MUTEX(lab_mortal);
CROSS(mutex_interruptible, "mi",
      mutex_lock(&lab_patient), IGNORE(mutex_lock_interruptible(&lab_mortal)),
      mutex_lock(&lab_mortal), IGNORE(mutex_lock_interruptible(&lab_patient)))

DEFINE_MUTEX(lab_left);
DEFINE_MUTEX(lab_right);
CROSS(mutex_killable, "mk",
      mutex_lock(&lab_left), IGNORE(mutex_lock_killable(&lab_right)),
      mutex_lock(&lab_right), IGNORE(mutex_lock_killable(&lab_left)))

/* Mutexes in a slab object, so without a symbol. */
struct lab_account {
	u64 number;
	struct mutex lock;
	s64 balance;
};
static struct lab_account *accounts[2];
static atomic_t heap_place;

static int heap(void *argument)
{
	long i = (long)argument;

	mutex_lock(&accounts[i]->lock);
	meet(&heap_place, 2);
	FOREVER(mutex_lock(&accounts[!i]->lock));
	return 0;
}

FAULT(mutex_heap)
{
	struct kmem_cache *cache = own_cache("lab_account", sizeof(struct lab_account));
	int i;

	for (i = 0; i < 2; i++) {
		accounts[i] = kmem_cache_alloc(cache, GFP_KERNEL);
		mutex_init(&accounts[i]->lock);
	}
	actor("heap-a", heap, (void *)0L);
	actor("heap-b", heap, (void *)1L);
}

/* The owner has exited; its task_struct is still there, dead, as somebody has a reference. */
DEFINE_MUTEX(lab_orphan);

static int takes_and_exits(void *lock)
{
	mutex_lock(lock);
	stays_here();
	return 0;
}

FAULT(mutex_orphan)
{
	actor("orphan-owner", takes_and_exits, &lab_orphan);
	actor("orphan-waiter", wants_mutex, &lab_orphan);
}

/* The owner has exited, and a younger task has its task_struct. */
DEFINE_MUTEX(lab_reused);

static int takes_and_is_gone(void *unused)
{
	mutex_lock(&lab_reused);
	return 0;
}

static int rests_until_stopped(void *unused)
{
	while (!kthread_should_stop())
		schedule_timeout_interruptible(HZ);
	return 0;
}

#define HEIRS 256

FAULT(mutex_reused)
{
	struct task_struct *owner = kthread_run(takes_and_is_gone, NULL, "reused-owner");
	struct task_struct **heirs = kcalloc(HEIRS, sizeof(*heirs), GFP_KERNEL);
	bool inherited = false;
	int i, round;

	actor("reused-waiter", wants_mutex, &lab_reused);
	until_wanted(&lab_reused);
	for (round = 0; round < 20 && !inherited; round++) {
		rcu_barrier();
		for (i = 0; i < HEIRS; i++) {
			heirs[i] = kthread_run(rests_until_stopped, NULL, "reused-heir");
			inherited = heirs[i] == owner;
			if (inherited || IS_ERR(heirs[i]))
				break;
		}
		while (--i >= 0)
			kthread_stop(heirs[i]);
	}
	kfree(heirs);
	if (!inherited)
		pr_emerg("faultlab: not ready: no task got the freed task_struct\n");
}

/* The owner's word is overwritten: with no address at all, and with that of freed memory. */
DEFINE_MUTEX(lab_garbage);
DEFINE_MUTEX(lab_freed);

static void overwrite(struct mutex *lock, unsigned long owner)
{
	/* MUTEX_FLAG_WAITERS, as there is one. */
	atomic_long_set(&lock->owner, owner | 1);
}

FAULT(mutex_garbage)
{
	actor("garbage-owner", holds_mutex, &lab_garbage);
	actor("garbage-waiter", wants_mutex, &lab_garbage);
	until_wanted(&lab_garbage);
	overwrite(&lab_garbage, 0x6b6b6b6b6b6b6b68UL);
}

FAULT(mutex_freed)
{
	struct kmem_cache *cache = own_cache("lab_freed", 256);
	void *freed = kmem_cache_alloc(cache, GFP_KERNEL);

	kmem_cache_free(cache, freed);
	actor("freed-owner", holds_mutex, &lab_freed);
	actor("freed-waiter", wants_mutex, &lab_freed);
	until_wanted(&lab_freed);
	overwrite(&lab_freed, (unsigned long)freed);
}
