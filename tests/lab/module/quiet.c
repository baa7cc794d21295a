// SPDX-License-Identifier: GPL-2.0
/* Nothing wrong here: what must not be taken for a deadlock */
#include <linux/wait.h>

#include "faultlab.h"

/* Three that get on, though somebody always waits. */
DEFINE_MUTEX(lab_contended);

static int contends(void *unused)
{
	stays_here();
	for (;;) {
		mutex_lock(&lab_contended);
		msleep(1);
		mutex_unlock(&lab_contended);
	}
	return 0;
}

FAULT(quiet_contention)
{
	actor("contend-0", contends, NULL);
	actor("contend-1", contends, NULL);
	actor("contend-2", contends, NULL);
}

/* A holder that sleeps for some time, one that waits for it, and it will come. */
DEFINE_MUTEX(lab_slow);

static int slow_holder(void *unused)
{
	mutex_lock(&lab_slow);
	stays_here();
	msleep(1000000);
	mutex_unlock(&lab_slow);
	return 0;
}

FAULT(quiet_slow_holder)
{
	actor("slow-holder", slow_holder, NULL);
	actor("slow-waiter", wants_mutex, &lab_slow);
}

/* Threads that wait for work: idle, on a wait queue, for a completion, with and without S. */
static DECLARE_WAIT_QUEUE_HEAD(lab_requests);
DECLARE_COMPLETION(lab_request);
static bool requested;

static int idle_thread(void *unused)
{
	rest();
	return 0;
}

static int queue_thread(void *unused)
{
	stays_here();
	wait_event_interruptible(lab_requests, requested);
	return 0;
}

static int completion_thread(void *unused)
{
	stays_here();
	IGNORE(wait_for_completion_interruptible(&lab_request));
	return 0;
}

static int patient_thread(void *unused)
{
	FOREVER(wait_for_completion(&lab_request));
	return 0;
}

FAULT(quiet_services)
{
	actor("svc-idle", idle_thread, NULL);
	actor("svc-queue", queue_thread, NULL);
	actor("svc-completion", completion_thread, NULL);
	actor("svc-patient", patient_thread, NULL);
}

/* `count` sleepers. */
static int sleeper(void *unused)
{
	rest_interruptible();
	return 0;
}

FAULT(quiet_crowd)
{
	char name[16];
	unsigned int i;

	for (i = 0; i < faultlab_count; i++) {
		snprintf(name, sizeof(name), "crowd-%u", i);
		actor(name, sleeper, NULL);
	}
}
