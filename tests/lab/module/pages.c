// SPDX-License-Identifier: GPL-2.0
/* Folios and buffers that are locked and never unlocked: bits that record no holder */
#include <linux/buffer_head.h>
#include <linux/pagemap.h>

#include "faultlab.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 16, 0)
#define lab_lock_page(page) folio_lock(page_folio(page))
#else
#define lab_lock_page(page) lock_page(page)
#endif

struct page *lab_page;
struct buffer_head *lab_buffer_head;

static int page_waiter(void *unused)
{
	FOREVER(lab_lock_page(lab_page));
	return 0;
}

/* Nobody who is there has locked it: a device will, when it has read the page. */
FAULT(folio_lock)
{
	lab_page = alloc_page(GFP_KERNEL);
	lab_lock_page(lab_page);
	actor("folio-0", page_waiter, NULL);
	actor("folio-1", page_waiter, NULL);
}

static int buffer_waiter(void *unused)
{
	FOREVER(lock_buffer(lab_buffer_head));
	return 0;
}

FAULT(buffer_lock)
{
	lab_buffer_head = alloc_buffer_head(GFP_KERNEL);
	lock_buffer(lab_buffer_head);
	actor("buffer-0", buffer_waiter, NULL);
	actor("buffer-1", buffer_waiter, NULL);
}

/* pm-a has locked the folio and wants the mutex, whose owner wants the folio. */
static struct page *crossed_page;
DEFINE_MUTEX(lab_folio_mutex);
CROSS_AFTER(folio_mutex, "pm", crossed_page = alloc_page(GFP_KERNEL),
	    lab_lock_page(crossed_page), mutex_lock(&lab_folio_mutex),
	    mutex_lock(&lab_folio_mutex), lab_lock_page(crossed_page))
