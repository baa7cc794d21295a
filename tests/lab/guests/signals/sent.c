/* Signals that are pending, as their receivers block them; who sent each is known. */
#include "signals.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

atomic_int *stage;
pid_t *receiver;

void block_all(void)
{
	sigset_t all;

	sigfillset(&all);
	CHECK(sigprocmask(SIG_BLOCK, &all, NULL));
}

void at_stage(int number)
{
	while (atomic_load(stage) < number)
		usleep(1000);
}

void next_stage(void)
{
	atomic_fetch_add(stage, 1);
}

static void share(void)
{
	stage = shared(sizeof(*stage));
	receiver = shared(2 * sizeof(*receiver));
}

/* sg-target blocks all: sg-killer kills it, sg-queuer queues three values, sg-thread one thread */
static void target(void *unused)
{
	(void)unused;
	block_all();
	receiver[0] = getpid();
	next_stage();
	at_stage(4);
	FOREVER(pause());
}

static void kills(void *unused)
{
	(void)unused;
	at_stage(1);
	CHECK(kill(receiver[0], SIGUSR1));
	CHECK(kill(receiver[0], SIGTERM));
	next_stage();
	FOREVER(pause());
}

static void queues(void *unused)
{
	(void)unused;
	CHECK(setresuid(1234, 0, 0));
	at_stage(2);
	for (int i = 0; i < 3; i++)
		CHECK(sigqueue(receiver[0], SIGRTMIN + 1, (union sigval){ .sival_int = 0x4700 + i }));
	next_stage();
	FOREVER(pause());
}

static void to_thread(void *unused)
{
	(void)unused;
	at_stage(3);
	CHECK(syscall(SYS_tgkill, receiver[0], receiver[0], SIGUSR2));
	next_stage();
	FOREVER(pause());
}

GUEST(sig_pending)
{
	share();
	actor_process("sg-target", target, NULL);
	actor_process("sg-killer", kills, NULL);
	actor_process("sg-queuer", queues, NULL);
	actor_process("sg-thread", to_thread, NULL);
}

/* sg-timer: a POSIX timer's signal and an alarm are pending */
static void timed(void *unused)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2 };
	struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
	struct timespec while_ = { .tv_sec = 0, .tv_nsec = 50000000 };
	sigset_t pending;
	timer_t timer;

	(void)unused;
	block_all();
	event.sigev_value.sival_int = 77;
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer));
	CHECK(timer_settime(timer, 0, &soon, NULL));
	alarm(1);
	do {
		nanosleep(&while_, NULL);
		CHECK(sigpending(&pending));
	} while (!sigismember(&pending, SIGALRM) || !sigismember(&pending, SIGRTMIN + 2));
	FOREVER(pause());
}

GUEST(sig_timer)
{
	actor_process("sg-timer", timed, NULL);
}

/* sg-orphan asked for SIGUSR1 at its parent's death, and the parent has died */
static void orphan(void *unused)
{
	sigset_t pending;

	(void)unused;
	block_all();
	CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
	next_stage();
	do {
		usleep(1000);
		CHECK(sigpending(&pending));
	} while (!sigismember(&pending, SIGUSR1));
	FOREVER(pause());
}

GUEST(sig_parent)
{
	share();
	if (CHECK(fork()) == 0) {
		prctl(PR_SET_NAME, "sg-parent");
		actor_process("sg-orphan", orphan, NULL);
		at_stage(1);
		_exit(0);
	}
	while (atomic_load(stage) < 1)
		usleep(1000);
}

/* sg-pipe wrote to a pipe that nobody reads; SIGPIPE is pending for its thread */
static void writes(void *unused)
{
	int ends[2];

	(void)unused;
	block_all();
	CHECK(pipe(ends));
	close(ends[0]);
	if (write(ends[1], "x", 1) != -1 || errno != EPIPE)
		die("no EPIPE");
	FOREVER(pause());
}

GUEST(sig_pipe)
{
	actor_process("sg-pipe", writes, NULL);
}

/* sg-crowd: one process with 200 signals in its queue, each from another process */
static void crowded(void *unused)
{
	(void)unused;
	block_all();
	receiver[0] = getpid();
	next_stage();
	at_stage(201);
	FOREVER(pause());
}

GUEST(sig_crowd)
{
	share();
	actor_process("sg-crowd", crowded, NULL);
	at_stage(1);
	for (int i = 0; i < 200; i++) {
		if (CHECK(fork()) == 0) {
			CHECK(sigqueue(receiver[0], SIGRTMIN + 4, (union sigval){ .sival_int = getpid() }));
			next_stage();
			_exit(0);
		}
		while (atomic_load(stage) < i + 2)
			usleep(200);
	}
}
