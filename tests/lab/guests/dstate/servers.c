/* File systems whose server does not answer: FUSE, a loop device on FUSE, NFS */
#include "dstate.h"

#include <arpa/inet.h>
#include <linux/fuse.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* --- FUSE: one directory with one file, "image", of SIZE bytes --------------------------- */

#define SIZE (1L << 20)

struct mount {
	const char *path;
	int fd;
	_Atomic int *deaf, *asked; /* it is to answer no more; it was asked since then */
};

static void mount_fuse(struct mount *mounted, const char *path)
{
	char options[128];

	mounted->path = path;
	mounted->deaf = shared(sizeof(int));
	mounted->asked = shared(sizeof(int));
	mkdir(path, 0700);
	mounted->fd = CHECK(open("/dev/fuse", O_RDWR));
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0",
		 mounted->fd);
	CHECK(mount("lab", path, "fuse.lab", 0, options));
}

static void attributes(struct fuse_attr *attr, unsigned long node)
{
	attr->ino = node;
	attr->nlink = 1;
	attr->mode = node == 1 ? S_IFDIR | 0700 : S_IFREG | 0600;
	attr->size = node == 1 ? 0 : SIZE;
	attr->blksize = 4096;
}

static void answer(int fd, struct fuse_in_header *request, int error, void *body, size_t size)
{
	static char buffer[1 << 18];
	struct fuse_out_header *header = (void *)buffer;

	header->len = sizeof(*header) + size;
	header->error = error;
	header->unique = request->unique;
	if (size)
		memcpy(header + 1, body, size);
	if (write(fd, buffer, header->len) < 0 && errno != ENOENT)
		die("answer");
}

