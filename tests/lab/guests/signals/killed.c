/* Tasks that are being killed, and those that were. */
#include "signals.h"

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static pid_t *victim;
static atomic_int *place;

/* Take a lock of the kernel's (module/device.c). */
static void lock(int number)
{
	char command[16];
	int fd = CHECK(open("/dev/faultlab", O_WRONLY));

	snprintf(command, sizeof(command), "lock %d", number);
	CHECK(write(fd, command, strlen(command)));
	close(fd);
}

static void share(void)
{
	victim = shared(sizeof(*victim));
	place = shared(sizeof(*place));
}

static char state_of(pid_t tid)
{
	char path[64], line[256], *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	line[fread(line, 1, sizeof(line) - 1, file)] = 0;
	fclose(file);
	end = strrchr(line, ')');
	return end ? end[2] : 0;
}

static void until_state(pid_t tid, char state)
{
	while (state_of(tid) != state)
		usleep(1000);
}

static void holds(void *number)
{
	lock((int)(long)number);
	meet(place, 2);
	FOREVER(pause());
}

/* sg-stuck waits for sg-holder's lock, in D state, and sg-slayer has killed it */
static void stuck(void *number)
{
	meet(place, 2);
	victim[0] = getpid();
	FOREVER(lock((int)(long)number));
}

static void slays(void *unused)
{
	(void)unused;
	while (!victim[0])
		usleep(1000);
	until_state(victim[0], 'D');
	CHECK(kill(victim[0], SIGKILL));
	FOREVER(pause());
}

GUEST(sig_stuck)
{
	share();
	actor_process("sg-holder", holds, (void *)4);
	actor_process("sg-stuck", stuck, (void *)4);
	actor_process("sg-slayer", slays, NULL);
}

/*
 * A process dies of a null pointer in its thread sg-faulter, but for its thread sg-thread-d, which
 * waits for a lock of the kernel's that sg-keeper holds.
 */
static _Atomic pid_t in_lock;

static void waits_in_kernel(void *unused)
{
	(void)unused;
	in_lock = gettid();
	FOREVER(lock(5));
}

static void *faults(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "sg-faulter");
	until_state(in_lock, 'D');
	*victim = gettid();
	*(volatile int *)(sizeof(int) * 4) = 1;
	return NULL;
}

static void keeps(void *unused)
{
	(void)unused;
	lock(5);
	meet(place, 2);
	while (!*victim)
		usleep(1000);
	until_state(*victim, 'D'); /* it would dump core, and waits for the other thread */
	FOREVER(pause());
}

GUEST(sig_group)
{
	share();
	actor_process("sg-keeper", keeps, NULL);
	if (CHECK(fork()) == 0) {
		struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
		pthread_t thread;

		CHECK(setrlimit(RLIMIT_CORE, &unlimited));
		prctl(PR_SET_NAME, "sg-group");
		meet(place, 2);
		actor_thread("sg-thread-d", waits_in_kernel, NULL);
		while (!in_lock)
			usleep(1000);
		pthread_create(&thread, NULL, faults, NULL);
		for (;;)
			pause();
	}
}

/* sg-tracer traces sg-traced, which has stopped for the SIGUSR1 that sg-pest sent */
static void traces(void *unused)
{
	int status;
	pid_t child = CHECK(fork());

	(void)unused;
	if (child == 0) {
		prctl(PR_SET_NAME, "sg-traced");
		CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0));
		victim[0] = getpid();
		for (;;)
			pause();
	}
	CHECK(waitpid(child, &status, 0));
	if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGUSR1)
		die("stopped for something else");
	FOREVER(pause());
}

static void pesters(void *unused)
{
	(void)unused;
	while (!victim[0])
		usleep(1000);
	CHECK(kill(victim[0], SIGUSR1));
	FOREVER(pause());
}

GUEST(sig_traced)
{
	share();
	actor_process("sg-tracer", traces, NULL);
	actor_process("sg-pest", pesters, NULL);
}

/* sg-eater uses up its cgroup's memory and is killed; sg-mother leaves it a zombie */
static void put(const char *path, const char *text)
{
	int fd = CHECK(open(path, O_WRONLY));

	CHECK(write(fd, text, strlen(text)));
	close(fd);
}

static void eats(void)
{
	char pid[16];

	prctl(PR_SET_NAME, "sg-eater");
	snprintf(pid, sizeof(pid), "%d", getpid());
	put("/cgroup/small/cgroup.procs", pid);
	for (;;) {
		char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

		if (memory == MAP_FAILED)
			_exit(1);
		memset(memory, 1, 1 << 20);
	}
}

static void mothers(void *unused)
{
	siginfo_t info;
	pid_t child = CHECK(fork());

	(void)unused;
	if (child == 0)
		eats();
	CHECK(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
	if (info.si_code != CLD_KILLED || info.si_status != SIGKILL)
		die("not killed");
	FOREVER(pause());
}

GUEST(sig_oom)
{
	mkdir("/cgroup", 0700);
	CHECK(mount("cgroup", "/cgroup", "cgroup2", 0, NULL));
	put("/cgroup/cgroup.subtree_control", "+memory");
	CHECK(mkdir("/cgroup/small", 0700));
	put("/cgroup/small/memory.max", "8388608");
	if (access("/cgroup/small/memory.swap.max", W_OK) == 0)
		put("/cgroup/small/memory.swap.max", "0");
	actor_process("sg-mother", mothers, NULL);
}
