/* Oopses: a module of its own has the code, and dies in what insmod calls. */
#include "guest.h"

#include <sys/syscall.h>

GUEST(oops_null)
{
	int module = CHECK(open("/modules/laboops.ko", O_RDONLY | O_CLOEXEC));

	sleep(1); /* the boot's own messages come first */
	syscall(SYS_finit_module, module, "", 0);
	die("laboops.ko");
}
