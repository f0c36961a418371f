/* SPDX-License-Identifier: BSD-3-Clause */
/* The Toeplitz hash of DPDK. */
#ifndef VIO_SERVER_DPDK_THASH_H
#define VIO_SERVER_DPDK_THASH_H

#include <stdint.h>

/* As struct vio_dev_env has it. */
uint32_t vio_toeplitz(const uint32_t *word, unsigned words, const uint32_t *key);

#endif
