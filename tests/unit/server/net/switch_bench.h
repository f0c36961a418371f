/* SPDX-License-Identifier: BSD-3-Clause */
/* A switch with five ports of the tests' own, and frames to them. */
#ifndef VIO_TESTS_SWITCH_BENCH_H
#define VIO_TESTS_SWITCH_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"

#define PORTS 5
#define S     1000000000ull

struct tap {
	struct vio_port port;
	unsigned n;
	struct {
		uint16_t vid;
		bool tagged;
		uint8_t head[64];
		uint32_t len;
	} got[64];
};

struct bench {
	struct vio_switch *sw;
	struct tap tap[PORTS];
};

static inline void deliver(struct vio_port *p, struct vio_frame *const f[], unsigned n)
{
	struct tap *t = vio_container_of(p, struct tap, port);

	for (unsigned i = 0; i < n; i++) {
		unsigned k = t->n++;

		t->got[k].vid = f[i]->vid;
		t->got[k].tagged = vio_port_tags(p, f[i]->vid);
		t->got[k].len = f[i]->len;
		vio_frame_put_head(f[i], t->got[k].tagged, t->got[k].head);
	}
}

#define GUEST 10u /* addresses of taps 0 to 3; tap 4 has the rest, as an uplink */

static const struct vio_port_ops guest_ops = {.kind = "guest",
					      .addresses = GUEST,
					      .deliver = deliver},
				 ops = {.kind = "uplink", .outside = true, .deliver = deliver};

/* 0 to 2 are in VLAN 1; 3 is access to 10; 4 a trunk of 10 to 12 without a native VLAN. */
static inline int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct vio_err err;

	assert_non_null(b);
	assert_int_equal(vio_switch_create(nw_fdb(), &b->sw, &err), 0);
	for (unsigned i = 0; i < PORTS; i++) {
		struct vio_port *p = &b->tap[i].port;

		p->ops = i < 4 ? &guest_ops : &ops;
		vio_port_defaults(p);
		if (i == 3)
			assert_int_equal(vio_port_option(p, "vlan", "10", &err), 1);
		if (i == 4)
			assert_int_equal(vio_port_option(p, "trunk", "10-12", &err), 1);
		assert_int_equal(vio_port_options_end(p, i == 3, &err), 0);
		assert_int_equal(vio_switch_add(b->sw, p, &err), 0);
	}
	vio_switch_poll(b->sw, 1000 * S);
	*state = b;
	return 0;
}

static inline int teardown(void **state)
{
	struct bench *b = *state;

	vio_switch_destroy(b->sw);
	free(b);
	return 0;
}

/* tci 0xffff: untagged. */
static inline void send_len(struct bench *b, unsigned from, unsigned to, unsigned src, unsigned tci,
			    uint32_t len)
{
	struct vio_frame f;
	uint8_t raw[32];

	nw_frame(raw, sizeof(raw), to, src, 0);
	memset(&f, 0, sizeof(f));
	f.head = f.buf;
	memcpy(f.buf, raw, 18);
	if (tci != 0xffff) {
		memcpy(f.buf + 16, raw + 12, 2);
		vio_put_be16(f.buf + 12, 0x8100);
		vio_put_be16(f.buf + 14, (uint16_t)tci);
	}
	f.len = len;
	f.head_len = len < 18 ? (uint16_t)len : 18;
	f.body_len = f.len - f.head_len;
	for (unsigned i = 0; i < PORTS; i++)
		b->tap[i].n = 0;
	vio_switch_forward(&b->tap[from].port, &f, 1);
}

static inline void send(struct bench *b, unsigned from, unsigned to, unsigned src, unsigned tci)
{
	send_len(b, from, to, src, tci, 100);
}

/* Mask of the ports that got exactly one frame; none may have got two. */
static inline unsigned who(const struct bench *b)
{
	unsigned mask = 0;

	for (unsigned i = 0; i < PORTS; i++) {
		assert_in_range(b->tap[i].n, 0, 1);
		mask |= b->tap[i].n << i;
	}
	return mask;
}

#define UNTAGGED 0xffffu

/* An IPv4 TCP head of 54 bytes in a frame of 3,054. */
static inline void tcp_head(struct vio_frame *f)
{
	memset(f, 0, sizeof(*f));
	f->head = f->buf;
	f->len = 3054;
	f->head_len = VIO_FRAME_HEAD;
	vio_put_be16(f->buf + 12, 0x0800);
	f->buf[14] = 0x45;
	vio_put_be16(f->buf + 16, 3040);
	f->buf[23] = 6;
	f->buf[46] = 0x50;
}

#endif
