/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk behind each payload level, one request at a time. */
#ifndef VIO_TESTS_BLK_TEST_H
#define VIO_TESTS_BLK_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/virtio_blk.h>

#include "tests/unit/server/core/world.h"

#define HDR  (W_BUF + 0x0)
#define DATA (W_BUF + 0x10000)

/* The payload levels, and the two kinds of backend. */
static const struct {
	const char *name;
	enum vio_payload payload;
	bool at;
} ways[] = {
	{"direct", VIO_PAYLOAD_DIRECT, false},
	{"direct, disk in memory", VIO_PAYLOAD_DIRECT, true},
	{"rdma", VIO_PAYLOAD_RDMA, false},
	{"rdma, disk in memory", VIO_PAYLOAD_RDMA, true},
};

static inline void fresh(struct world *w, unsigned way)
{
	struct w_cfg cfg = {
		.ring = VIO_RING_DIRECT,
		.payload = ways[way].payload,
		.at = ways[way].at,
		.notify = VIO_NOTIFY_POLL,
		.size = 64,
		.event_idx = true,
		.indirect = true,
	};

	w_queue(w, &cfg);
}

#endif
