/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the transport share: a machine, a scripted server, a transport. */
#ifndef VIO_TEST_GUEST_TRANSPORT_TEST_H
#define VIO_TEST_GUEST_TRANSPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/virtio_ids.h>

#include "tests/unit/guest/expect.h"
#include "tests/unit/guest/fake/fake_server.h"
#include "guest/transport/transport.h"
#include "vio/cycles.h"

struct tt {
	struct fs_world w;
	struct phyp_vcpu *v;
	struct vio_transport_cfg cfg;
	struct vio_transport *t;
	struct vio_err err;
	struct said said;
};

static inline void tt_arm(struct tt *x, const char *name)
{
	if (vio_arm_parse(name, &x->cfg.arm, &x->err))
		fail_msg("%s", x->err.msg);
}

static inline int tt_setup(void **state)
{
	struct tt *x = calloc(1, sizeof(*x));

	fw_setup(&x->w, 16);
	said_init(&x->said);
	assert_int_equal(phyp_vcpu_create(x->w.gp, &x->v, &x->err), 0);
	x->cfg = (struct vio_transport_cfg){.proto = 2,
					    .num_queues = 1,
					    .timeout_ms = 10000,
					    .say = said_add,
					    .say_ctx = &x->said};
	tt_arm(x, "copy");
	*state = x;
	return 0;
}

static inline int tt_teardown(void **state)
{
	struct tt *x = *state;

	vio_transport_close(x->t);
	phyp_vcpu_destroy(x->v);
	fw_teardown(&x->w);
	said_destroy(&x->said);
	free(x);
	return 0;
}

static inline void tt_open(struct tt *x)
{
	ok(x, vio_transport_open(x->v, &x->w.mem, &x->cfg, &x->t, &x->err));
}

/* A server, and a transport configured up to its features. */
static inline void tt_started(struct tt *x, const char *arm)
{
	tt_arm(x, arm);
	fs_start(&x->w.s);
	tt_open(x);
	ok(x, vio_transport_start(x->t, &x->err));
}

static inline struct vio_mem_piece tt_piece(struct tt *x, uint64_t len)
{
	struct vio_mem_piece p;

	ok(x, vio_mem_carve(&x->w.mem, len, 4096, true, "test", &p, &x->err));
	return p;
}

/* Queues in TCE-mapped memory that the server may look at: all zero, so nothing is ever available. */
static inline int tt_go(struct tt *x)
{
	const struct vio_transport_info *i = vio_transport_get_info(x->t);
	const struct ioba config = ioba_add(phyp_unit(x->w.gp, 0)->window, 4096);
	int rc = 0;

	for (uint16_t q = 0; rc == 0 && q < i->num_queues; q++)
		rc = vio_transport_queue(x->t, q, i->queue_size, config, config, config, &x->err);
	return rc ? rc : vio_transport_driver_ok(x->t, &x->err);
}

static inline void tt_poll_until(struct tt *x, enum vio_transport_state want)
{
	uint64_t used, end = vio_now_ns() + 20000000000ull;
	enum vio_transport_state s;

	while ((s = vio_transport_poll(x->t, x->v, &used)) != want && vio_now_ns() < end)
		vio_transport_wait(x->t, 0, 1000000);
	assert_int_equal(s, want);
}

#endif
