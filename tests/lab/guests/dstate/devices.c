/* Block devices that do not complete what they are asked: a suspended dm device, an nbd device */
#include "dstate.h"

#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/nbd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

int try_put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), failed;

	if (fd < 0)
		return -1;
	failed = write(fd, text, strlen(text)) < 0;
	close(fd);
	return failed ? -1 : 0;
}

void put(const char *path, const char *text)
{
	if (try_put(path, text))
		die(path);
}

void copy(const char *from, const char *to)
{
	static char buffer[65536];
	int source = CHECK(open(from, O_RDONLY));
	int target = CHECK(open(to, O_WRONLY | O_CREAT, 0600));
	ssize_t size;

	while ((size = CHECK(read(source, buffer, sizeof(buffer)))) > 0)
		CHECK(write(target, buffer, size));
	close(source);
	CHECK(fsync(target));
	close(target);
}

void forget(int fd)
{
	CHECK(fsync(fd));
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* --- the device mapper ------------------------------------------------------------------- */

static struct dm_ioctl *dm_request(const char *name, unsigned int flags)
{
	struct dm_ioctl *request = calloc(1, 16384);

	request->version[0] = 4;
	request->data_size = 16384;
	request->data_start = sizeof(*request);
	request->flags = flags;
	snprintf(request->name, sizeof(request->name), "%s", name);
	return request;
}

static int dm_control(void)
{
	mkdir("/dev/mapper", 0700);
	mknod("/dev/mapper/control", S_IFCHR | 0600, makedev(10, 236));
	return CHECK(open("/dev/mapper/control", O_RDWR));
}

void dm_create(const char *name, const char *device, long start, long sectors)
{
	int control = dm_control();
	struct dm_ioctl *request = dm_request(name, 0);
	struct dm_target_spec *target;
	char path[64];

	CHECK(ioctl(control, DM_DEV_CREATE, request));
	snprintf(path, sizeof(path), "/dev/%s", name);
	mknod(path, S_IFBLK | 0600, request->dev);
	request = dm_request(name, 0);
	request->target_count = 1;
	target = (void *)((char *)request + request->data_start);
	target->length = sectors;
	strcpy(target->target_type, "linear");
	sprintf((char *)(target + 1), "%s %ld", device, start);
	target->next = sizeof(*target) + 64;
	CHECK(ioctl(control, DM_TABLE_LOAD, request));
	CHECK(ioctl(control, DM_DEV_SUSPEND, dm_request(name, 0)));
	close(control);
}

void dm_suspend(const char *name)
{
	int control = dm_control();
	unsigned int flags = DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG;

	CHECK(ioctl(control, DM_DEV_SUSPEND, dm_request(name, flags)));
	close(control);
}

static void dm_reads(void *fd)
{
	static char buffer[4096];

	FOREVER(pread((int)(long)fd, buffer, sizeof(buffer), 0));
}

static void dm_syncs(void *fd)
{
	blocks_here();
	CHECK(write((int)(long)fd, "x", 1));
	fsync((int)(long)fd);
	got_on("fsync");
}

static void dm_raw(void *unused)
{
	static char buffer[4096];
	int fd = CHECK(open("/dev/lab-disk", O_RDONLY));

	(void)unused;
	FOREVER(pread(fd, buffer, sizeof(buffer), 2 << 20));
}

/* A reader and a writer of its file system, and one that reads the device itself. */
GUEST(dm_suspended)
{
	static char data[65536];
	long old, new;

	dm_create("lab-disk", "1:0", 0, 8192);
	copy("/ext4.image", "/dev/lab-disk");
	mkdir("/disk", 0700);
	CHECK(mount("/dev/lab-disk", "/disk", "ext4", 0, ""));
	old = CHECK(open("/disk/old", O_CREAT | O_RDWR, 0600));
	CHECK(write(old, data, sizeof(data)));
	forget(old);
	new = CHECK(open("/disk/new", O_CREAT | O_RDWR, 0600));
	CHECK(fsync(new));
	CHECK(syncfs(old));
	dm_suspend("lab-disk");
	actor_process("dm-reader", dm_reads, (void *)old);
	actor_process("dm-writer", dm_syncs, (void *)new);
	actor_process("dm-raw", dm_raw, NULL);
}

static void dm_makes(void *unused)
{
	(void)unused;
	FOREVER(mkdir("/ice/new", 0700));
}

/* As dmsetup does it: a file system on it is frozen, and a loop device is below. */
GUEST(dm_frozen)
{
	int control;

	copy("/ext4.image", "/tmp/image");
	loop_attach(5, "/tmp/image");
	dm_create("lab-ice", "7:5", 0, 8192);
	mkdir("/ice", 0700);
	CHECK(mount("/dev/lab-ice", "/ice", "ext4", 0, ""));
	control = dm_control();
	CHECK(ioctl(control, DM_DEV_SUSPEND, dm_request("lab-ice", DM_SUSPEND_FLAG)));
	close(control);
	actor_process("ice-writer", dm_makes, NULL);
}

/* --- nbd: a server that has read the request, and does not answer --------------------------- */

struct nbd {
	int device, sockets[2];
};

static void nbd_client(void *argument)
{
	struct nbd *nbd = argument;

	close(nbd->sockets[1]);
	CHECK(ioctl(nbd->device, NBD_SET_BLKSIZE, 4096L));
	CHECK(ioctl(nbd->device, NBD_SET_SIZE_BLOCKS, 256L));
	CHECK(ioctl(nbd->device, NBD_CLEAR_SOCK));
	CHECK(ioctl(nbd->device, NBD_SET_SOCK, nbd->sockets[0]));
	FOREVER(ioctl(nbd->device, NBD_DO_IT));
}

static void nbd_server(void *argument)
{
	struct nbd *nbd = argument;
	char buffer[4096];

	close(nbd->device);
	close(nbd->sockets[0]);
	CHECK(read(nbd->sockets[1], buffer, sizeof(buffer)));
	FOREVER(pause());
}

static void nbd_reads(void *argument)
{
	static char buffer[4096] __attribute__((aligned(4096)));
	long size = 0;
	int fd;

	(void)argument;
	/* The server is in place only once it was asked for something. */
	blocks_here();
	while (size < 256 * 4096) { /* until the client has connected it */
		fd = CHECK(open("/dev/nbd0", O_RDONLY | O_DIRECT));
		CHECK(ioctl(fd, BLKGETSIZE64, &size));
		if (size < 256 * 4096)
			close(fd);
		usleep(1000);
	}
	CHECK(read(fd, buffer, sizeof(buffer)));
	got_on("read");
}

GUEST(nbd_silent)
{
	static struct nbd nbd;

	nbd.device = CHECK(open("/dev/nbd0", O_RDWR));
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, nbd.sockets));
	actor_process("nbd-client", nbd_client, &nbd);
	actor_process("nbd-server", nbd_server, &nbd);
	actor_process("nbd-reader", nbd_reads, &nbd);
}

/* --- a SCSI disk that does not answer ------------------------------------------------------- */

static void scsi_reads(void *fd)
{
	static char buffer[4096] __attribute__((aligned(4096)));

	FOREVER(pread((int)(long)fd, buffer, sizeof(buffer), 1 << 20));
}

/* drivers/scsi/scsi_debug.c: it drops every command from now on; they time out after 30 seconds. */
GUEST(scsi_silent)
{
	long fd = -1;

	while (fd < 0) { /* disks are looked for in the background */
		fd = open("/dev/sda", O_RDONLY | O_DIRECT);
		usleep(10000);
	}
	put("/sys/bus/pseudo/drivers/scsi_debug/opts", "4");
	put("/sys/bus/pseudo/drivers/scsi_debug/every_nth", "-1");
	actor_process("scsi-reader", scsi_reads, (void *)fd);
}

/* --- loop ----------------------------------------------------------------------------------- */

void loop_attach(int number, const char *file)
{
	char path[32];
	int device, backing = CHECK(open(file, O_RDWR));

	snprintf(path, sizeof(path), "/dev/loop%d", number);
	device = CHECK(open(path, O_RDWR));
	CHECK(ioctl(device, LOOP_SET_FD, backing));
	close(backing);
	close(device);
}
