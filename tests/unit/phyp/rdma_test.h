/* SPDX-License-Identifier: BSD-3-Clause */
/* Windows at both ends, one to one, and copies between them in each kind of alias. */
#ifndef VIO_TESTS_RDMA_TEST_H
#define VIO_TESTS_RDMA_TEST_H

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "world.h"

#define S_LIOBN (w->s.u->liobn)
#define R_LIOBN (w->s.u->remote_liobn)

/* Both ends: window offset = logical address, for the first 20 MiB, but for the CRQ's page. */
static inline void open_windows(struct world *w)
{
	connect_ends(w);
	map_tces(&w->s, 2 * MIB, 2 * MIB, 18 * MIB, TCE_READ | TCE_WRITE);
	map_tces(&w->g, 2 * MIB, 2 * MIB, 18 * MIB, TCE_READ | TCE_WRITE);
}

static inline int64_t pull(struct world *w, uint64_t len, uint64_t from, uint64_t to)
{
	return h_copy_rdma(w->s.v, len, R_LIOBN, at(&w->g, from), S_LIOBN, at(&w->s, to));
}

static inline int64_t push(struct world *w, uint64_t len, uint64_t from, uint64_t to)
{
	return h_copy_rdma(w->s.v, len, S_LIOBN, at(&w->s, from), R_LIOBN, at(&w->g, to));
}

static inline void each_alias(struct world *w, void (*check)(struct world *w))
{
	for (unsigned kind = PHYP_ALIAS_TRANSIENT; kind <= PHYP_ALIAS_RDMA; kind++) {
		assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, kind, NULL), 0);
		check(w);
	}
}

static inline void not_connected(struct world *w)
{
	uint64_t regs[PHYP_REGS] = {0};

	assert_int_equal(pull(w, 8, 2 * MIB, 2 * MIB), H_SOURCE_PARM);
	assert_int_equal(push(w, 8, 2 * MIB, 2 * MIB), H_DEST_PARM);
	assert_int_equal(h_read_rdma(w->s.v, 8, R_LIOBN, at(&w->g, 2 * MIB), regs), H_SOURCE_PARM);
	assert_int_equal(h_write_rdma(w->s.v, 8, R_LIOBN, at(&w->g, 2 * MIB), regs), H_DEST_PARM);
}

#endif
