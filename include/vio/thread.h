/* SPDX-License-Identifier: BSD-3-Clause */
/* Threads that a library starts inside of somebody's program. */
#ifndef VIO_THREAD_H
#define VIO_THREAD_H

#include <pthread.h>
#include <signal.h>

/* As pthread_create(), with all signals blocked in the new thread: they are for the program's own. 0 or -errno. Any thread. */
static inline int vio_thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	sigset_t all, was;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	rc = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return -rc;
}

#endif
