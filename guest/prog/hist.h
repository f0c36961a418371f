/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Latency histogram: log-linear, 64 steps to each power of two (at most 1.6 % wide), over the whole
 * range of a 64-bit value. Recording is a shift and an increment, so that every request is counted
 * and none is sampled. Debian has no packaged C library for this; it is 40 lines.
 */
#ifndef VIO_GUEST_HIST_H
#define VIO_GUEST_HIST_H

#include <stdint.h>

#define VIO_HIST_SUB_BITS 6
#define VIO_HIST_SUB      (1u << VIO_HIST_SUB_BITS)
#define VIO_HIST_BUCKETS  ((64 - VIO_HIST_SUB_BITS + 1) * VIO_HIST_SUB)

/* One writer. Zero it before use. Values are in ticks of vio_ticks(). */
struct vio_hist {
	uint64_t count, min, max;
	double sum;
	uint64_t bucket[VIO_HIST_BUCKETS];
};

static inline unsigned vio_hist_index(uint64_t v)
{
	unsigned shift;

	if (v < VIO_HIST_SUB)
		return (unsigned)v;
	shift = 63u - (unsigned)__builtin_clzll(v) - VIO_HIST_SUB_BITS;
	return (shift + 1) * VIO_HIST_SUB + (unsigned)((v >> shift) - VIO_HIST_SUB);
}

/* Largest value that falls into bucket i. */
static inline uint64_t vio_hist_upper(unsigned i)
{
	unsigned shift;

	if (i < VIO_HIST_SUB)
		return i;
	shift = i / VIO_HIST_SUB - 1;
	return (((uint64_t)(i % VIO_HIST_SUB) + VIO_HIST_SUB + 1) << shift) - 1;
}

static inline void vio_hist_add(struct vio_hist *h, uint64_t v)
{
	if (h->count == 0 || v < h->min)
		h->min = v;
	if (v > h->max)
		h->max = v;
	h->count++;
	h->sum += (double)v;
	h->bucket[vio_hist_index(v)]++;
}

/*
 * The value that at least q (0..1) of the recorded ones do not exceed (upper end of its bucket, at
 * most max); 0 when empty.
 */
static inline uint64_t vio_hist_quantile(const struct vio_hist *h, double q)
{
	uint64_t want = (uint64_t)(q * (double)h->count + 0.999999), seen = 0;

	if (want == 0)
		want = 1;
	for (unsigned i = 0; i < VIO_HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= want)
			return vio_hist_upper(i) < h->max ? vio_hist_upper(i) : h->max;
	}
	return h->max;
}

#endif