static void serve_one(int fd, struct fuse_in_header *request)
{
	static char zeroes[1 << 17];
	struct fuse_init_out init = { .major = 7, .minor = 31, .max_write = 65536 };
	struct fuse_entry_out entry = { .nodeid = 2, .entry_valid = 3600, .attr_valid = 3600 };
	struct fuse_attr_out attr = { .attr_valid = 3600 };
	struct fuse_open_out open_out = { .fh = 1 };
	struct fuse_read_in *read_in = (void *)(request + 1);
	struct fuse_write_out write_out = { .size = ((struct fuse_write_in *)read_in)->size };

	switch (request->opcode) {
	case FUSE_INIT:
		answer(fd, request, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		attributes(&entry.attr, 2);
		answer(fd, request, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		attributes(&attr.attr, request->nodeid);
		answer(fd, request, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		answer(fd, request, 0, &open_out, sizeof(open_out));
		break;
	case FUSE_READ:
		answer(fd, request, 0, zeroes, read_in->size);
		break;
	case FUSE_WRITE:
		answer(fd, request, 0, &write_out, sizeof(write_out));
		break;
	case FUSE_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		answer(fd, request, request->opcode == FUSE_FLUSH ? 0 : -ENOSYS, NULL, 0);
	}
}

static void serve(void *argument)
{
	static char buffer[1 << 18];
	struct mount *mounted = argument;

	for (;;) {
		CHECK(read(mounted->fd, buffer, sizeof(buffer)));
		if (*mounted->deaf)
			break;
		serve_one(mounted->fd, (void *)buffer);
	}
	*mounted->asked = 1;
	FOREVER(pause());
}

static void loop_reads(void *argument)
{
	static char buffer[4096] __attribute__((aligned(4096)));
	struct mount *mounted = argument;
	int fd;

	/* The loop device keeps the file open: the server answers until now. */
	loop_attach(3, "/image/image");
	close(mounted->fd);
	fd = CHECK(open("/dev/loop3", O_RDONLY | O_DIRECT));
	*mounted->deaf = 1;
	FOREVER(pread(fd, buffer, sizeof(buffer), SIZE / 2));
}

/* Who reads the loop device waits for a worker, and that one for the server. */
GUEST(loop_over_fuse)
{
	static struct mount mounted;

	mount_fuse(&mounted, "/image");
	actor_process("loop-server", serve, &mounted);
	actor_process("loop-reader", loop_reads, &mounted);
}

static void stats(void *argument)
{
	struct mount *mounted = argument;
	struct stat status;
	char path[64];

	close(mounted->fd);
	*mounted->deaf = 1;
	snprintf(path, sizeof(path), "%s/file", mounted->path);
	FOREVER(stat(path, &status));
}

static void stops(void *argument)
{
	struct mount *mounted = argument;
	pid_t server = getppid();

	close(mounted->fd);
	while (!*mounted->asked)
		usleep(1000);
	CHECK(kill(server, SIGSTOP));
	FOREVER(pause());
}

/* The server itself: the fault's own process, which is no actor, as it is stopped. */
GUEST(fuse_stopped)
{
	static struct mount mounted;
	static char buffer[1 << 18];

	mount_fuse(&mounted, "/stopped");
	actor_process("stop-client", stats, &mounted);
	actor_process("stop-killer", stops, &mounted);
	if (fork() == 0) {
		close(mounted.fd);
		return; /* says that all have been started */
	}
	for (;;) {
		CHECK(read(mounted.fd, buffer, sizeof(buffer)));
		if (*mounted.deaf)
			*mounted.asked = 1;
		else
			serve_one(mounted.fd, (void *)buffer);
	}
}

/* --- NFS: a server of version 3 that answers what a mount needs, and then nothing --------- */

enum { MOUNT = 100005, NFS = 100003 };

struct reply {
	unsigned int words[256];
	int count;
};

static void word(struct reply *reply, unsigned int value)
{
	reply->words[reply->count++] = htonl(value);
}

static void words(struct reply *reply, int count, unsigned int value)
{
	while (count--)
		word(reply, value);
}

static void nfs_attributes(struct reply *reply)
{
	word(reply, 2);		/* a directory */
	word(reply, 0700);
	word(reply, 2);		/* links */
	words(reply, 2, 0);	/* owner, group */
	words(reply, 2, 0), word(reply, 0), word(reply, 4096);	/* size, used */
	words(reply, 2, 0);	/* device */
	words(reply, 2, 0), word(reply, 0), word(reply, 7);	/* fsid, fileid: 64 bits each */
	words(reply, 6, 1);	/* times */
}

/* Whether it answers the call. */
static int nfs_answers(struct reply *reply, unsigned int program, unsigned int procedure)
{
	if (!procedure)
		return 1;
	if (program == MOUNT && procedure == 1) { /* MNT: a handle, AUTH_UNIX */
		word(reply, 0);
		word(reply, 8), words(reply, 2, 0x1ab);
		word(reply, 1), word(reply, 1);
		return 1;
	}
	if (program != NFS)
		return 0;
	switch (procedure) {
	case 1: /* GETATTR */
		word(reply, 0);
		nfs_attributes(reply);
		return 1;
	case 4: /* ACCESS */
		word(reply, 0);
		word(reply, 1), nfs_attributes(reply);
		word(reply, 0x3f);
		return 1;
	case 19: /* FSINFO */
		word(reply, 0);
		word(reply, 1), nfs_attributes(reply);
		words(reply, 6, 4096);
		word(reply, 4096);
		word(reply, 0x7fffffff), word(reply, 0xffffffff);
		words(reply, 2, 0);
		word(reply, 8);
		return 1;
	case 20: /* PATHCONF */
		word(reply, 0);
		word(reply, 1), nfs_attributes(reply);
		words(reply, 2, 255);
		words(reply, 4, 1);
		return 1;
	}
	return 0; /* LOOKUP and all that follows a mount */
}

static void nfs_serve(void *listening)
{
	unsigned int size, known, call[256];

	for (;;) {
		int fd = CHECK(accept((int)(long)listening, NULL, NULL));

		while (recv(fd, &size, 4, MSG_WAITALL) == 4) {
			struct reply reply = { .count = 1 };

			size = ntohl(size) & 0x7fffffff;
			if (size > sizeof(call) || recv(fd, call, size, MSG_WAITALL) != size)
				die("call");
			word(&reply, ntohl(call[0]));	/* the call's id */
			word(&reply, 1);		/* a reply, accepted, no verifier, success */
			words(&reply, 3, 0);
			known = ntohl(call[3]) == MOUNT || ntohl(call[3]) == NFS;
			word(&reply, !known);	/* else there is no such program */
			if (known && !nfs_answers(&reply, ntohl(call[3]), ntohl(call[5])))
				FOREVER(pause());
			reply.words[0] = htonl(0x80000000 | (4 * (reply.count - 1)));
			CHECK(send(fd, reply.words, 4 * reply.count, MSG_NOSIGNAL));
		}
		close(fd);
	}
}

static void nfs_asks(void *unused)
{
	struct stat status;

	(void)unused;
	mkdir("/nfs", 0700);
	CHECK(mount("127.0.0.1:/lab", "/nfs", "nfs", 0,
		    "vers=3,proto=tcp,addr=127.0.0.1,port=2049,mountaddr=127.0.0.1,mountvers=3,"
		    "mountproto=tcp,mountport=2049,nolock,hard,timeo=10,retrans=1"));
	FOREVER(stat("/nfs/data", &status));
}

GUEST(nfs_gone)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(2049) };
	struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int listening = CHECK(socket(AF_INET, SOCK_STREAM, 0)), one = 1;

	CHECK(ioctl(listening, SIOCSIFFLAGS, &loopback));
	setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	CHECK(bind(listening, (void *)&address, sizeof(address)));
	CHECK(listen(listening, 8));
	actor_process("nfs-server", nfs_serve, (void *)(long)listening);
	actor_process("nfs-client", nfs_asks, NULL);
}
