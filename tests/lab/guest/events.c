/* The address space's lock, vfork(), and a core dump that a thread keeps from happening */
#include "guest.h"

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static int device(const char *command)
{
	int fd = CHECK(open("/dev/faultlab", O_WRONLY));
	ssize_t done = write(fd, command, strlen(command));

	close(fd);
	return done < 0 ? -1 : 0;
}

/* ml-a has the address space locked, and wants mutex 4; ml-b has that, and maps memory. */
CROSS(mmap_lock, "ml", actor_thread, (void)0,
      (void)0, device("space 4"),
      CHECK(device("lock 4")),
      (usleep(300000), mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)))

/* vf-parent has the file locked; its child, in its memory until it calls exec, wants that. */
static void vfork_parent(void *unused)
{
	(void)unused;
	CHECK(flock(CHECK(open("/tmp/vfork", O_RDWR | O_CREAT, 0600)), LOCK_EX));
	blocks_here();
	if (vfork() == 0) {
		prctl(PR_SET_NAME, "vf-child");
		flock(open("/tmp/vfork", O_RDWR), LOCK_EX);
		_exit(0);
	}
	got_on("vfork");
}

GUEST(vfork_flock)
{
	actor_process("vf-parent", vfork_parent, NULL);
}

/* cd-dumper dies; cd-stuck, of its process, does not, as it waits in the kernel for mutex 5. */
static atomic_int *core_place;

static void core_holder(void *unused)
{
	(void)unused;
	CHECK(device("lock 5"));
	meet(core_place, 3);
	FOREVER(flock(CHECK(open("/tmp/core", O_RDWR | O_CREAT, 0600)), LOCK_EX));
}

static void core_stuck(void *unused)
{
	(void)unused;
	meet(core_place, 3);
	FOREVER(device("lock 5"));
}

static void core_dumper(void *unused)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	(void)unused;
	CHECK(setrlimit(RLIMIT_CORE, &all));
	CHECK(flock(CHECK(open("/tmp/core", O_RDWR | O_CREAT, 0600)), LOCK_EX));
	meet(core_place, 3);
	usleep(300000);
	blocks_here();
	abort();
}

static void core_process(void *unused)
{
	(void)unused;
	actor_thread("cd-stuck", core_stuck, NULL);
	core_dumper(NULL);
}

GUEST(core_dump)
{
	core_place = shared(sizeof(*core_place));
	actor_process("cd-holder", core_holder, NULL);
	actor_process("cd-dumper", core_process, NULL);
}
