/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data that the workload writes and checks: every 8-byte word of a block is different and
 * depends on the seed, the block's number, how often the block was written, and the word's place. A
 * block from elsewhere, an older one, a torn or a shifted one is found.
 */
#ifndef VIO_GUEST_PATTERN_H
#define VIO_GUEST_PATTERN_H

#include <stddef.h>
#include <stdint.h>

/* Key of one version of one block. */
uint64_t vio_pattern_key(uint64_t seed, uint64_t block, uint32_t generation);
/* Fill `len` bytes (multiple of 8, 8-byte aligned). */
void vio_pattern_fill(void *buf, size_t len, uint64_t key);
/* Number of wrong words in `len` bytes: every byte is read. */
uint64_t vio_pattern_check(const void *buf, size_t len, uint64_t key);
/* Byte offset of the first wrong word, or len. For the message after a failed check. */
size_t vio_pattern_first_bad(const void *buf, size_t len, uint64_t key);

/*
 * The same stream of bytes from byte `off` on, any length, any alignment: data that lies in several
 * pieces. check: how many bytes are wrong.
 */
void vio_pattern_fill_at(void *buf, size_t len, uint64_t key, uint64_t off);
uint64_t vio_pattern_check_at(const void *buf, size_t len, uint64_t key, uint64_t off);

#endif
