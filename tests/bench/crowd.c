/* A crowd of threads, two of them in a deadlock: crowd THREADS REST
 *
 * REST is what the others do for ever: "condvar" (all idle on one), "queue" (behind the cycle),
 * "condvars", "semaphores" (each on its own), "read", "poll", "epoll" (each of a pipe of its own).
 * Prints "ready" when all threads are there; the first one joins the second. */

#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

static pthread_mutex_t accounts = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t audit = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t both_hold_one;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void *transfer(void *unused)
{
	pthread_mutex_lock(&accounts);
	pthread_barrier_wait(&both_hold_one);
	pthread_mutex_lock(&audit);
	return unused;
}

static void *report(void *unused)
{
	pthread_mutex_lock(&audit);
	pthread_barrier_wait(&both_hold_one);
	pthread_mutex_lock(&accounts);
	return unused;
}

static void *condvar(void *unused)
{
	pthread_mutex_lock(&gate);
	for (;;)
		pthread_cond_wait(&work, &gate);
	return unused;
}

static void *queue(void *unused)
{
	pthread_mutex_lock(&accounts);
	return unused;
}

static void *condvars(void *unused)
{
	pthread_mutex_t *mutex = calloc(1, sizeof *mutex);
	pthread_cond_t *cond = calloc(1, sizeof *cond);

	pthread_mutex_lock(mutex);
	for (;;)
		pthread_cond_wait(cond, mutex);
	return unused;
}

static void *semaphores(void *unused)
{
	sem_t *semaphore = calloc(1, sizeof *semaphore);

	sem_init(semaphore, 0, 0);
	for (;;)
		sem_wait(semaphore);
	return unused;
}

static int pipe_of_its_own(void)
{
	int ends[2];

	if (pipe(ends))
		fail("pipe");
	return ends[0];
}

static void *read_pipe(void *unused)
{
	char byte;
	int fd = pipe_of_its_own();

	while (read(fd, &byte, 1) != 0)
		;
	return unused;
}

static void *poll_pipe(void *unused)
{
	struct pollfd wanted = { .fd = pipe_of_its_own(), .events = POLLIN };

	for (;;)
		poll(&wanted, 1, -1);
	return unused;
}

static void *epoll_pipe(void *unused)
{
	int set = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN };

	if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, pipe_of_its_own(), &event))
		fail("epoll");
	for (;;)
		epoll_wait(set, &event, 1, -1);
	return unused;
}

static const struct {
	const char *name;
	void *(*run)(void *);
} rests[] = {
	{ "condvar", condvar }, { "queue", queue }, { "condvars", condvars },
	{ "semaphores", semaphores }, { "read", read_pipe }, { "poll", poll_pipe },
	{ "epoll", epoll_pipe },
};

static pthread_t start(void *(*run)(void *))
{
	static pthread_attr_t attributes;
	static int prepared;
	pthread_t thread;

	if (!prepared++) {
		pthread_attr_init(&attributes);
		pthread_attr_setstacksize(&attributes, 64 << 10);
	}
	if (pthread_create(&thread, &attributes, run, NULL))
		fail("pthread_create");
	return thread;
}

int main(int argc, char **argv)
{
	int threads = argc == 3 ? atoi(argv[1]) : 0;
	void *(*rest)(void *) = NULL;
	struct rlimit files;
	pthread_t second;

	for (size_t i = 0; i < sizeof rests / sizeof *rests; i++)
		if (argc == 3 && !strcmp(argv[2], rests[i].name))
			rest = rests[i].run;
	if (threads < 3 || !rest) {
		fprintf(stderr, "usage: crowd THREADS REST\n");
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	pthread_barrier_init(&both_hold_one, NULL, 3);
	second = start(transfer);
	start(report);
	pthread_barrier_wait(&both_hold_one);
	for (int i = 3; i < threads; i++)
		start(rest);
	puts("ready");
	fflush(stdout);
	pthread_join(second, NULL);
	return 0;
}
