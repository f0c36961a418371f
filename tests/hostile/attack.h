/* SPDX-License-Identifier: BSD-3-Clause */
/* The words that a guest can write, what is wrong in each, and a thread that writes that while the server reads. */
#ifndef VIO_TESTS_HOSTILE_ATTACK_H
#define VIO_TESTS_HOSTILE_ATTACK_H

#include <pthread.h>

#include "tests/hostile/rig.h"

#define ATTACK_FIELDS 256u
#define ATTACK_BAD    8u

struct attack_field {
	const char *name;
	uint8_t *at;
	uint8_t size; /* bytes: 1, 2, 4, 8 */
	uint8_t n_bad;
	bool relative; /* bad[] is added to what stands there */
	uint64_t bad[ATTACK_BAD];
};

struct attack {
	unsigned n;
	struct attack_field field[ATTACK_FIELDS];
	uint64_t rng;
	/* What attack_put() has changed. */
	const struct attack_field *put;
	uint64_t was;
	/* The thread's. */
	pthread_t thread;
	unsigned rest; /* turns of an empty loop between two changes */
	uint32_t stop, pause;
	uint64_t flips;
};

/* All words of the rig's guest. */
void attack_fields(struct attack *a, const struct rig *g);
/* A field of any other memory. */
void attack_add(struct attack *a, const char *name, void *at, uint8_t size, bool relative,
		unsigned n, const uint64_t bad[]);
/* One of them gets a wrong value; and what it was before. */
void attack_put(struct attack *a);
void attack_back(struct attack *a);
/* A number below n. */
uint64_t attack_below(struct attack *a, uint64_t n);
/* A thread that does so until attack_end(). */
void attack_begin(struct attack *a, uint64_t seed);
void attack_end(struct attack *a);

#endif
