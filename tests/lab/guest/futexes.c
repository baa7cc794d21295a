/* Locks of the C library */
#include "guest.h"

#include <time.h>

static pthread_mutex_t accounts = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t audit = PTHREAD_MUTEX_INITIALIZER;

CROSS(user_mutex, "um", actor_thread, (void)0,
      pthread_mutex_lock(&accounts), pthread_mutex_lock(&audit),
      pthread_mutex_lock(&audit), pthread_mutex_lock(&accounts))

static pthread_mutex_t *mutexes(int count, int shared_between, int protocol, int robust)
{
	pthread_mutex_t *memory = shared(count * sizeof(*memory));
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, shared_between);
	pthread_mutexattr_setprotocol(&attributes, protocol);
	pthread_mutexattr_setrobust(&attributes, robust);
	for (int i = 0; i < count; i++)
		pthread_mutex_init(&memory[i], &attributes);
	return memory;
}

static pthread_mutex_t *between;

CROSS(user_mutex_shared, "us", actor_process,
      between = mutexes(2, PTHREAD_PROCESS_SHARED, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED),
      pthread_mutex_lock(&between[0]), pthread_mutex_lock(&between[1]),
      pthread_mutex_lock(&between[1]), pthread_mutex_lock(&between[0]))

/* The kernel refuses cycles of PI mutexes alone. */
static pthread_mutex_t *urgent;
static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;

CROSS(user_mutex_pi, "up", actor_thread,
      urgent = mutexes(1, PTHREAD_PROCESS_PRIVATE, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED),
      pthread_mutex_lock(urgent), pthread_mutex_lock(&plain),
      pthread_mutex_lock(&plain), pthread_mutex_lock(urgent))

static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t second = PTHREAD_MUTEX_INITIALIZER;
static struct timespec late;

CROSS(user_mutex_timed, "ut", actor_thread, late.tv_sec = time(NULL) + 100000000,
      pthread_mutex_lock(&first), pthread_mutex_timedlock(&second, &late),
      pthread_mutex_lock(&second), pthread_mutex_timedlock(&first, &late))

static pthread_mutex_t *robust;

CROSS(user_mutex_robust, "ur", actor_process,
      robust = mutexes(2, PTHREAD_PROCESS_SHARED, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST),
      pthread_mutex_lock(&robust[0]), pthread_mutex_lock(&robust[1]),
      pthread_mutex_lock(&robust[1]), pthread_mutex_lock(&robust[0]))

static pthread_rwlock_t index_lock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_rwlock_t journal_lock = PTHREAD_RWLOCK_INITIALIZER;

CROSS(user_rwlock, "uw", actor_thread, (void)0,
      pthread_rwlock_wrlock(&index_lock), pthread_rwlock_wrlock(&journal_lock),
      pthread_rwlock_wrlock(&journal_lock), pthread_rwlock_rdlock(&index_lock))

/* Its readers are not recorded. */
static pthread_rwlock_t tree = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t tree_mutex = PTHREAD_MUTEX_INITIALIZER;

CROSS(user_rwlock_reader, "ux", actor_thread, (void)0,
      pthread_rwlock_rdlock(&tree), pthread_mutex_lock(&tree_mutex),
      pthread_mutex_lock(&tree_mutex), pthread_rwlock_wrlock(&tree))

/* uj-a joins the thread that wants what it holds. */
static pthread_mutex_t joined = PTHREAD_MUTEX_INITIALIZER;
static _Atomic pthread_t joinee;
static atomic_int join_place;

static void joiner(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&joined);
	meet(&join_place, 2);
	FOREVER(pthread_join(joinee, NULL));
}

static void joins_never(void *unused)
{
	(void)unused;
	joinee = pthread_self();
	meet(&join_place, 2);
	FOREVER(pthread_mutex_lock(&joined));
}

GUEST(user_join)
{
	actor_thread("uj-a", joiner, NULL);
	actor_thread("uj-b", joins_never, NULL);
}

/* Threads that wait for work, and one that sleeps with a lock that another one wants. */
static pthread_mutex_t queue_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t slept = PTHREAD_MUTEX_INITIALIZER;
static atomic_int slept_place;

static void waits_for_work(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&queue_mutex);
	FOREVER(pthread_cond_wait(&queue_filled, &queue_mutex));
}

static void sleeps_with_it(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&slept);
	meet(&slept_place, 2);
	FOREVER(sleep(1000000));
}

static void wants_it(void *unused)
{
	(void)unused;
	meet(&slept_place, 2);
	FOREVER(pthread_mutex_lock(&slept));
}

GUEST(user_quiet)
{
	actor_thread("uq-pool", waits_for_work, NULL);
	actor_thread("uq-sleeper", sleeps_with_it, NULL);
	actor_thread("uq-waiter", wants_it, NULL);
}
