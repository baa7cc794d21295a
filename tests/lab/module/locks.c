// SPDX-License-Identifier: GPL-2.0
/* Semaphores, rt_mutex, ww_mutex */
#include <linux/rtmutex.h>
#include <linux/semaphore.h>
#include <linux/ww_mutex.h>

#include "faultlab.h"

/* A semaphore as a mutex, against a mutex. */
struct semaphore lab_gate = __SEMAPHORE_INITIALIZER(lab_gate, 1);
DEFINE_MUTEX(lab_gate_mutex);
CROSS(semaphore_mutex, "sm",
      down(&lab_gate), mutex_lock(&lab_gate_mutex),
      mutex_lock(&lab_gate_mutex), down(&lab_gate))

/* Two semaphores. */
struct semaphore lab_inner = __SEMAPHORE_INITIALIZER(lab_inner, 1);
struct semaphore lab_outer = __SEMAPHORE_INITIALIZER(lab_outer, 1);
CROSS(semaphore_abba, "se",
      down(&lab_outer), down(&lab_inner),
      down(&lab_inner), IGNORE(down_interruptible(&lab_outer)))

DEFINE_RT_MUTEX(lab_urgent);
DEFINE_RT_MUTEX(lab_priority);
CROSS(rt_mutex_abba, "rt",
      rt_mutex_lock(&lab_urgent), rt_mutex_lock(&lab_priority),
      rt_mutex_lock(&lab_priority), rt_mutex_lock(&lab_urgent))

/* rd-b is more urgent than rd-a: the kernel sees that neither can get on, and lets rd-b sleep. */
DEFINE_RT_MUTEX(lab_seen);
DEFINE_RT_MUTEX(lab_refused);
static atomic_t detected_place;

static int detected_a(void *unused)
{
	rt_mutex_lock(&lab_seen);
	meet(&detected_place, 2);
	FOREVER(rt_mutex_lock(&lab_refused));
	return 0;
}

static int detected_b(void *unused)
{
	rt_mutex_lock(&lab_refused);
	meet(&detected_place, 2);
	msleep(300);
	sched_set_fifo(current);
	FOREVER(rt_mutex_lock(&lab_seen));
	return 0;
}

FAULT(rt_mutex_detected)
{
	actor("rd-a", detected_a, NULL);
	actor("rd-b", detected_b, NULL);
}

DEFINE_RT_MUTEX(lab_boosted);
DEFINE_MUTEX(lab_boosted_mutex);
CROSS(rt_mutex_mutex, "rx",
      rt_mutex_lock(&lab_boosted), mutex_lock(&lab_boosted_mutex),
      mutex_lock(&lab_boosted_mutex), rt_mutex_lock(&lab_boosted))

/* Without a context a ww_mutex is a mutex. */
static DEFINE_WW_CLASS(lab_class);
struct ww_mutex lab_buffer;
struct ww_mutex lab_texture;
CROSS_AFTER(ww_mutex_abba, "ww",
	    (ww_mutex_init(&lab_buffer, &lab_class), ww_mutex_init(&lab_texture, &lab_class)),
	    IGNORE(ww_mutex_lock(&lab_buffer, NULL)), IGNORE(ww_mutex_lock(&lab_texture, NULL)),
	    IGNORE(ww_mutex_lock(&lab_texture, NULL)), IGNORE(ww_mutex_lock(&lab_buffer, NULL)))

/* With one, its holder is not told to back off when it waits for something else. */
struct ww_mutex lab_surface;
DEFINE_MUTEX(lab_surface_mutex);
static atomic_t context_place;

static int context_a(void *unused)
{
	struct ww_acquire_ctx context;

	ww_acquire_init(&context, &lab_class);
	IGNORE(ww_mutex_lock(&lab_surface, &context));
	meet(&context_place, 2);
	FOREVER(mutex_lock(&lab_surface_mutex));
	return 0;
}

static int context_b(void *unused)
{
	struct ww_acquire_ctx context;

	mutex_lock(&lab_surface_mutex);
	ww_acquire_init(&context, &lab_class);
	meet(&context_place, 2);
	FOREVER(IGNORE(ww_mutex_lock(&lab_surface, &context)));
	return 0;
}

FAULT(ww_mutex_context)
{
	ww_mutex_init(&lab_surface, &lab_class);
	actor("wc-a", context_a, NULL);
	actor("wc-b", context_b, NULL);
}
