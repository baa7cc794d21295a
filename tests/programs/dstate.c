/* Programs that block in the kernel: dstate SCENE [PATH].  Each says "ready" before it does. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096

static char *memory;

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static pthread_t start(void *(*run)(void *))
{
	pthread_t thread;

	pthread_create(&thread, NULL, run, NULL);
	return thread;
}

/* The parent of a child that does not get to exec. */
static void vfork_parent(const char *path)
{
	(void) path;
	ready();
	if (vfork() == 0) {
		sleep(1000);
		_exit(0);
	}
}

/* The same of a child that opens a FIFO, of which nobody opens the other end. */
static void vfork_opens(const char *path)
{
	mkfifo(path, 0600);
	ready();
	if (vfork() == 0)
		_exit(open(path, O_RDONLY));
}

static void *reads_remote(void *unused)
{
	char byte;
	struct iovec local = {&byte, 1}, remote = {memory + 4 * PAGE, 1};

	process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	return unused;
}

/* Two threads that touch memory whose page faults nobody resolves: one in D, one in S. */
static void fault(const char *path)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int handler = syscall(SYS_userfaultfd, 0);

	(void) path;
	memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	range.range.start = (unsigned long) memory;
	range.range.len = 16 * PAGE;
	if (handler < 0 || ioctl(handler, UFFDIO_API, &api) < 0 ||
	    ioctl(handler, UFFDIO_REGISTER, &range) < 0) {
		puts("skip no userfaultfd here");
		return;
	}
	start(reads_remote);
	ready();
	*(volatile char *) memory = 1;
}

static void *writes_mapping(void *unused)
{
	memory[0] = 1;
	return unused;
}

static void *unmaps(void *unused)
{
	sleep(1);
	munmap(memory, PAGE);
	return unused;
}

/* A thread whose write to a mapped file does not come back; one that holds mmap_lock since it
   unmaps that page; and one that wants the lock. */
static void mapping(const char *path)
{
	int file = open(path, O_RDWR);

	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (memory == MAP_FAILED || *(volatile char *) memory == 1)
		return;
	start(writes_mapping);
	start(unmaps);
	ready();
	sleep(2);
	mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const char *path);
	} scenes[] = {{"vfork", vfork_parent}, {"vfork-opens", vfork_opens}, {"fault", fault},
		      {"mapping", mapping}};

	for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
		if (argc > 1 && !strcmp(argv[1], scenes[i].name))
			scenes[i].run(argc > 2 ? argv[2] : NULL);
	return 1;
}
