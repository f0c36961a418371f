/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames through a guest's rings: posted, sent, received; and what is in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"
#include "proto/fsm.h"

void nw_desc(struct nw_guest *g, uint16_t q, unsigned i, uint64_t gla, uint32_t len, unsigned flags,
	     unsigned next)
{
	mock_desc(&g->ring[q], i, nw_at(g, gla).v, len, flags, next);
}

void nw_publish(struct nw_guest *g, uint16_t q, uint16_t head)
{
	const struct vio_msg m = {.version = VIO_PROTO_V2, .op = VIO_OP_KICK, .arg16 = q};
	uint64_t hi, lo;

	mock_entry(&g->ring[q], head);
	if (!mock_publish(&g->ring[q]) && g->arm->notify != VIO_NOTIFY_CRQ)
		return;
	vio_msg_encode(&m, &hi, &lo);
	h_send_crq(g->vcpu, g->u->unit, hi, lo);
}

bool nw_used(struct nw_guest *g, uint16_t q, uint32_t *id, uint32_t *len)
{
	return mock_used(&g->ring[q], id, len) > 0;
}

void nw_post(struct nw_guest *g, unsigned p, unsigned n, uint32_t len)
{
	uint16_t q = (uint16_t)(2 * p);

	g->buf_len = len;
	for (unsigned i = 0; i < n; i++) {
		uint16_t slot = g->ring[q].next % NW_SIZE;

		nw_desc(g, q, slot, NW_RX + p * 0x100000ull + slot * 0x1000ull, len,
			VRING_DESC_F_WRITE, 0);
		nw_publish(g, q, slot);
	}
}

void nw_send_cut(struct nw_guest *g, unsigned p, const struct virtio_net_hdr_v1 *h,
		 const void *frame, uint32_t len, uint32_t cut)
{
	static const struct virtio_net_hdr_v1 none;
	uint16_t q = (uint16_t)(2 * p + 1), head = (uint16_t)(g->tx_next % NW_TX_SLOTS * 2);
	uint64_t at = NW_TX + g->tx_next++ % NW_TX_SLOTS * NW_TX_ROOM;
	uint32_t all = len + (uint32_t)sizeof(none);

	memcpy(g->mem + at, h ? h : &none, sizeof(none));
	memcpy(g->mem + at + sizeof(none), frame, len);
	nw_desc(g, q, head, at, cut ? cut : all, cut ? VRING_DESC_F_NEXT : 0, head + 1u);
	if (cut)
		nw_desc(g, q, head + 1u, at + cut, all - cut, 0, 0);
	nw_publish(g, q, head);
}

void nw_send(struct nw_guest *g, const void *frame, uint32_t len)
{
	nw_send_cut(g, 0, NULL, frame, len, 0);
}

int nw_recv(struct nw_guest *g, unsigned p, void *buf, struct virtio_net_hdr_v1 *h)
{
	uint16_t q = (uint16_t)(2 * p);
	uint32_t id, len, at = 0;
	unsigned left = 1;

	for (bool first = true; left > 0; left--, first = false) {
		const uint8_t *from;

		if (!nw_used(g, q, &id, &len)) {
			assert_true(first); /* all buffers of a frame come at once */
			return -1;
		}
		from = g->mem + NW_RX + p * 0x100000ull + id * 0x1000ull;
		assert_true(len <= g->buf_len);
		if (first) {
			assert_true(len > sizeof(*h));
			memcpy(h, from, sizeof(*h));
			from += sizeof(*h);
			len -= (uint32_t)sizeof(*h);
			left = vio_le16(h->num_buffers);
			assert_in_range(left, 1, NW_SIZE);
		}
		memcpy((uint8_t *)buf + at, from, len);
		at += len;
	}
	return (int)at;
}

/* --------------------------------------------------------------------------------- frames ---- */

void nw_frame(uint8_t *buf, uint32_t len, unsigned to, unsigned from, unsigned seed)
{
	const uint8_t dst[6] = {2, 0, 0, 0, 0, (uint8_t)to},
		      src[6] = {2, 0, 0, 0, 0, (uint8_t)from};

	for (uint32_t i = 14; i < len; i++)
		buf[i] = (uint8_t)((i + seed) * 2654435761u >> 24);
	memcpy(buf, dst, 6);
	memcpy(buf + 6, src, 6);
	vio_put_be16(buf + 12, 0x88b5); /* local experiments */
}

uint64_t nw_drops(const struct nw_guest *g, enum vio_drop why)
{
	return g->net->port.stats.drop[why];
}

uint64_t nw_cpu_bytes(const struct nw_guest *g)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < NW_QUEUES; i++)
		sum += g->polled[i] ? g->polled[i]->stats.cpu_bytes : 0;
	return sum;
}
