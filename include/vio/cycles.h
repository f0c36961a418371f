/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Time for the data path: a counter read without a system call. Ticks are converted to nanoseconds
 * with the frequency that phypd measured once and keeps in the hypervisor segment (phyp_tick_hz()),
 * so that all programs of a machine agree. Requires a constant-rate counter that is the same on all
 * cores (x86 constant_tsc, POWER timebase, Arm generic timer).
 */
#ifndef VIO_CYCLES_H
#define VIO_CYCLES_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* The counter now; its frequency is phyp_tick_hz(). Data path, any thread. */
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

/* CLOCK_MONOTONIC. Tens of nanoseconds, no system call where the kernel has a vDSO. Any thread. */
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

/* Ticks a second against CLOCK_MONOTONIC, measured over a nap of ns, below a second. */
static inline uint64_t vio_measure_tick_hz(uint32_t ns)
{
	const struct timespec nap = {.tv_nsec = (long)ns};
	uint64_t n = vio_now_ns(), t = vio_ticks();

	nanosleep(&nap, NULL);
	t = vio_ticks() - t;
	n = vio_now_ns() - n;
	return vio_muldiv(t, 1000000000ull, n);
}

#endif
