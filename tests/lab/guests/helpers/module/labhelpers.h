/* SPDX-License-Identifier: GPL-2.0 */
/* What the faults of this module share. */
#include <linux/printk.h>
#include <linux/sched.h>

int start_deferred(void);

/* Nobody gets here: the guest would not be ready. */
static inline void got_on(void)
{
	pr_emerg("faultlab: not ready: %s got on\n", current->comm);
}
