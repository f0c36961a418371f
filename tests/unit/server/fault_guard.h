/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the server program does when it faults on a guest's window, for tests that touch one which
 * is gone. One adapter and one thread at a time. Included by one file of a test program.
 */
#ifndef VIO_TEST_SERVER_FAULT_GUARD_H
#define VIO_TEST_SERVER_FAULT_GUARD_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/head/adapter.h"

static struct {
	struct vio_adapter *a;
	volatile sig_atomic_t faults;
	struct sigaction was;
} fault_guard;

static void fault_guard_handler(int sig, siginfo_t *info, void *context)
{
	(void)context;
	fault_guard.faults++;
	if (!vio_adapter_window_fault(fault_guard.a, info->si_addr, sig == SIGBUS))
		signal(sig, SIG_DFL);
}

/* From here on a fault on a window of `a` is the adapter's; any other ends the test program. */
static inline void fault_guard_begin(struct vio_adapter *a)
{
	const struct sigaction sa = {.sa_sigaction = fault_guard_handler, .sa_flags = SA_SIGINFO};

	fault_guard.a = a;
	fault_guard.faults = 0;
	assert_int_equal(sigaction(SIGSEGV, &sa, &fault_guard.was), 0);
	assert_int_equal(sigaction(SIGBUS, &sa, NULL), 0);
}

/* Up to here; fails when there was no fault since. */
static inline void fault_guard_end(void)
{
	assert_int_equal(sigaction(SIGSEGV, &fault_guard.was, NULL), 0);
	signal(SIGBUS, SIG_DFL);
	assert_true(fault_guard.faults >= 1);
}

#endif
