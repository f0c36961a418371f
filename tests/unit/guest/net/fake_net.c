/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_ids.h>

#include "fake_net.h"

#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: fake network card: %s\n", __FILE__, __LINE__, #x); \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define HDR 12u

static struct fake_net *net_of(const struct fake_server *s)
{
	return s->k.dev_state;
}

static uint64_t offer(const struct fake_server *s)
{
	const struct fake_net *n = net_of(s);
	uint64_t f = 1ull << VIRTIO_NET_F_MAC | 1ull << VIRTIO_NET_F_STATUS |
		     1ull << VIRTIO_NET_F_MTU | 1ull << VIRTIO_NET_F_MRG_RXBUF |
		     1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_GUEST_CSUM |
		     1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6 |
		     1ull << VIRTIO_NET_F_GUEST_TSO4 | 1ull << VIRTIO_NET_F_GUEST_TSO6 |
		     1ull << VIRTIO_NET_F_CTRL_VQ | 1ull << VIRTIO_NET_F_CTRL_RX |
		     1ull << VIRTIO_NET_F_CTRL_MAC_ADDR | 1ull << VIRTIO_RING_F_EVENT_IDX |
		     1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_F_VERSION_1 |
		     1ull << VIRTIO_F_ACCESS_PLATFORM;

	f |= n->more;
	return n->max_pairs > 1 ? f | 1ull << VIRTIO_NET_F_MQ : f;
}

static uint16_t config(const struct fake_server *s, uint8_t *out)
{
	const struct fake_net *n = net_of(s);
	const struct virtio_net_config c = {
		.mac = {2, 0x56, 0x49, 0x4f, 0, 7},
		.status = vio_le16(
			(uint16_t)((vio_load_relaxed(&n->link_down) ? 0 : VIRTIO_NET_S_LINK_UP) |
				   (vio_load_relaxed(&n->announce) ? VIRTIO_NET_S_ANNOUNCE : 0))),
		.speed = vio_le32(n->speed ? n->speed : UINT32_MAX),
		.max_virtqueue_pairs = vio_le16(n->max_pairs),
		.mtu = vio_le16(n->mtu),
	};

	memcpy(out, &c, 17); /* up to duplex */
	return 17;
}

static unsigned ctrl_queue(const struct fake_server *s)
{
	return s->features >> VIRTIO_NET_F_MQ & 1 ? 2u * net_of(s)->max_pairs : 2;
}

static bool serves(const struct fake_server *s, unsigned q)
{
	if (q == ctrl_queue(s))
		return !vio_load_acquire(&net_of(s)->deaf);
	return q & 1;
}

static void reset(struct fake_server *s)
{
	(void)s;
}

static bool take_one(uint32_t *knob)
{
	uint32_t n = vio_load_acquire(knob);

	if (n)
		vio_store_release(knob, n - 1);
	return n > 0;
}

/* ------------------------------------------------------------------------ receive ---- */

/* Bytes [off, +len) of the stage into a chain; the bytes that fit. */
static uint32_t into(struct fake_server *s, const struct vring_desc *d, unsigned n, uint32_t off,
		     uint32_t len)
{
	uint32_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		uint32_t room = vio_le32(d[i].len), some = len - done < room ? len - done : room;

		must(vio_le16(d[i].flags) & VRING_DESC_F_WRITE);
		must(fs_rdma_copy(s, fs_addr(&d[i]), off + done, some, true));
		done += some;
	}
	return done;
}

static void lie(struct fake_net *n, uint32_t *len, uint16_t *count)
{
	if (take_one(&n->short_used))
		*len = 4;
	if (take_one(&n->long_used))
		*len = 1u << 20;
	if (take_one(&n->wrong_count))
		*count = 0;
	if (take_one(&n->huge_count))
		*count = 60000;
}

