/* Nothing is stuck here: what must not be reported.  And: many that wait for one server */
#include "dstate.h"

#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static atomic_int *rounds; /* of all workers */

/* A process that works without an end: no actor, as it has no place where it blocks. */
static void worker(const char *name, body *body, void *argument)
{
	if (CHECK(fork()) == 0) {
		prctl(PR_SET_NAME, name);
		body(argument);
	}
}

static void writes_and_syncs(void *path)
{
	int fd = CHECK(open(path, O_CREAT | O_RDWR | O_TRUNC, 0600));
	static char data[4096];

	for (;; atomic_fetch_add(rounds, 1)) {
		CHECK(pwrite(fd, data, sizeof(data), 0));
		CHECK(fsync(fd));
		usleep(2000);
	}
}

static void vforks_and_waits(void *unused)
{
	(void)unused;
	for (;; atomic_fetch_add(rounds, 1)) {
		pid_t child = vfork();

		if (child == 0) {
			usleep(20000);
			_exit(0);
		}
		waitpid(child, NULL, 0);
		usleep(1000);
	}
}

static void makes_files(void *directory)
{
	char path[64];

	for (;; atomic_fetch_add(rounds, 1)) {
		snprintf(path, sizeof(path), "%s/file-%d", (char *)directory, getpid());
		close(CHECK(open(path, O_CREAT | O_WRONLY, 0600)));
		CHECK(unlink(path));
		usleep(500);
	}
}

static void rests(void *unused)
{
	(void)unused;
	meet(rounds, 200);
	FOREVER(pause());
}

/* Files that are written and flushed, children that are waited for, a contended directory. */
GUEST(busy)
{
	copy("/ext4.image", "/dev/ram0");
	mkdir("/busy", 0700);
	CHECK(mount("/dev/ram0", "/busy", "ext4", 0, ""));
	rounds = shared(sizeof(*rounds));
	worker("busy-sync-0", writes_and_syncs, "/busy/sync-0");
	worker("busy-sync-1", writes_and_syncs, "/busy/sync-1");
	worker("busy-vfork", vforks_and_waits, NULL);
	for (int i = 0; i < 4; i++) {
		char name[16];

		snprintf(name, sizeof(name), "busy-names-%d", i);
		worker(name, makes_files, "/busy");
	}
	actor_process("busy-idle", rests, NULL);
}

static void reads(void *fd)
{
	char byte;

	FOREVER(pread((int)(long)fd, &byte, 1, 0));
}

/* COUNT processes that read a suspended device. */
GUEST(waiters)
{
	long fd;
	char name[16];

	dm_create("lab-slow", "1:0", 0, 8192);
	fd = CHECK(open("/dev/lab-slow", O_RDONLY));
	dm_suspend("lab-slow");
	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "waiter-%d", i % 10000);
		actor_process(name, reads, (void *)fd);
	}
}
