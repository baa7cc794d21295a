/* A lock made by hand: its word holds the owner's tid, as futex(2) proposes.  `flags` are added to
 * the operation: FUTEX_PRIVATE_FLAG, unless other processes take it, too. */
#ifndef HAND_LOCK_H
#define HAND_LOCK_H

#include "scene.h"

#include <linux/futex.h>

SCENE_FN void hand_lock(unsigned *word, int flags)
{
    unsigned mine = (unsigned) scene_tid(), seen = 0;
    while (!__atomic_compare_exchange_n(word, &seen, mine, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
        unsigned marked = seen | FUTEX_WAITERS;
        if (seen == marked || __atomic_compare_exchange_n(word, &seen, marked, 0,
                                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            syscall(SYS_futex, word, FUTEX_WAIT | flags, marked, NULL, NULL, 0);
        seen = 0;
    }
}

#endif
