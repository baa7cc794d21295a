/* Neighbours in a slab, and a spinlock that is slept with for a time. */
#define GUEST_FAULTS(F)		\
	F(slabs)		\
	F(crowd)
