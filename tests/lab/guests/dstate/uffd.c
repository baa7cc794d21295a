/* Page faults that a handler in user space has to serve */
#include "dstate.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static void uffd_handles(void *unused)
{
	(void)unused;
	FOREVER(pause());
}

static void uffd_faults(void *memory)
{
	FOREVER((void)*(volatile char *)memory);
}

/* The handler's process has the userfaultfd open, and never reads it. */
GUEST(userfault)
{
	long fd = CHECK(syscall(SYS_userfaultfd, O_CLOEXEC));
	struct uffdio_api api = { .api = UFFD_API };
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register range = {
		.range = { .start = (unsigned long)memory, .len = 4096 },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	CHECK(ioctl(fd, UFFDIO_API, &api));
	CHECK(ioctl(fd, UFFDIO_REGISTER, &range));
	actor_process("uffd-handler", uffd_handles, NULL);
	actor_thread("uffd-faulter", uffd_faults, memory);
}
