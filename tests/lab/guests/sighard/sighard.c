/* Pending signals whose senders are not what their pids say. */
#include "guest.h"

#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pid_t *ids;

static void block_all(void)
{
	sigset_t all;

	sigfillset(&all);
	CHECK(sigprocmask(SIG_BLOCK, &all, NULL));
}

static void share(void)
{
	ids = shared(8 * sizeof(*ids));
}

/* hd-init is init of a pid namespace, hd-inner its child; hd-outside is not in it */
static void init_of_namespace(void *unused)
{
	(void)unused;
	CHECK(unshare(CLONE_NEWPID));
	pid_t init = CHECK(fork());
	if (init) {
		ids[0] = init;
		FOREVER(pause());
	}
	prctl(PR_SET_NAME, "hd-init");
	CHECK(setpgid(0, 0));
	block_all();
	pid_t inner = CHECK(fork());
	if (!inner) {
		prctl(PR_SET_NAME, "hd-inner");
		block_all();
		ids[2] = 1;
		for (;;)
			pause();
	}
	while (!ids[2])
		usleep(1000);
	CHECK(kill(inner, SIGTERM));
	ids[3] = 1;
	for (;;)
		pause();
}

static void outside(void *unused)
{
	(void)unused;
	while (!ids[3] || !ids[0])
		usleep(1000);
	CHECK(kill(-ids[0], SIGUSR1)); /* both have hd-init's process group */
	FOREVER(pause());
}

GUEST(hard_namespace)
{
	share();
	actor_process("hd-maker", init_of_namespace, NULL);
	actor_process("hd-outside", outside, NULL);
}

/* hd-target has a signal of a process that is gone, and whose pid hd-impostor has now */
static void target(void *unused)
{
	(void)unused;
	block_all();
	ids[0] = getpid();
	FOREVER(pause());
}

static void reuses(void *unused)
{
	char text[16];
	int fd, status;

	(void)unused;
	while (!ids[0])
		usleep(1000);
	pid_t child = CHECK(fork());
	if (!child) {
		kill(ids[0], SIGUSR1);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0));
	usleep(500000); /* others have been made meanwhile */
	for (int i = 0; i < 1000; i++) {
		fd = CHECK(open("/proc/sys/kernel/ns_last_pid", O_WRONLY));
		snprintf(text, sizeof(text), "%d", child - 1);
		CHECK(write(fd, text, strlen(text)));
		close(fd);
		pid_t again = CHECK(fork());
		if (!again) {
			if (getpid() != child)
				_exit(0);
			prctl(PR_SET_NAME, "hd-impostor");
			for (;;)
				pause();
		}
		if (again == child)
			break;
		CHECK(waitpid(again, &status, 0));
	}
	FOREVER(pause());
}

GUEST(hard_reused)
{
	share();
	actor_process("hd-target", target, NULL);
	actor_process("hd-reuser", reuses, NULL);
}

/* hd-kinds: by itself, by a descriptor, by a message queue, by children */
static void *sleeps(void *unused)
{
	prctl(PR_SET_NAME, "hd-worker");
	ids[0] = syscall(SYS_gettid);
	for (;;)
		pause();
	return unused;
}

static void kinds(void *unused)
{
	struct mq_attr shape = { .mq_maxmsg = 2, .mq_msgsize = 8 };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 5 };
	pthread_t thread;
	int ends[2];

	(void)unused;
	block_all();
	CHECK(pthread_create(&thread, NULL, sleeps, NULL));
	while (!ids[0])
		usleep(1000);
	raise(SIGUSR2);
	CHECK(syscall(SYS_tgkill, getpid(), ids[0], SIGUSR1));
	CHECK(pipe(ends));
	CHECK(fcntl(ends[0], F_SETOWN, getpid()));
	CHECK(fcntl(ends[0], F_SETSIG, SIGRTMIN + 4));
	CHECK(fcntl(ends[0], F_SETFL, O_ASYNC));
	CHECK(write(ends[1], "x", 1));
	mqd_t queue = mq_open("/hard", O_CREAT | O_RDWR, 0600, &shape);
	if (queue >= 0) {
		event.sigev_value.sival_int = 9;
		CHECK(mq_notify(queue, &event));
		CHECK(mq_send(queue, "x", 1, 0));
	}
	pid_t child = CHECK(fork());
	if (!child)
		for (;;)
			pause();
	CHECK(kill(child, SIGKILL));
	usleep(10000);
	FOREVER(pause());
}

GUEST(hard_kinds)
{
	share();
	actor_process("hd-kinds", kinds, NULL);
}
