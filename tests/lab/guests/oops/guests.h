/* Every fault of oops: guest_NAME(). */
#define GUEST_FAULTS(F) \
	F(oops_null)
