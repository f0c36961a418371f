/* SPDX-License-Identifier: BSD-3-Clause */
/* A score in a file, for tests of the duet. What fails ends the test. */
#ifndef VIO_TESTS_DUET_SHEET_H
#define VIO_TESTS_DUET_SHEET_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "duet/score.h"

#define SLOTS     4u /* the last one has no turn */
#define TURNS     24u
#define MAX_TURNS 64u
/* Ticks; nothing is asserted of how long anything takes. */
#define WARM  100000u
#define TICKS 200000u

/* -------------------------------------------------------------------------- a score ---- */

struct sheet {
	char path[64];
	uint8_t *base;
	size_t bytes;
	struct vio_duet_head *head;
};

static uint64_t up(uint64_t n)
{
	return VIO_ALIGN_UP(n, (uint64_t)VIO_DUET_APART);
}

static inline void sheet_make(struct sheet *s)
{
	struct vio_duet_head h = {
		.magic = VIO_DUET_MAGIC, .max_turns = MAX_TURNS, .first = VIO_DUET_FIRST};
	int fd;

	h.sides_at = sizeof(h);
	h.turns_at = up(h.sides_at + VIO_DUET_MAX_SLOTS * 2 * sizeof(struct vio_duet_line));
	h.guests_at = up(h.turns_at + MAX_TURNS * sizeof(struct vio_duet_turn));
	h.servers_at = up(h.guests_at + MAX_TURNS * sizeof(struct vio_duet_guest_record));
	h.bytes = up(h.servers_at + MAX_TURNS * sizeof(struct vio_duet_server_record));
	strcpy(s->path, "/tmp/vio-score-test-XXXXXX");
	fd = mkstemp(s->path);
	assert_true(fd >= 0);
	s->bytes = h.bytes;
	assert_int_equal(ftruncate(fd, (off_t)h.bytes), 0);
	s->base = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(s->base, MAP_FAILED);
	close(fd);
	s->head = (struct vio_duet_head *)(void *)s->base;
	*s->head = h;
}

static inline void sheet_free(struct sheet *s)
{
	munmap(s->base, s->bytes);
	unlink(s->path);
}

static inline struct vio_duet_line *side(struct sheet *s, unsigned slot, enum vio_duet_side which)
{
	return (struct vio_duet_line *)(void *)(s->base + s->head->sides_at) + 2 * slot + which;
}

static inline struct vio_duet_turn *turns(struct sheet *s)
{
	return (struct vio_duet_turn *)(void *)(s->base + s->head->turns_at);
}

/* Slots 0, 1, 2 in an order in which one follows itself; the others stay asleep. */
static inline void write_turns(struct sheet *s, unsigned n)
{
	static const unsigned order[] = {0, 1, 2, 2, 1, 0};

	for (unsigned i = 0; i < n; i++)
		turns(s)[i] = (struct vio_duet_turn){.slot = order[i % VIO_ARRAY_SIZE(order)],
						     .warm = WARM,
						     .ticks = TICKS,
						     .threshold = {1u << 30, 1u << 30}};
	s->head->n_turns = n;
	s->head->n_slots = s->head->n_guests = SLOTS;
	for (unsigned i = 0; i < SLOTS; i++)
		side(s, i, VIO_DUET_GUEST)->word = VIO_DUET_PARKED;
}

/* For vio_duet_wait(): nobody stops these dances. */
static const volatile int go_on;

static inline void sheet_open(struct sheet *s, unsigned slot, struct vio_duet *d,
			      enum vio_duet_side which)
{
	struct vio_err err = {{0}};
	char text[128];

	snprintf(text, sizeof(text), "%s,slot=%u", s->path, slot);
	if (vio_duet_open(d, text, which, &err))
		fail_msg("%s", err.msg);
}

#endif
