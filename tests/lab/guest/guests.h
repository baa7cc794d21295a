/* Every userspace fault there is. */
#define GUEST_FAULTS(F)
