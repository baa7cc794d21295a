// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/faultlab: user tasks take kernel locks by writing "lock N", "unlock N";
 * "space N" takes the lock of their address space, and then N
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/uaccess.h>

#include "faultlab.h"

#define LOCKS 8
struct mutex lab_device_locks[LOCKS];

static ssize_t device_write(struct file *file, const char __user *buffer, size_t size, loff_t *at)
{
	char command[32] = "";
	unsigned int number;

	if (size >= sizeof(command) || copy_from_user(command, buffer, size))
		return -EFAULT;
	if (sscanf(command, "lock %u", &number) == 1 && number < LOCKS)
		mutex_lock(&lab_device_locks[number]);
	else if (sscanf(command, "unlock %u", &number) == 1 && number < LOCKS)
		mutex_unlock(&lab_device_locks[number]);
	else if (sscanf(command, "space %u", &number) == 1 && number < LOCKS) {
		mmap_write_lock(current->mm);
		mutex_lock(&lab_device_locks[number]);
	} else
		return -EINVAL;
	return size;
}

static const struct file_operations device_operations = {
	.owner = THIS_MODULE,
	.write = device_write,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "faultlab",
	.fops = &device_operations,
};

int device_init(void)
{
	int i;

	for (i = 0; i < LOCKS; i++)
		mutex_init(&lab_device_locks[i]);
	return misc_register(&device);
}

/* dev-kthread holds lock 1, and wants lock 2 when a user task has it. */
static int device_kthread(void *unused)
{
	mutex_lock(&lab_device_locks[1]);
	stays_here();
	return wants_mutex(&lab_device_locks[2]);
}

FAULT(device_kthread)
{
	actor("dev-kthread", device_kthread, NULL);
}
