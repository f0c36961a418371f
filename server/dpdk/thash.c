/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_thash.h>

#include "server/dpdk/thash.h"

uint32_t vio_toeplitz(const uint32_t *word, unsigned words, const uint32_t *key)
{
	return rte_softrss((uint32_t *)(uintptr_t)word, words, (const uint8_t *)key);
}
