/* Every fault of sighard: guest_NAME(). */
#define GUEST_FAULTS(F) F(hard_namespace) F(hard_reused) F(hard_kinds)
