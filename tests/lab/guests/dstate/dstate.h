/* What several files of these faults need. */
#ifndef DSTATE_H
#define DSTATE_H

#include "guest.h"

#include <sys/types.h>

/* Write a text to a file that exists; die() where that fails. */
void put(const char *path, const char *text);
/* The same, whether it fails or not: 0 if it was written. */
int try_put(const char *path, const char *text);
/* Copy a file to another one, or to a device, and flush it. */
void copy(const char *from, const char *to);
/* Write a page that makes the rest of a device's `bytes` a swap area. */
void make_swap(const char *path, long bytes);
/* Make a linear dm device /dev/NAME of `sectors` of a device, from `start` on. */
void dm_create(const char *name, const char *device, long start, long sectors);
/* Suspend a dm device: what is sent to it from then on waits; its file system is not frozen. */
void dm_suspend(const char *name);
/* Attach a file to a loop device /dev/loopNUMBER. */
void loop_attach(int number, const char *file);
/* Forget what is cached of an open file. */
void forget(int fd);

#endif
