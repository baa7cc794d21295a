/* A module of its own has the kernel's part; its tasks are in place when it has been loaded. */
#include "guest.h"

#include <sys/syscall.h>

static void load(void *parameters)
{
	int module = CHECK(open("/modules/labhelpers.ko", O_RDONLY | O_CLOEXEC));

	CHECK(syscall(SYS_finit_module, module, parameters, 0));
	sleep(3);
	FOREVER(pause());
}

GUEST(helpers)
{
	actor_process("helpers", load, "");
}

GUEST(read_again)
{
	actor_process("read_again", load, "spin=1");
}

/* A mutex of glibc's on the stack of a thread that waits near it: musl's condition variables
 * have their words there. */
static pthread_mutex_t *lent, kept = PTHREAD_MUTEX_INITIALIZER;
static atomic_int place;

static void lender(__attribute__((unused)) void *unused)
{
	pthread_mutex_t own[2] = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER };

	lent = own;
	meet(&place, 2);
	pthread_mutex_lock(&kept);
	meet(&place, 4);
	FOREVER(pthread_mutex_lock(&own[0]));
}

static void borrower(__attribute__((unused)) void *unused)
{
	meet(&place, 2);
	pthread_mutex_lock(lent);
	meet(&place, 4);
	FOREVER(pthread_mutex_lock(&kept));
}

GUEST(stack_mutex)
{
	actor_thread("lm-lender", lender, NULL);
	actor_thread("lm-borrower", borrower, NULL);
}
