/* Memory that does not come: from a swap device that is suspended, from a control group's limit */
#include "dstate.h"

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* include/linux/swap.h, union swap_header */
void make_swap(const char *path, long bytes)
{
	static char page[4096];
	unsigned int *info = (void *)(page + 1024);
	int fd = CHECK(open(path, O_WRONLY));

	info[0] = 1;			/* version */
	info[1] = bytes / 4096 - 1;	/* last page */
	memcpy(page + 4096 - 10, "SWAPSPACE2", 10);
	CHECK(write(fd, page, sizeof(page)));
	CHECK(fsync(fd));
	close(fd);
}

static void swaps_in(void *unused)
{
	size_t size = 1 << 20;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char resident[256];
	int left;

	(void)unused;
	do {
		memset(memory, 'x', size);
		madvise(memory, size, MADV_PAGEOUT);
		usleep(100000);
		CHECK(mincore(memory, size, resident));
		left = 0;
		for (size_t i = 0; i < sizeof(resident); i++)
			left += resident[i] & 1;
	} while (left > 128);
	for (size_t i = 0; i < sizeof(resident); i++)
		if (!(resident[i] & 1)) {
			memory += i * 4096;
			break;
		}
	dm_suspend("lab-swap");
	FOREVER((void)*(volatile char *)memory);
}

GUEST(swap_in)
{
	dm_create("lab-swap", "1:0", 8192, 8192);
	make_swap("/dev/lab-swap", 4 << 20);
	CHECK(swapon("/dev/lab-swap", 0));
	actor_process("swap-in", swaps_in, NULL);
}

static void eats(void *unused)
{
	size_t size = 32 << 20;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)unused;
	put("/memory/small/cgroup.procs", "0");
	FOREVER(memset(memory, 1, size));
}

/* A v1 group whose OOM killer is off. */
GUEST(memory_limit)
{
	mkdir("/memory", 0700);
	CHECK(mount("memory", "/memory", "cgroup", 0, "memory"));
	CHECK(mkdir("/memory/small", 0700));
	put("/memory/small/memory.swappiness", "0");
	put("/memory/small/memory.limit_in_bytes", "4194304");
	put("/memory/small/memory.oom_control", "1");
	actor_process("memory-eater", eats, NULL);
}
