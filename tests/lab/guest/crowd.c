/* Many tasks that rest, as on a machine at work: in 50 threads a process, in several calls */
#include "guest.h"

#include <poll.h>

#define THREADS 50

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

static void rests(void *argument)
{
	struct pollfd none = { .fd = -1 };

	switch ((long)argument % 3) {
	case 0:
		FOREVER(poll(&none, 1, -1));
		break;
	case 1:
		FOREVER(sleep(1000000));
		break;
	default:
		pthread_mutex_lock(&mutex);
		FOREVER(pthread_cond_wait(&condition, &mutex));
	}
}

static void process(void *argument)
{
	long count = (long)argument;

	for (long i = 1; i < count; i++)
		actor_thread("crowd-thread", rests, (void *)i);
	rests(0);
}

GUEST(crowd)
{
	for (int left = count; left > 0; left -= THREADS)
		actor_process("crowd-process", process,
			      (void *)(long)(left < THREADS ? left : THREADS));
}
