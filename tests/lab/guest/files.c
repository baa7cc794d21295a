/* File locks, pipes, sockets, System V semaphores, children */
#include "guest.h"

#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int open_file(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/tmp/%s", name);
	return CHECK(open(path, O_RDWR | O_CREAT, 0600));
}

/* Each process has to open the files itself: the lock is the open file's. */
CROSS(flock_abba, "fl", actor_process, (void)0,
      CHECK(flock(open_file("flock-1"), LOCK_EX)), flock(open_file("flock-2"), LOCK_EX),
      CHECK(flock(open_file("flock-2"), LOCK_EX)), flock(open_file("flock-1"), LOCK_EX))

static int record_lock(int fd, int command)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 100 };

	return fcntl(fd, command, &lock);
}

/* The kernel refuses cycles of POSIX locks alone. */
CROSS(posix_flock, "po", actor_process, (void)0,
      CHECK(record_lock(open_file("posix"), F_SETLK)), flock(open_file("flock-3"), LOCK_EX),
      CHECK(flock(open_file("flock-3"), LOCK_EX)), record_lock(open_file("posix"), F_SETLKW))

CROSS(ofd_abba, "of", actor_process, (void)0,
      CHECK(record_lock(open_file("ofd-1"), F_OFD_SETLK)),
      record_lock(open_file("ofd-2"), F_OFD_SETLKW),
      CHECK(record_lock(open_file("ofd-2"), F_OFD_SETLK)),
      record_lock(open_file("ofd-1"), F_OFD_SETLKW))

/* Each one waits for the other's request. */
static int requests[2], answers[2];
static char byte, block[65536];

CROSS(pipe_cycle, "pc", actor_process, (CHECK(pipe(requests)), CHECK(pipe(answers))),
      (close(requests[1]), close(answers[0])), read(requests[0], &byte, 1),
      (close(answers[1]), close(requests[0])), read(answers[0], &byte, 1))

/* Each one writes what the other one doesn't read. */
static int there[2], back[2];

static void fill(int fd)
{
	while (write(fd, block, sizeof(block)) > 0)
		;
}

CROSS(pipe_full, "pf", actor_process, (CHECK(pipe(there)), CHECK(pipe(back))),
      (close(there[0]), close(back[1])), fill(there[1]),
      (close(back[0]), close(there[1])), fill(back[1]))

static int ends[2];

CROSS(unix_cycle, "un", actor_process, CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends)),
      close(ends[1]), read(ends[0], &byte, 1),
      close(ends[0]), read(ends[1], &byte, 1))

static int semaphores;

static int take(int number)
{
	struct sembuf operation = { .sem_num = number, .sem_op = -1, .sem_flg = SEM_UNDO };

	return semop(semaphores, &operation, 1);
}

static void make_semaphores(void)
{
	unsigned short ones[2] = { 1, 1 };

	semaphores = CHECK(semget(IPC_PRIVATE, 2, 0600));
	CHECK(semctl(semaphores, 0, SETALL, ones));
}

CROSS(sysv_semaphore, "sv", actor_process, make_semaphores(),
      CHECK(take(0)), take(1),
      CHECK(take(1)), take(0))

/* ch-parent holds a lock that its child wants, and waits for the child's end. */
static void child(void *unused)
{
	(void)unused;
	FOREVER(flock(open_file("child"), LOCK_EX));
}

static void parent(void *unused)
{
	(void)unused;
	CHECK(flock(open_file("child"), LOCK_EX));
	actor_process("ch-child", child, NULL);
	FOREVER(wait(NULL));
}

GUEST(wait_child)
{
	actor_process("ch-parent", parent, NULL);
}
