#include "guest.h"

#include <signal.h>

extern atomic_int *stage;

void block_all(void);
void at_stage(int number);
void next_stage(void);
