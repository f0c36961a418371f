/* SPDX-License-Identifier: BSD-3-Clause */
/* Two guests that talk, and commands to a card's control queue: what the tests of frames between guests share. */
#ifndef VIO_TESTS_NET_TALK_H
#define VIO_TESTS_NET_TALK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"

#define ROOM 70000

static uint8_t out[ROOM], in[ROOM];

static inline void assert_arrives(struct nw *w, struct nw_guest *to, uint32_t len)
{
	struct virtio_net_hdr_v1 h;

	nw_run(w);
	assert_int_equal(nw_recv(to, 0, in, &h), len);
	assert_memory_equal(in, out, len);
	assert_int_equal(h.flags, 0);
	assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_NONE);
}

static inline void two_up(struct nw *w, const struct nw_arm *a, const struct nw_arm *b,
			  uint64_t features)
{
	nw_up(w, &w->g[0], a, features);
	nw_up(w, &w->g[1], b, features);
	nw_post(&w->g[0], 0, 100, 2048);
	nw_post(&w->g[1], 0, 100, 2048);
}

static inline uint64_t plain(const struct nw_guest *g)
{
	return g->net->port.stats.out_plain;
}

/* 0xff: no answer. */
static inline uint8_t control(struct nw *w, struct nw_guest *g, uint16_t q, uint8_t class,
			      uint8_t cmd, const void *data, uint32_t len)
{
	uint32_t id, used;

	g->mem[NW_CTRL] = class;
	g->mem[NW_CTRL + 1] = cmd;
	memcpy(g->mem + NW_CTRL + 2, data, len);
	g->mem[NW_CTRL + 0x2000] = 0xff;
	nw_desc(g, q, 0, NW_CTRL, 2, VRING_DESC_F_NEXT, len ? 1 : 2); /* some have no data */
	nw_desc(g, q, 1, NW_CTRL + 2, len, VRING_DESC_F_NEXT, 2);
	nw_desc(g, q, 2, NW_CTRL + 0x2000, 1, VRING_DESC_F_WRITE, 0);
	nw_publish(g, q, 0);
	nw_run(w);
	if (!nw_used(g, q, &id, &used))
		return 0xff;
	assert_int_equal(id, 0);
	assert_int_equal(used, 1);
	return g->mem[NW_CTRL + 0x2000];
}

#endif
