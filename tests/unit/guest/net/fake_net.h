/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A network card of the scripted server: what is sent on a pair comes back on it (one frame for
 * one), or ends here. What it does wrong, and when, is set by the test.
 */
#ifndef VIO_TEST_GUEST_FAKE_NET_H
#define VIO_TEST_GUEST_FAKE_NET_H

#include <linux/virtio_net.h>

#include "tests/unit/guest/fake/fake_server.h"

#define FN_MAX_CMDS 64

struct fake_net {
	/* Knobs. */
	uint16_t max_pairs, mtu;
	bool link_down, announce;
	uint32_t speed;
	uint64_t more;        /* features, beyond those that it always has */
	uint32_t swallow;     /* frames are not sent back */
	uint32_t short_used;  /* the next n received frames have a used length of 4 */
	uint32_t long_used;   /* ... of more than was posted */
	uint32_t wrong_count; /* ... a num_buffers of 0 */
	uint32_t huge_count;  /* ... of 60000 */
	uint32_t refuse;      /* the next n commands */
	uint32_t deaf;        /* the control queue is not served */
	/* Seen; written by the server's thread. */
	uint64_t frames, bytes, no_buffers, merged, bufs_seen;
	struct virtio_net_hdr_v1 last_hdr;
	uint32_t last_len;
	uint32_t n_cmds;
	struct {
		uint8_t class, cmd, data[16];
		uint32_t len;
	} cmd[FN_MAX_CMDS];
};

extern const struct fs_device fn_device;

/* Makes `s` a network card. */
void fn_init(struct fake_server *s, struct fake_net *n);

#endif
