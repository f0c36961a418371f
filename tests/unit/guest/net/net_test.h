/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of the network front end share: a machine, a scripted server with a card that
 * echoes, an open card.
 */
#ifndef VIO_TEST_GUEST_NET_TEST_H
#define VIO_TEST_GUEST_NET_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/guest/expect.h"
#include "fake_net.h"
#include "guest/dev/net/net.h"
#include "vio/cycles.h"

struct nt {
	struct fs_world w;
	struct fake_net fn;
	struct vio_net_cfg cfg;
	struct vio_net *n;
	struct vio_err err;
	struct said said;
};

/* What the card has counted. */
#define nt_seen(x, field) vio_load_acquire(&(x)->fn.field)

static const char *const nt_arms[] = {
	"copy",
	"copy-tuned",
	"premapped",
	"zero-copy",
	"copy,mapping=cached",
	"copy,mapping=pool",
	"copy,ring=direct",
	"copy,notify=suppress",
	"copy,notify=poll",
	"zero-copy,notify=crq",
	"zero-copy,notify=suppress",
	"zero-copy,payload=rdma",
	"zero-copy,payload=copybreak",
	"premapped,ring=copy,notify=crq",
	"zero-copy,mapping=single-use",
	"zero-copy,mapping=deferred",
	"zero-copy,mapping=cached",
};

static inline int nt_setup(void **state)
{
	struct nt *x = calloc(1, sizeof(*x));

	fw_setup(&x->w, 32);
	fn_init(&x->w.s, &x->fn);
	said_init(&x->said);
	x->cfg = (struct vio_net_cfg){
		.transport = {.proto = 2,
			      .timeout_ms = 10000,
			      .strict_arm = true,
			      .say = said_add,
			      .say_ctx = &x->said},
		.spin_ns = 1000,
		.idle_ns = UINT64_MAX,
	};
	*state = x;
	return 0;
}

static inline void nt_close(struct nt *x)
{
	vio_net_close(x->n);
	x->n = NULL;
}

static inline int nt_teardown(void **state)
{
	struct nt *x = *state;

	nt_close(x);
	fw_teardown(&x->w);
	said_destroy(&x->said);
	free(x);
	return 0;
}

/* Opens the card (the server must be there). */
static inline void nt_open(struct nt *x, const char *arm)
{
	if (vio_arm_parse(arm, &x->cfg.transport.arm, &x->err))
		fail_msg("%s", x->err.msg);
	if (!x->w.s.part)
		fs_start(&x->w.s);
	ok(x, vio_net_open(x->w.gp, &x->w.mem, &x->cfg, &x->n, &x->err));
	for (unsigned i = 0; i < vio_net_get_info(x->n)->pairs; i++)
		assert_true(vio_net_refill(x->n, i) > 0);
}

/* Everything for another machine: the guest's memory is a bump allocator. */
static inline void nt_again(struct nt *x)
{
	nt_close(x);
	fw_teardown(&x->w);
	fw_setup(&x->w, 32);
	fn_init(&x->w.s, &x->fn);
	x->said.text[0] = 0;
}

/* Opens the card with arm number a; each but the first gets a machine of its own. */
static inline void nt_arm(struct nt *x, unsigned a)
{
	if (a)
		nt_again(x);
	nt_open(x, nt_arms[a]);
}

static inline uint8_t nt_byte(uint32_t key, uint32_t i)
{
	return (uint8_t)((key * 2654435761u + i) >> 3 ^ i >> 8);
}

/* A frame of len bytes in as many buffers as it takes; NULL: none free now. */
static inline struct vio_net_buf *nt_make(struct nt *x, unsigned pair, uint32_t len, uint32_t key)
{
	const uint32_t room = vio_net_get_info(x->n)->room;
	struct vio_net_buf *b[VIO_NET_MAX_BUFS];
	unsigned need = (len + room - 1) / room, got = vio_net_tx_alloc(x->n, pair, b, need);
	uint32_t at = 0;

	if (got < need) {
		vio_net_free(x->n, pair, b, got);
		return NULL;
	}
	for (unsigned i = 0; i < need; i++) {
		b[i]->len = len - at < room ? len - at : room;
		b[i]->next = i + 1 < need ? b[i + 1] : NULL;
		for (uint32_t k = 0; k < b[i]->len; k++)
			b[i]->data[k] = nt_byte(key, at + k);
		at += b[i]->len;
	}
	return b[0];
}

