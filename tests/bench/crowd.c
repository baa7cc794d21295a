/* A crowd of threads, two of them in a deadlock: crowd THREADS REST
 *
 * REST is what the others do for ever: "condvar" (all idle on one), "queue" (behind the cycle),
 * "condvars", "semaphores" (each on its own), "read", "poll", "epoll" (each of a pipe of its own),
 * and others, see `rests`.
 * Prints "ready" when all threads are there; the first one joins the second. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
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

static void *read_socket(void *unused)
{
	char byte;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		fail("socketpair");
	while (read(ends[0], &byte, 1) != 0)
		;
	return unused;
}

static void *accept_one(void *unused)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (void *)&any, sizeof any) || listen(fd, 1))
		fail("listen");
	accept(fd, NULL, NULL);
	return unused;
}

/* A new file without a name, locked. */
static int locked_file(void)
{
	char name[] = "/tmp/crowd-XXXXXX";
	int fd = mkostemp(name, O_CLOEXEC);

	if (fd < 0 || unlink(name) || flock(fd, LOCK_EX))
		fail("flock");
	return fd;
}

static void lock_again(int fd)
{
	char name[32];

	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	fd = open(name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail(name);
	flock(fd, LOCK_EX);
}

static void *lock_own_file(void *unused)
{
	lock_again(locked_file());
	return unused;
}

static void *lock_one_file(void *unused)
{
	static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
	static int first = -1;

	pthread_mutex_lock(&guard);
	if (first < 0)
		first = locked_file();
	pthread_mutex_unlock(&guard);
	lock_again(first);
	return unused;
}

static void *wait_for_child(void *unused)
{
	pid_t child = fork();

	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	waitpid(child, NULL, 0);
	return unused;
}

static void *join_former(void *unused)
{
	static pthread_t former;
	static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
	pthread_t other;

	pthread_mutex_lock(&guard);
	other = former;
	former = pthread_self();
	pthread_mutex_unlock(&guard);
	if (other)
		pthread_join(other, NULL);
	pause();
	return unused;
}

/* Each holds a mutex of its own, and wants its predecessor's. */
static void *lock_formers(void *unused)
{
	static pthread_mutex_t *former;
	static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
	pthread_mutex_t *own = calloc(1, sizeof *own), *other;

	pthread_mutex_lock(own);
	pthread_mutex_lock(&guard);
	other = former;
	former = own;
	pthread_mutex_unlock(&guard);
	if (other)
		pthread_mutex_lock(other);
	pause();
	return unused;
}

/* By twos: one holds a mutex and waits to be told something, the other wants the mutex. */
static void *lock_in_pairs(void *unused)
{
	static pthread_mutex_t *open, guard = PTHREAD_MUTEX_INITIALIZER;
	pthread_mutex_t *own, quiet = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t never = PTHREAD_COND_INITIALIZER;

	pthread_mutex_lock(&guard);
	own = open;
	open = own ? NULL : calloc(1, sizeof *open);
	if (!own) {
		pthread_mutex_lock(open);
		pthread_mutex_unlock(&guard);
		pthread_mutex_lock(&quiet);
		for (;;)
			pthread_cond_wait(&never, &quiet);
	}
	pthread_mutex_unlock(&guard);
	pthread_mutex_lock(own);
	return unused;
}

static void *write_locks(void *unused)
{
	pthread_rwlock_t *lock = calloc(1, sizeof *lock);

	pthread_rwlock_rdlock(lock);
	pthread_rwlock_wrlock(lock);
	return unused;
}

static void *barriers(void *unused)
{
	pthread_barrier_t *barrier = calloc(1, sizeof *barrier);

	pthread_barrier_init(barrier, NULL, 2);
	pthread_barrier_wait(barrier);
	return unused;
}

static void *sleep_long(void *unused)
{
	for (;;)
		sleep(1000);
	return unused;
}

static const struct {
	const char *name;
	void *(*run)(void *);
} rests[] = {
	{ "condvar", condvar }, { "queue", queue }, { "condvars", condvars },
	{ "semaphores", semaphores }, { "read", read_pipe }, { "poll", poll_pipe },
	{ "epoll", epoll_pipe }, { "sockets", read_socket }, { "accept", accept_one },
	{ "files", lock_own_file }, { "file", lock_one_file }, { "children", wait_for_child },
	{ "joins", join_former }, { "chain", lock_formers }, { "pairs", lock_in_pairs },
	{ "rwlocks", write_locks }, { "barriers", barriers }, { "sleep", sleep_long },
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
