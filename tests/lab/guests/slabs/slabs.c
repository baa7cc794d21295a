/* A module of its own has the kernel's part; its tasks are in place when it has been loaded. */
#include "guest.h"

#include <sys/syscall.h>

static void load(__attribute__((unused)) void *unused)
{
	int module = CHECK(open("/modules/labslabs.ko", O_RDONLY | O_CLOEXEC));

	CHECK(syscall(SYS_finit_module, module, "", 0));
	sleep(3);
	FOREVER(pause());
}

GUEST(slabs)
{
	actor_process("slabs", load, NULL);
}
