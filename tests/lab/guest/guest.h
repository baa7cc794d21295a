/* Userspace faults.  A fault is a function GUEST(name) and a line in guests.h. */
#ifndef GUEST_H
#define GUEST_H

#define GUEST(name) void guest_##name(void)

#include "guests.h"
#define GUEST_DECLARE(name) GUEST(name);
GUEST_FAULTS(GUEST_DECLARE)

#endif
