/* SPDX-License-Identifier: BSD-3-Clause */
/* The mutex in memory that processes share: the locks of the hypervisor, and what bench-limits measures. */
#ifndef VIO_SHARED_MUTEX_H
#define VIO_SHARED_MUTEX_H

#include <pthread.h>

/*
 * Initialise *m for all processes that map it; robust, so that a locker who dies leaves EOWNERDEAD
 * to the next. 0, or -errno. The caller ends it with pthread_mutex_destroy(), or with the memory.
 */
static inline int vio_shared_mutex_init(pthread_mutex_t *m)
{
	pthread_mutexattr_t a;
	int rc = pthread_mutexattr_init(&a);

	if (rc)
		return -rc;
	rc = pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	if (!rc)
		rc = pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	if (!rc)
		rc = pthread_mutex_init(m, &a);
	pthread_mutexattr_destroy(&a);
	return -rc;
}

#endif
