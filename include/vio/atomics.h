/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The only file that spells a memory order for memory shared between partitions.
 *
 * Everything another partition can write is read with vio_load_*() (one access that the compiler
 * can neither split nor repeat) and everything it can read is written with vio_store_*(). Each
 * acquire, release and full fence is one end of a lettered pair; the letters, the two lines and why
 * they are needed are in docs/memory-order.md. Nothing here relies on x86.
 *
 * gcc's __atomic builtins are used, not _Atomic, because the kernel's uapi ring structs have plain
 * integer fields.
 */
#ifndef VIO_ATOMICS_H
#define VIO_ATOMICS_H

#include <stdint.h>

/* A single untorn access, no ordering (the kernel's READ_ONCE/WRITE_ONCE). */
#define vio_load_relaxed(p)     __atomic_load_n((p), __ATOMIC_RELAXED)
#define vio_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)

/* Acquire: later accesses stay after the load. Release: earlier accesses stay before the store. */
#define vio_load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define vio_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

#define vio_xchg_acq_rel(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define vio_fetch_or(p, v)     __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL)
#define vio_fetch_and(p, v)    __atomic_fetch_and((p), (v), __ATOMIC_ACQ_REL)
#define vio_fetch_add(p, v)    __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL)
/* `expected` is an lvalue; updated on failure. */
#define vio_cas(p, expected, v)                                                                    \
	__atomic_compare_exchange_n((p), &(expected), (v), 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

/*
 * Orders an earlier store before a later load: what neither acquire nor release does. Needed in
 * exactly two places, "publish, fence, look whether the peer wants a notification" and "arm
 * notifications, fence, look again" (vio/notify.h). ThreadSanitizer does not model a fence, so
 * there it is a read-modify-write of a private word.
 */
static inline void vio_fence_full(void)
{
#ifdef __SANITIZE_THREAD__
	uint32_t word = 0;

	__atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Orders loads and stores before it against stores after it, for the store of a CRQ entry's first word. */
static inline void vio_fence_release(void)
{
#ifndef __SANITIZE_THREAD__
	__atomic_thread_fence(__ATOMIC_RELEASE);
#endif
}

/* Orders loads before it against loads and stores after it, where the load is a hypervisor call's. */
static inline void vio_fence_acquire(void)
{
#ifndef __SANITIZE_THREAD__
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

/* Add to a counter that one thread writes and any may read: no lock prefix, never torn. */
#define vio_counter_add(p, n) vio_store_relaxed((p), vio_load_relaxed(p) + (n))

/* Tell the core that this is a spin loop. */
static inline void vio_cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__powerpc64__)
	__asm__ volatile("or 27,27,27" ::: "memory");
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

#endif
