/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SipHash-2-4 of one 16-byte message (Aumasson and Bernstein, 2012): cookies are made with it. No
 * library of Debian 12 that this project uses offers a short keyed hash without a system call.
 */
#ifndef PHYP_SIPHASH_H
#define PHYP_SIPHASH_H

#include <stdint.h>

static inline uint64_t hv_rotl(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static inline void hv_sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = hv_rotl(v[1], 13) ^ v[0];
	v[3] = hv_rotl(v[3], 16) ^ v[2];
	v[0] = hv_rotl(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = hv_rotl(v[1], 17) ^ v[2];
	v[3] = hv_rotl(v[3], 21) ^ v[0];
	v[2] = hv_rotl(v[2], 32);
}

/* The hash of the words a, b (little-endian bytes) under a 128-bit key. */
static inline uint64_t hv_siphash(const uint64_t key[2], uint64_t a, uint64_t b)
{
	const uint64_t word[3] = {a, b, 16ull << 56};
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull,
			 key[0] ^ 0x6c7967656e657261ull, key[1] ^ 0x7465646279746573ull};

	for (unsigned i = 0; i < 3; i++) {
		v[3] ^= word[i];
		hv_sip_round(v);
		hv_sip_round(v);
		v[0] ^= word[i];
	}
	v[2] ^= 0xff;
	for (unsigned i = 0; i < 4; i++)
		hv_sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
