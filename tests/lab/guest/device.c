/* Kernel mutexes held by user tasks, through /dev/faultlab (module/device.c) */
#include "guest.h"

#include <sys/file.h>

static int device(const char *command)
{
	int fd = CHECK(open("/dev/faultlab", O_WRONLY));
	ssize_t done = write(fd, command, strlen(command));

	close(fd);
	return done < 0 ? -1 : 0;
}

/* A pthread mutex against a kernel mutex. */
static pthread_mutex_t cache = PTHREAD_MUTEX_INITIALIZER;

CROSS(user_kernel, "uk", actor_thread, (void)0,
      pthread_mutex_lock(&cache), device("lock 0"),
      CHECK(device("lock 0")), pthread_mutex_lock(&cache))

/* A kthread, dev-kthread, holds mutex 1 and wants 2; see the fault device_kthread. */
static void meets_kthread(void *unused)
{
	(void)unused;
	CHECK(device("lock 2"));
	FOREVER(device("lock 1"));
}

GUEST(user_kthread)
{
	actor_process("dev-user", meets_kthread, NULL);
}

/* uc-a: pthread mutex, then flock; uc-b: flock, then kernel mutex; uc-c: that, then the first. */
static pthread_mutex_t *chained;
static atomic_int *chain_place;

static int lock_file(void)
{
	return flock(CHECK(open("/tmp/chain", O_RDWR | O_CREAT, 0600)), LOCK_EX);
}

static void chain_a(void *unused)
{
	(void)unused;
	pthread_mutex_lock(chained);
	meet(chain_place, 3);
	FOREVER(lock_file());
}

static void chain_b(void *unused)
{
	(void)unused;
	CHECK(lock_file());
	meet(chain_place, 3);
	FOREVER(device("lock 3"));
}

static void chain_c(void *unused)
{
	(void)unused;
	CHECK(device("lock 3"));
	meet(chain_place, 3);
	FOREVER(pthread_mutex_lock(chained));
}

GUEST(user_chain)
{
	pthread_mutexattr_t attributes;

	chained = shared(sizeof(*chained));
	chain_place = shared(sizeof(*chain_place));
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(chained, &attributes);
	actor_process("uc-a", chain_a, NULL);
	actor_process("uc-b", chain_b, NULL);
	actor_process("uc-c", chain_c, NULL);
}
