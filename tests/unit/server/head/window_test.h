/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of an adapter's windows share. */
#ifndef VIO_TEST_SERVER_WINDOW_TEST_H
#define VIO_TEST_SERVER_WINDOW_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <linux/virtio_config.h>

#include "adapter_world.h"

#define NEEDED (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ACCESS_PLATFORM)
#define RW     (TCE_READ | TCE_WRITE)

static inline void up_to_features(struct aw *w)
{
	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(
		aw_features(w, NEEDED, VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, VIO_NOTIFY_POLL),
		VIO_ST_OK);
}

static inline unsigned windows(const struct aw *w)
{
	struct vio_adapter_info info;

	vio_adapter_get_info(w->a, &info);
	return info.windows;
}

static inline void not_accepted(struct aw *w, uint64_t cookie)
{
	/* A normal rescind succeeds only when the server does not have the pages. */
	assert_int_equal(windows(w), 0);
	assert_int_equal(h_rescind_logical(w->gv, RESCIND_NORMAL, cookie), H_SUCCESS);
}

#endif
