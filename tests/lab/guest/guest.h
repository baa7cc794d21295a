/*
 * Userspace faults.  A fault is a function GUEST(name) and a line in guests.h.  Each one runs in a
 * process of its own; it starts actors, threads or processes with telling names, and returns.
 */
#ifndef GUEST_H
#define GUEST_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* `count` is what stands behind the fault's name, as in crowd:1000, else 0. */
#define GUEST(name) void guest_##name(__attribute__((unused)) int count)

#include "guests.h"
#define GUEST_DECLARE(name) GUEST(name);
GUEST_FAULTS(GUEST_DECLARE)

typedef void body(void *argument);

/* Start a thread, or a process, of that name. */
void actor_thread(const char *name, body *body, void *argument);
void actor_process(const char *name, body *body, void *argument);

/* The caller will sleep for ever in what it does next. */
void blocks_here(void);
/* The caller got on where it should not have: then the guest is not ready. */
void got_on(const char *what);
#define FOREVER(step) do { blocks_here(); step; got_on(#step); } while (0)

/* Memory that processes share, filled with zeroes. */
void *shared(size_t size);
/* Wait until `parties` callers, threads or processes, have met here. */
void meet(atomic_int *place, int parties);
/* End the program with the text and errno. */
__attribute__((noreturn)) void die(const char *what);
/* `call`'s value, unless that is -1. */
#define CHECK(call) ({ long value_ = (long)(call); if (value_ == -1) die(#call); value_; })

/*
 * Two actors, PREFIX-a and PREFIX-b, that do their first step, meet, and do their second.
 * `start` is actor_thread or actor_process; `setup` is done before.
 */
#define CROSS(name, prefix, start, setup, first1, then1, first2, then2)			\
	static atomic_int *name##_place;						\
	static void name##_a(__attribute__((unused)) void *unused)			\
	{										\
		first1;									\
		meet(name##_place, 2);							\
		FOREVER(then1);								\
	}										\
	static void name##_b(__attribute__((unused)) void *unused)			\
	{										\
		first2;									\
		meet(name##_place, 2);							\
		FOREVER(then2);								\
	}										\
	GUEST(name)									\
	{										\
		name##_place = shared(sizeof(atomic_int));				\
		setup;									\
		start(prefix "-a", name##_a, NULL);					\
		start(prefix "-b", name##_b, NULL);					\
	}

#endif
