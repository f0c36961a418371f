/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the block front end share: a machine, a scripted server, an open disk. */
#ifndef VIO_TEST_GUEST_BLK_TEST_H
#define VIO_TEST_GUEST_BLK_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/guest/expect.h"
#include "tests/unit/guest/fake/fake_server.h"
#include "guest/dev/blk/blk.h"
#include "vio/cycles.h"

#define BT_DEPTH 8
#define BT_BS    4096u

struct bt {
	struct fs_world w;
	struct vio_blk_cfg cfg;
	struct vio_blk *b;
	struct vio_err err;
	struct gla buf[32];
	uint8_t *va[32];
	struct said said;
};

static inline int bt_setup(void **state)
{
	struct bt *x = calloc(1, sizeof(*x));

	fw_setup(&x->w, 32);
	said_init(&x->said);
	x->cfg = (struct vio_blk_cfg){
		.transport = {.proto = 2,
			      .num_queues = 1,
			      .timeout_ms = 10000,
			      .say = said_add,
			      .say_ctx = &x->said},
		.max_len = 65536,
		.depth = BT_DEPTH,
		.buffers_len = 32 * 65536,
		.spin_ns = 1000,
		.idle_ns = UINT64_MAX,
	};
	*state = x;
	return 0;
}

static inline int bt_teardown(void **state)
{
	struct bt *x = *state;

	if (x->w.s.part && !x->w.s.running)
		fs_kill(&x->w.s); /* it stands still, and would answer no goodbye: a wait of a second */
	vio_blk_close(x->b);
	fw_teardown(&x->w);
	said_destroy(&x->said);
	free(x);
	return 0;
}

/* Opens the disk (the server must be there), and 32 buffers of 64 KiB. */
static inline void bt_open(struct bt *x, const char *arm)
{
	if (vio_arm_parse(arm, &x->cfg.transport.arm, &x->err))
		fail_msg("%s", x->err.msg);
	if (!x->w.s.part)
		fs_start(&x->w.s);
	ok(x, vio_blk_open(x->w.gp, &x->w.mem, &x->cfg, &x->b, &x->err));
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(x->buf); i++) {
		ok(x, vio_blk_alloc(x->b, 65536, &x->buf[i], &x->err));
		x->va[i] = phyp_mem(x->w.gp, x->buf[i], 65536);
	}
}

static inline void bt_fill(uint8_t *p, uint32_t len, uint32_t key)
{
	for (uint32_t i = 0; i < len; i++)
		p[i] = (uint8_t)((key * 2654435761u + i) >> 3 ^ i >> 8);
}

static inline bool bt_filled(const uint8_t *p, uint32_t len, uint32_t key)
{
	for (uint32_t i = 0; i < len; i++)
		if (p[i] != (uint8_t)((key * 2654435761u + i) >> 3 ^ i >> 8))
			return false;
	return true;
}

/* Poll and idle until one comes back, or 20 s. NULL then. */
static inline struct vio_blk_req *bt_next(struct bt *x, unsigned q)
{
	uint64_t end = vio_now_ns() + 20000000000ull;
	struct vio_blk_req *r = NULL;

	while (vio_now_ns() < end) {
		int n = vio_blk_poll(x->b, q, &r, 1);

		if (n != 0)
			return n > 0 ? r : NULL;
		vio_blk_idle(x->b, q, 50000000);
	}
	return NULL;
}

static inline void bt_submit(struct bt *x, unsigned q, struct vio_blk_req *r)
{
	uint64_t end = vio_now_ns() + 20000000000ull;

	while (vio_blk_submit(x->b, q, &r, 1) == 0) {
		struct vio_blk_req *none;

		assert_true(vio_now_ns() < end);
		assert_int_equal(vio_blk_poll(x->b, q, &none, 0), 0);
	}
}

/* One request to its end; the result. */
static inline int bt_do(struct bt *x, uint32_t type, uint64_t sector, uint32_t len, unsigned buf)
{
	struct vio_blk_req r = {
		.type = type, .sector = sector, .len = len, .buf = x->buf[buf], .result = 77};

	bt_submit(x, 0, &r);
	assert_ptr_equal(bt_next(x, 0), &r);
	return r.result;
}

#endif
