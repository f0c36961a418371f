/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest/prog/pattern.h"

#include <string.h>

#define STEP 0x9E3779B97F4A7C15ull

/*
 * Checking must not be what a benchmark measures, so these loops are built for wider vectors too
 * and chosen at load time. Not under a sanitizer: its run time isn't up yet when the choice is
 * made.
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
	!defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WIDE                                                                                       \
	__attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"),               \
		       optimize("O3")))
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

/* Whole words that may lie anywhere: one load or store each. */
WIDE static void fill_words(uint8_t *p, size_t words, uint64_t first)
{
	for (size_t i = 0; i < words; i++) {
		const uint64_t w = first + i * STEP;

		memcpy(p + 8 * i, &w, 8);
	}
}

WIDE static uint64_t wrong_words(const uint8_t *p, size_t words, uint64_t first)
{
	uint64_t bad = 0, w;

	for (size_t i = 0; i < words; i++) {
		memcpy(&w, p + 8 * i, 8);
		bad += w != first + i * STEP;
	}
	return bad;
}

/* Bytes of a part of a word. */
static size_t edge(size_t len, uint64_t off)
{
	const size_t n = (8 - (off & 7)) & 7;

	return n < len ? n : len;
}

static uint64_t word_at(uint64_t key, uint64_t off)
{
	return key + (off >> 3) * STEP;
}

void vio_pattern_fill_at(void *buf, size_t len, uint64_t key, uint64_t off)
{
	uint8_t *p = buf;
	const size_t head = edge(len, off), words = (len - head) / 8, tail = len - head - 8 * words;
	uint64_t w = word_at(key, off);

	memcpy(p, (const uint8_t *)&w + (off & 7), head);
	p += head;
	off += head;
	fill_words(p, words, word_at(key, off));
	w = word_at(key, off + 8 * words);
	memcpy(p + 8 * words, &w, tail);
}

uint64_t vio_pattern_check_at(const void *buf, size_t len, uint64_t key, uint64_t off)
{
	const uint8_t *p = buf;
	const size_t head = edge(len, off), words = (len - head) / 8, tail = len - head - 8 * words;
	uint64_t w = word_at(key, off), bad = 0;

	for (size_t i = 0; i < head; i++)
		bad += p[i] != ((const uint8_t *)&w)[(off & 7) + i];
	p += head;
	off += head;
	if (wrong_words(p, words, word_at(key, off)) == 0) {
		p += 8 * words;
	} else {
		/* Which bytes: rare, so slowly. */
		for (size_t i = 0; i < words; i++, p += 8) {
			w = word_at(key, off + 8 * i);
			for (unsigned k = 0; k < 8; k++)
				bad += p[k] != ((const uint8_t *)&w)[k];
		}
	}
	w = word_at(key, off + 8 * words);
	for (size_t i = 0; i < tail; i++)
		bad += p[i] != ((const uint8_t *)&w)[i];
	return bad;
}
