/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest/prog/pattern.h"

#define STEP 0x9E3779B97F4A7C15ull

/*
 * Checking must not be what a benchmark measures, so these loops are built for wider vectors too and chosen
 * at load time. Not under a sanitizer: its run time isn't up yet when the choice is made.
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&     \
	!defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"), optimize("O3")))
#else
#define WIDE
#endif

uint64_t vio_pattern_key(uint64_t seed, uint64_t block, uint32_t generation)
{
	/* The finaliser of splitmix64: neighbouring inputs give unrelated keys. */
	uint64_t x = seed + block * STEP + ((uint64_t)generation << 40 | generation);

	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
	return x ^ (x >> 31);
}

WIDE void vio_pattern_fill(void *buf, size_t len, uint64_t key)
{
	uint64_t *p = buf;

	for (size_t i = 0; i < len / 8; i++)
		p[i] = key + i * STEP;
}

WIDE uint64_t vio_pattern_check(const void *buf, size_t len, uint64_t key)
{
	const uint64_t *p = buf;
	uint64_t bad = 0;

	for (size_t i = 0; i < len / 8; i++)
		bad += p[i] != key + i * STEP;
	return bad;
}

size_t vio_pattern_first_bad(const void *buf, size_t len, uint64_t key)
{
	const uint64_t *p = buf;

	for (size_t i = 0; i < len / 8; i++)
		if (p[i] != key + i * STEP)
			return i * 8;
	return len;
}
