/* What helpers do to locks, and a lock on a stack. */
#define GUEST_FAULTS(F)		\
	F(helpers)		\
	F(read_again)		\
	F(stack_mutex)