static inline void nt_check(const struct vio_net_buf *f, uint32_t len, uint32_t key)
{
	uint32_t at = 0;

	assert_int_equal(f->total, len);
	for (const struct vio_net_buf *b = f; b; b = b->next)
		for (uint32_t k = 0; k < b->len; k++, at++)
			if (b->data[k] != nt_byte(key, at))
				fail_msg("byte %u of a frame of %u is wrong", at, len);
	assert_int_equal(at, len);
}

/* Receive and idle until a frame is there, or 20 s. */
static inline struct vio_net_buf *nt_next(struct nt *x, unsigned pair)
{
	uint64_t end = vio_now_ns() + 20000000000ull;
	struct vio_net_buf *f = NULL;

	while (vio_now_ns() < end) {
		int n = vio_net_rx_burst(x->n, pair, &f, 1);

		if (n != 0)
			return n > 0 ? f : NULL;
		vio_net_refill(x->n, pair);
		vio_net_idle(x->n, pair, false, 50000000);
	}
	return NULL;
}

/* Drive pair 0 until `word` has been said; with tx, also take back what has been sent. */
static inline void nt_until(struct nt *x, bool tx, const char *word)
{
	uint64_t end = vio_now_ns() + 20000000000ull;

	while (!strstr(x->said.text, word)) {
		struct vio_net_buf *f;
		int n = vio_net_rx_burst(x->n, 0, &f, 1);

		assert_true(vio_now_ns() < end);
		assert_true(n >= 0);
		vio_net_free(x->n, 0, &f, (unsigned)n);
		if (tx)
			vio_net_tx_reclaim(x->n, 0);
		if (n == 0)
			vio_net_idle(x->n, 0, tx, 1000000);
	}
}

static inline void nt_send(struct nt *x, unsigned pair, struct vio_net_buf *f)
{
	uint64_t end = vio_now_ns() + 20000000000ull;

	while (vio_net_tx_burst(x->n, pair, &f, 1) == 0) {
		struct vio_net_buf *none;

		assert_true(vio_now_ns() < end);
		assert_int_equal(vio_net_rx_burst(x->n, pair, &none, 0), 0);
		vio_net_idle(x->n, pair, true, 1000000);
	}
}

/* One frame there and back. */
static inline void nt_echo(struct nt *x, unsigned pair, uint32_t len, uint32_t key)
{
	struct vio_net_buf *f = nt_make(x, pair, len, key);

	assert_non_null(f);
	nt_send(x, pair, f);
	f = nt_next(x, pair);
	assert_non_null(f);
	nt_check(f, len, key);
	vio_net_free(x->n, pair, &f, 1);
	vio_net_refill(x->n, pair);
}

/* No buffer is with the program or being sent, and none is missing. */
static inline void nt_all_back(struct nt *x)
{
	for (unsigned p = 0; p < vio_net_get_info(x->n)->pairs; p++) {
		uint64_t end = vio_now_ns() + 20000000000ull;
		struct vio_net_count c;

		do {
			vio_net_tx_reclaim(x->n, p);
			vio_net_get_count(x->n, p, &c);
			if (c.sending) {
				struct vio_net_buf *none;

				assert_int_equal(vio_net_rx_burst(x->n, p, &none, 0), 0);
				vio_net_idle(x->n, p, true, 1000000);
			}
		} while (c.sending && vio_now_ns() < end);
		assert_int_equal(c.sending, 0);
		assert_int_equal(c.held, 0);
		assert_int_equal(c.free + c.posted, vio_net_get_info(x->n)->buffers);
	}
}

#endif
