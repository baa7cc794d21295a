/* Processes that wait for processes, or were frozen */
#include "dstate.h"

#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void vforks(void *unused)
{
	(void)unused;
	blocks_here();
	if (vfork() == 0) {
		prctl(PR_SET_NAME, "vfork-child");
		for (;;)
			pause();
	}
	got_on("vfork");
}

/* The child gets neither to exec nor to exit. */
GUEST(vfork_sleeps)
{
	actor_process("vfork-parent", vforks, NULL);
}

/* Wait until a file of a control group holds a text; some are only true after a moment. */
static void await_text(const char *path, const char *text)
{
	char buffer[256];

	for (;;) {
		int fd = CHECK(open(path, O_RDONLY));
		ssize_t size = read(fd, buffer, sizeof(buffer) - 1);

		close(fd);
		buffer[size < 0 ? 0 : size] = 0;
		if (strstr(buffer, text))
			return;
		usleep(1000);
	}
}

struct member {
	const char *group;
	atomic_int *place;
};

static void joins(void *argument)
{
	struct member *member = argument;
	char path[128];

	snprintf(path, sizeof(path), "%s/cgroup.procs", member->group);
	put(path, "0");
	blocks_here();
	meet(member->place, 2);
	FOREVER(pause());
}

/* A process in the control group; it may be frozen now. */
static void start_in(const char *group, const char *name)
{
	struct member *member = calloc(1, sizeof(*member));

	member->group = group;
	member->place = shared(sizeof(atomic_int));
	actor_process(name, joins, member);
	meet(member->place, 2);
}

GUEST(frozen_v1)
{
	mkdir("/v1", 0700);
	CHECK(mount("cgroup", "/v1", "cgroup", 0, "freezer"));
	CHECK(mkdir("/v1/box", 0700));
	CHECK(mkdir("/v1/box/inner", 0700));
	start_in("/v1/box/inner", "ice-v1");
	put("/v1/box/freezer.state", "FROZEN");
	await_text("/v1/box/freezer.state", "FROZEN");
}

GUEST(frozen_v2)
{
	mkdir("/v2", 0700);
	CHECK(mount("cgroup2", "/v2", "cgroup2", 0, ""));
	CHECK(mkdir("/v2/pod", 0700));
	start_in("/v2/pod", "ice-v2");
	put("/v2/pod/cgroup.freeze", "1");
	await_text("/v2/pod/cgroup.events", "frozen 1");
}
