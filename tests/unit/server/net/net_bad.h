/* SPDX-License-Identifier: BSD-3-Clause */
/* One guest that does wrong and two that go on. */
#ifndef VIO_TESTS_NET_BAD_H
#define VIO_TESTS_NET_BAD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"

#define ROOM 80000

static uint8_t out[ROOM], in[ROOM];

/* Guest 2 and 1 still talk to each other, in both directions. */
static inline void others_go_on(struct nw *w)
{
	struct virtio_net_hdr_v1 h;

	for (unsigned i = 0; i < 4; i++) {
		struct nw_guest *from = &w->g[1 + i % 2], *to = &w->g[2 - i % 2];

		while (nw_recv(to, 0, in, &h) >= 0) /* floods of before */
			;
		nw_frame(out, 300, to->index + 10, from->index + 10, i);
		nw_send(from, out, 300);
		nw_run(w);
		assert_int_equal(nw_recv(to, 0, in, &h), 300);
		assert_memory_equal(in, out, 300);
	}
}

static inline void all_up(struct nw *w, const struct nw_arm *bad)
{
	for (unsigned i = 0; i < NW_GUESTS; i++) {
		nw_up(w, &w->g[i], i == 0 ? bad : NW_ZERO_COPY, NW_ALL);
		nw_post(&w->g[i], 0, 200, 2048);
	}
}

#endif
