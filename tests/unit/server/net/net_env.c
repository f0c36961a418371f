/* SPDX-License-Identifier: BSD-3-Clause */
/* What the network's tests give its devices instead of the server program. */
#include "net_world.h"

/* Bit by bit, as Microsoft's specification has it. */
static uint32_t toeplitz(const uint32_t *word, unsigned words, const uint32_t *key)
{
	const uint8_t *k = (const uint8_t *)key;
	uint32_t h = 0;

	for (unsigned bit = 0; bit < words * 32; bit++) {
		uint32_t part = 0;

		if (!(word[bit / 32] >> (31 - bit % 32) & 1))
			continue;
		for (unsigned i = bit; i < bit + 32; i++)
			part = part << 1 | (k[i / 8] >> (7 - i % 8) & 1);
		h ^= part;
	}
	return h;
}

const struct vio_dev_env nw_env = {.toeplitz = toeplitz};
