/* SPDX-License-Identifier: BSD-3-Clause */
/* An uplink whose wire the test has in its hand, and an EAL without hugepages or root. */
#ifndef VIO_TESTS_UPLINK_WIRE_H
#define VIO_TESTS_UPLINK_WIRE_H

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <rte_eth_ring.h>
#include <rte_mbuf.h>

#include "tests/unit/server/fault_guard.h"
#include "net_world.h"
#include "server/dpdk/eal.h"
#include "server/ports/ethdev.h"

#define ROOM 70000

static inline struct vio_uplink *uplink(struct nw *w, const char *spec)
{
	struct vio_uplink *u;
	struct vio_err err = {""};

	if (vio_uplink_create(spec, &u, &err) < 0 ||
	    vio_switch_add(w->sw, vio_uplink_port(u), &err) < 0)
		fail_msg("%s", err.msg);
	return u;
}

static inline void pair_up(struct nw *w, const struct nw_arm *arm)
{
	for (unsigned i = 0; i < 2; i++) {
		nw_up(w, &w->g[i], arm, NW_ALL);
		nw_post(&w->g[i], 0, 200, 2048);
	}
}

#define WIRE 256u

/*
 * Both ends of a port's wire: what the test puts into `rx` comes in, what leaves stays in `tx`
 * until it is taken.
 */
struct wire {
	struct rte_ring *rx, *tx;
	struct rte_mempool *pool;
	struct vio_uplink *u;
	struct vio_port *port;
};

/* words: the switch's, e.g. ",trunk=1+5" */
static inline void wire_up(struct nw *w, struct wire *r, const char *words)
{
	char spec[64];

	r->rx = rte_ring_create("rx", WIRE, SOCKET_ID_ANY, 0);
	r->tx = rte_ring_create("tx", WIRE, SOCKET_ID_ANY, 0);
	r->pool = rte_pktmbuf_pool_create("wire", 127, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
					  SOCKET_ID_ANY);
	assert_true(r->rx && r->tx && r->pool);
	assert_true(rte_eth_from_rings("wire", &r->rx, 1, &r->tx, 1, 0) >= 0);
	snprintf(spec, sizeof(spec), "net_ring_wire%s", words);
	r->u = uplink(w, spec);
	r->port = vio_uplink_port(r->u);
}

/* Let go of the oldest `n` frames that have left; false: there are fewer. */
static inline bool wire_take(struct wire *r, unsigned n)
{
	void *m;

	for (; n > 0; n--) {
		if (rte_ring_dequeue(r->tx, &m) < 0)
			return false;
		rte_pktmbuf_free(m);
	}
	return true;
}

/* After the switch and its guests have gone. */
static inline void wire_down(struct wire *r)
{
	while (wire_take(r, 1))
		;
	vio_uplink_destroy(r->u);
	rte_ring_free(r->rx);
	rte_ring_free(r->tx);
	rte_mempool_free(r->pool);
}

/* An EAL for the tests: on this core, its memory in plain pages. False: there is none. */
static inline bool eal_begin(void)
{
	const unsigned core = (unsigned)sched_getcpu();
	char prefix[32];
	struct vio_err err = {""};
	const struct vio_eal_cfg cfg = {
		.prefix = prefix, .core = &core, .n_cores = 1, .no_huge = true, .mib = 96};

	snprintf(prefix, sizeof(prefix), "vio-test-%d", (int)getpid());
	if (vio_eal_start(&cfg, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return false;
	}
	return true;
}

#endif