/* The stage's `len` bytes, header in front, to receive queue rq. */
static void deliver(struct fake_server *s, unsigned rq, uint32_t len)
{
	struct fake_net *n = net_of(s);
	struct virtio_net_hdr_v1 *h = (void *)fs_stage(s);
	struct vring_desc d[64], first[64];
	uint16_t head[64], count;
	uint32_t used[64], done = 0;
	unsigned k = 0, segs, first_segs = 0;

	while (done < len) {
		segs = k < 64 ? fs_peek(s, rq, k, d, 64, &head[k]) : 0;
		if (segs == 0 || (k > 0 && !(s->features >> VIRTIO_NET_F_MRG_RXBUF & 1))) {
			vio_counter_add(&n->no_buffers, 1);
			return;
		}
		if (k == 0) {
			memcpy(first, d, sizeof(d[0]) * segs);
			first_segs = segs;
		}
		used[k] = into(s, d, segs, done, len - done);
		done += used[k++];
	}
	count = (uint16_t)k;
	lie(n, &used[0], &count);
	h->num_buffers = vio_le16(count);
	into(s, first, first_segs, 0, HDR);
	if (k > 1)
		vio_counter_add(&n->merged, 1);
	fs_complete(s, rq, head, used, k);
}

/* --------------------------------------------------------------------------- send ---- */

static uint32_t sent(struct fake_server *s, unsigned q, const struct vring_desc *d, unsigned segs)
{
	struct fake_net *n = net_of(s);
	uint32_t len = 0;

	for (unsigned i = 0; i < segs; i++) {
		uint32_t part = vio_le32(d[i].len);

		must(!(vio_le16(d[i].flags) & VRING_DESC_F_WRITE));
		must(part > 0 && len + part <= 512 * 1024);
		must(fs_rdma_copy(s, fs_addr(&d[i]), len, part, false));
		len += part;
	}
	must(len > HDR);
	memcpy(&n->last_hdr, fs_stage(s), HDR);
	must(n->last_hdr.num_buffers == 0);
	n->last_len = len - HDR;
	vio_counter_add(&n->bytes, len - HDR);
	vio_counter_add(&n->bufs_seen, segs);
	if (!vio_load_acquire(&n->swallow))
		deliver(s, q - 1, len);
	vio_store_release(&n->frames, n->frames + 1);
	return 0;
}

/* ------------------------------------------------------------------------ control ---- */

static uint32_t command(struct fake_server *s, const struct vring_desc *d, unsigned segs)
{
	struct fake_net *n = net_of(s);
	uint8_t ack = take_one(&n->refuse) ? VIRTIO_NET_ERR : VIRTIO_NET_OK, bytes[32] = {0};
	uint32_t len = vio_le32(d[0].len);

	must(segs == 2 && len >= 2 && len <= sizeof(bytes) && vio_le32(d[1].len) == 1);
	must(fs_rdma_read(s, fs_addr(&d[0]), bytes, len));
	if (n->n_cmds < FN_MAX_CMDS) {
		n->cmd[n->n_cmds].class = bytes[0];
		n->cmd[n->n_cmds].cmd = bytes[1];
		n->cmd[n->n_cmds].len = len - 2;
		memcpy(n->cmd[n->n_cmds].data, bytes + 2, len - 2 < 16 ? len - 2 : 16);
		vio_store_release(&n->n_cmds, n->n_cmds + 1);
	}
	must(fs_rdma_write(s, fs_addr(&d[1]), &ack, 1));
	return 1;
}

static uint32_t chain(struct fake_server *s, unsigned q, const struct vring_desc *d, unsigned n)
{
	return q == ctrl_queue(s) ? command(s, d, n) : sent(s, q, d, n);
}

const struct fs_device fn_device = {
	.type = VIRTIO_ID_NET,
	.offer = offer,
	.config = config,
	.serves = serves,
	.chain = chain,
	.reset = reset,
};

void fn_init(struct fake_server *s, struct fake_net *n)
{
	memset(n, 0, sizeof(*n));
	n->max_pairs = 1;
	n->mtu = 1500;
	s->k.dev = &fn_device;
	s->k.dev_state = n;
	s->k.queues = 9; /* 4 pairs at most, and control */
	s->k.size = 64;
}
