/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Time for the data path: a counter read without a system call. Ticks are converted to nanoseconds
 * with the frequency that phypd measured once and keeps in the hypervisor segment (phyp_tsc_hz()),
 * so that all programs of a machine agree. Requires a constant-rate counter that is the same on all
 * cores (x86 constant_tsc, POWER timebase, Arm generic timer).
 */
#ifndef VIO_CYCLES_H
#define VIO_CYCLES_H

#include <stdint.h>
#include <time.h>

static inline uint64_t vio_ticks(void)
{
#if defined(__x86_64__)
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return ((uint64_t)hi << 32) | lo;
#elif defined(__powerpc64__)
	return __builtin_ppc_get_timebase();
#elif defined(__aarch64__)
	uint64_t v;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
	return v;
#else
#error "no tick counter for this architecture: add one here"
#endif
}

static inline uint64_t vio_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* a * b / c without overflow in the product. */
static inline uint64_t vio_muldiv(uint64_t a, uint64_t b, uint64_t c)
{
	return (uint64_t)((unsigned __int128)a * b / c);
}

#endif
