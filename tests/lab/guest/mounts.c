/* File systems that do not answer: FUSE without its server's help, ext4 frozen */
#include "guest.h"

#include <linux/fs.h>
#include <linux/fuse.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* --- FUSE -------------------------------------------------------------------------------- */

struct mount {
	const char *path;
	int fd;
	int then_locks; /* the server wants a lock, instead of waiting for its next request */
	atomic_int *place;
};

static const char *lock_path = "/tmp/fuse-lock";

static void mount_fuse(struct mount *mount_point)
{
	char options[128];

	mkdir(mount_point->path, 0700);
	mount_point->fd = CHECK(open("/dev/fuse", O_RDWR));
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0",
		 mount_point->fd);
	CHECK(mount("faultlab", mount_point->path, "fuse.faultlab", 0, options));
}

static void serve(void *argument)
{
	struct mount *mount_point = argument;
	static char buffer[1 << 17];
	struct fuse_in_header *request = (void *)buffer;
	struct {
		struct fuse_out_header header;
		struct fuse_init_out body;
	} answer = { 0 };

	CHECK(read(mount_point->fd, buffer, sizeof(buffer)));
	if (request->opcode != FUSE_INIT)
		die("FUSE_INIT");
	answer.header.len = sizeof(answer);
	answer.header.unique = request->unique;
	answer.body.major = FUSE_KERNEL_VERSION;
	answer.body.minor = FUSE_KERNEL_MINOR_VERSION;
	answer.body.max_write = 4096;
	CHECK(write(mount_point->fd, &answer, sizeof(answer)));
	meet(mount_point->place, 2);
	CHECK(read(mount_point->fd, buffer, sizeof(buffer)));
	if (mount_point->then_locks)
		FOREVER(flock(CHECK(open(lock_path, O_RDWR | O_CREAT, 0600)), LOCK_EX));
	FOREVER(pause());
}

static void ask(void *argument)
{
	struct mount *mount_point = argument;
	struct stat status;
	char path[64];

	close(mount_point->fd); /* who has it is a server */
	if (mount_point->then_locks)
		CHECK(flock(CHECK(open(lock_path, O_RDWR | O_CREAT, 0600)), LOCK_EX));
	meet(mount_point->place, 2);
	snprintf(path, sizeof(path), "%s/file", mount_point->path);
	FOREVER(stat(path, &status));
}

/* The server has read the request, and sleeps. */
GUEST(fuse_silent)
{
	static struct mount silent = { .path = "/silent" };

	silent.place = shared(sizeof(atomic_int));
	mount_fuse(&silent);
	actor_process("fuse-server", serve, &silent);
	actor_process("fuse-client", ask, &silent);
}

/* The server wants a lock that its client has. */
GUEST(fuse_flock)
{
	static struct mount locking = { .path = "/locking", .then_locks = 1 };

	locking.place = shared(sizeof(atomic_int));
	mount_fuse(&locking);
	actor_process("ff-server", serve, &locking);
	actor_process("ff-client", ask, &locking);
}

/* --- a frozen file system ------------------------------------------------------------------ */

static void copy(const char *from, const char *to)
{
	static char buffer[65536];
	int source = CHECK(open(from, O_RDONLY)), target = CHECK(open(to, O_WRONLY));
	ssize_t size;

	while ((size = CHECK(read(source, buffer, sizeof(buffer)))) > 0)
		CHECK(write(target, buffer, size));
	close(source);
	CHECK(fsync(target));
	close(target);
}

static void creates(void *unused)
{
	(void)unused;
	FOREVER(open("/frozen/new", O_CREAT | O_WRONLY, 0600));
}

static void writes(void *fd)
{
	FOREVER(write((int)(long)fd, "x", 1));
}

GUEST(frozen)
{
	long fd;

	copy("/ext4.image", "/dev/ram0");
	mkdir("/frozen", 0700);
	CHECK(mount("/dev/ram0", "/frozen", "ext4", 0, ""));
	fd = CHECK(open("/frozen/old", O_CREAT | O_WRONLY, 0600));
	CHECK(ioctl(CHECK(open("/frozen", O_RDONLY)), FIFREEZE, 0));
	actor_process("frozen-create", creates, NULL);
	actor_process("frozen-write", writes, (void *)fd);
}
