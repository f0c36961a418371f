/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the hypervisor tests share: an in-process machine of a server "vios" and guests, each with
 * one vcpu, and short ways to the usual set-up.
 */
#ifndef TESTS_PHYP_WORLD_H
#define TESTS_PHYP_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "phyp/core/crq.h"
#include "phyp/core/machine.h"
#include "phyp/core/over.h"
#include "phyp/core/pe.h"
#include "vio/phyp.h"

#define PAGE 4096ull
#define MIB  (1ull << 20)

struct end {
	struct phyp_part *part;
	struct phyp_vcpu *v;
	const struct phyp_unit_info *u; /* its first unit */
	struct phyp_crq crq;
};

struct world {
	struct phyp_machine *m;
	struct phyp_profile profile;
	struct end s, g;
};

/* Where the tests keep the CRQ in each end's memory, and its IOBA offset in the window. */
#define CRQ_AT (1 * MIB)

static inline void end_open(struct phyp_machine *m, const char *name, struct end *e)
{
	struct vio_err err = {{0}};

	if (phyp_local_open(m, name, &e->part, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(phyp_vcpu_create(e->part, &e->v, &err), 0);
	e->u = phyp_unit(e->part, 0);
}

static inline void end_close(struct end *e)
{
	if (e->part) {
		phyp_vcpu_destroy(e->v);
		phyp_close(e->part);
	}
	memset(e, 0, sizeof(*e));
}

static inline struct world *world_of(struct phyp_profile *profile)
{
	struct world *w = calloc(1, sizeof(*w));
	struct vio_err err = {{0}};

	assert_non_null(w);
	w->profile = *profile;
	if (phyp_local_create(profile, &w->m, &err))
		fail_msg("%s", err.msg);
	end_open(w->m, "vios", &w->s);
	end_open(w->m, "guest0", &w->g);
	return w;
}

/* Plain pages: the tests need 4 KiB grants and no reserved hugepages. */
static inline void small_profile(struct phyp_profile *p)
{
	phyp_profile_default(p, 1, 32, 32);
	p->part[0].pages = p->part[1].pages = PHYP_PAGES_4K;
}

static inline int world_up(void **state)
{
	struct phyp_profile p;

	small_profile(&p);
	*state = world_of(&p);
	return 0;
}

static inline int world_down(void **state)
{
	struct world *w = *state;

	end_close(&w->g);
	end_close(&w->s);
	phyp_local_destroy(w->m);
	free(w);
	return 0;
}

static inline uint8_t *mem(const struct end *e, uint64_t at)
{
	uint8_t *p = phyp_mem(e->part, (struct gla){at}, 1);

	assert_non_null(p);
	return p;
}

/* The IOBA `off` into an end's own window. */
static inline struct ioba at(const struct end *e, uint64_t off)
{
	return ioba_add(e->u->window, off);
}

/* Map [gla, gla+len) at window offset `off` with perm. */
static inline void map_tces(struct end *e, uint64_t off, uint64_t gla, uint64_t len, uint64_t perm)
{
	uint64_t page = 1ull << e->u->page_shift;

	for (uint64_t i = 0; i < len; i += page)
		assert_int_equal(h_put_tce(e->v, e->u->liobn, at(e, off + i), (gla + i) | perm),
				 H_SUCCESS);
}

/* Register a queue of `pages` pages, with signalling off. Returns H_REG_CRQ's answer. */
static inline int64_t crq_up(struct end *e, unsigned pages)
{
	int64_t rc;

	map_tces(e, CRQ_AT, CRQ_AT, pages * PAGE, TCE_READ | TCE_WRITE);
	memset(mem(e, CRQ_AT), 0, pages * PAGE);
	rc = h_reg_crq(e->v, e->u->unit, at(e, CRQ_AT), pages * PAGE);
	e->crq = (struct phyp_crq){.entry = (uint64_t *)(void *)mem(e, CRQ_AT),
				   .n = (uint32_t)(pages * PAGE / 16)};
	return rc;
}

static inline void connect_ends(struct world *w)
{
	assert_int_equal(crq_up(&w->s, 1), H_CLOSED);
	assert_int_equal(crq_up(&w->g, 1), H_SUCCESS);
}

/* The next entry of an end's queue is this one. */
static inline void expect_entry(struct end *e, uint64_t hi, uint64_t lo)
{
	uint64_t h = 0, l = 0;

	assert_true(phyp_crq_pop(&e->crq, &h, &l));
	assert_int_equal(h, hi);
	assert_int_equal(l, lo);
}

static inline void expect_event(struct end *e, uint8_t event)
{
	uint64_t h = 0, l = 0;

	assert_true(phyp_crq_pop(&e->crq, &h, &l));
	assert_int_equal(h >> 48, 0xFF00u | event);
}

static inline void expect_empty(struct end *e)
{
	uint64_t h, l;

	assert_false(phyp_crq_pop(&e->crq, &h, &l));
}

#define CMD(n) (0x8001000000000000ull | (n))

#define WORLD_TEST(f) cmocka_unit_test_setup_teardown(f, world_up, world_down)

#endif
