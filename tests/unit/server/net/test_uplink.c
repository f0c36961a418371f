/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Uplinks over DPDK's own software ports, without hugepages or root: lending, copying, software
 * offload; rte_hash.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <rte_eth_ring.h>
#include <rte_mbuf.h>

#include "tests/unit/server/fault_guard.h"
#include "net_world.h"
#include "server/dpdk/eal.h"
#include "server/ports/ethdev.h"

#define ROOM 70000

static uint8_t out[ROOM], in[ROOM];

static struct vio_uplink *uplink(struct nw *w, const char *spec)
{
	struct vio_uplink *u;
	struct vio_err err = {""};

	if (vio_uplink_create(spec, &u, &err) < 0 ||
	    vio_switch_add(w->sw, vio_uplink_port(u), &err) < 0)
		fail_msg("%s", err.msg);
	return u;
}

static void pair_up(struct nw *w, const struct nw_arm *arm)
{
	for (unsigned i = 0; i < 2; i++) {
		nw_up(w, &w->g[i], arm, NW_ALL);
		nw_post(&w->g[i], 0, 200, 2048);
	}
}

/* ------------------------------------------------------------- a port with its wire in hand ---- */

#define WIRE 256u

/*
 * Both ends of a port's wire: what the test puts into `rx` comes in, what leaves stays in `tx`
 * until it is taken.
 */
struct wire {
	struct rte_ring *rx, *tx;
	struct rte_mempool *pool;
	struct vio_uplink *u;
	struct vio_port *port;
};

/* words: the switch's, e.g. ",trunk=1+5" */
static void wire_up(struct nw *w, struct wire *r, const char *words)
{
	char spec[64];

	r->rx = rte_ring_create("rx", WIRE, SOCKET_ID_ANY, 0);
	r->tx = rte_ring_create("tx", WIRE, SOCKET_ID_ANY, 0);
	r->pool = rte_pktmbuf_pool_create("wire", 127, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
					  SOCKET_ID_ANY);
	assert_true(r->rx && r->tx && r->pool);
	assert_true(rte_eth_from_rings("wire", &r->rx, 1, &r->tx, 1, 0) >= 0);
	snprintf(spec, sizeof(spec), "net_ring_wire%s", words);
	r->u = uplink(w, spec);
	r->port = vio_uplink_port(r->u);
}

/* Let go of the oldest `n` frames that have left; false: there are fewer. */
static bool wire_take(struct wire *r, unsigned n)
{
	void *m;

	for (; n > 0; n--) {
		if (rte_ring_dequeue(r->tx, &m) < 0)
			return false;
		rte_pktmbuf_free(m);
	}
	return true;
}

/* The oldest frame that has left, into in[]; its length. */
static uint32_t wire_read(struct wire *r)
{
	uint32_t len;
	void *obj = NULL;
	const void *at;

	assert_int_equal(rte_ring_dequeue(r->tx, &obj), 0);
	len = rte_pktmbuf_pkt_len((struct rte_mbuf *)obj);
	at = rte_pktmbuf_read(obj, 0, len, in);
	assert_non_null(at);
	memmove(in, at, len);
	rte_pktmbuf_free(obj);
	return len;
}

/* out[] comes in, with these flags and tags in its mbuf. */
static void wire_put(struct wire *r, uint32_t len, uint64_t flags, uint16_t inner, uint16_t outer)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(r->pool);

	assert_non_null(m);
	memcpy(rte_pktmbuf_append(m, (uint16_t)len), out, len);
	m->ol_flags |= flags;
	m->vlan_tci = inner;
	m->vlan_tci_outer = outer;
	assert_int_equal(rte_ring_enqueue(r->rx, m), 0);
}

/* After the switch and its guests have gone. */
static void wire_down(struct wire *r)
{
	while (wire_take(r, 1))
		;
	vio_uplink_destroy(r->u);
	rte_ring_free(r->rx);
	rte_ring_free(r->tx);
	rte_mempool_free(r->pool);
}

/*
 * At the end a port may still have frames of guests. It is closed first, and they are back before
 * the adapters go.
 */
static void frames_that_a_port_keeps_are_back_before_the_adapters_go(void **state)
{
	struct wire r;
	struct nw *w;

	nw_setup(state);
	w = *state;
	wire_up(w, &r, "");
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	for (unsigned i = 0; i < 20; i++) {
		nw_frame(out, 1000, 77, 0, i);
		nw_send(&w->g[0], out, 1000);
	}
	nw_run(w);
	assert_int_equal(vio_uplink_lent(r.u), 20);
	vio_adapter_stop(w->g[0].a);
	nw_run(w);
	assert_true(vio_adapter_busy(w->g[0].a)); /* it waits for them */
	vio_uplink_stop(r.u);
	assert_int_equal(vio_uplink_lent(r.u), 0);
	nw_run(w);
	assert_false(vio_adapter_busy(w->g[0].a));
	nw_teardown(state);
	wire_down(&r); /* here the wire lets go of them: nothing is there to be told */
}

/* A loop that is full of a guest's frames, and that nobody polls any more. */
static void frames_in_a_loop_are_back_when_it_is_stopped(void **state)
{
	struct vio_uplink *u;
	struct nw *w;

	nw_setup(state);
	w = *state;
	u = uplink(w, "net_ring0");
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	for (unsigned i = 0; i < 20; i++) {
		nw_frame(out, 1000, 77, 0, i);
		nw_send(&w->g[0], out, 1000);
	}
	vio_squeue_poll(w->g[0].polled[1]);
	assert_int_equal(vio_uplink_lent(u), 20);
	vio_uplink_stop(u);
	assert_int_equal(vio_uplink_lent(u), 0);
	nw_teardown(state);
	vio_uplink_destroy(u);
}

/* One descriptor, of 12 bytes and a frame at `gla`. */
static void send_from(struct nw_guest *g, uint64_t gla, uint32_t len, uint16_t slot)
{
	nw_frame(out, len, 77, g->index, slot);
	memset(g->mem + gla, 0, VIO_NET_HDR);
	memcpy(g->mem + gla + VIO_NET_HDR, out, len);
	nw_desc(g, 1, slot, gla, len + (uint32_t)VIO_NET_HDR, 0, 0);
	nw_publish(g, 1, slot);
}

/* A window beyond what nw_up() has granted, announced while the device runs; its id. */
static uint16_t extra_window(struct nw *w, struct nw_guest *g, uint64_t at, uint64_t *cookie)
{
	const uint64_t len = 0x4000, page = 0x1000, desc = 0x5000;
	struct vio_window_desc d = {.liobn = vio_to_be32(g->u->liobn),
				    .perm = TCE_READ | TCE_WRITE,
				    .role = VIO_WINDOW_BUFFERS,
				    .ioba = vio_to_be64(nw_at(g, at).v),
				    .len = vio_to_be64(len)};

	for (uint64_t off = 0; off < len; off += page)
		assert_int_equal(h_put_tce(g->vcpu, g->u->liobn, nw_at(g, at + off),
					   (at + off) | TCE_READ | TCE_WRITE),
				 H_SUCCESS);
	assert_int_equal(h_grant_logical(g->vcpu, GRANT_SYSTEM_MEMORY, (struct gla){at}, len,
					 g->u->unit, cookie),
			 H_SUCCESS);
	d.cookie = vio_to_be64(*cookie);
	memcpy(g->mem + desc, &d, sizeof(d));
	assert_int_equal(
		nw_step(w, g, (struct vio_msg){.op = VIO_OP_WINDOW_ADD, .arg = nw_at(g, desc).v}),
		VIO_ST_OK);
	return g->last.arg16;
}

static struct vio_msg withdraw(uint16_t id)
{
	return (struct vio_msg){.op = VIO_OP_WINDOW_DEL, .arg16 = id};
}

/* While a port keeps frames windows come and go; only those that it has something of wait for it. */
static void windows_come_and_go_while_a_port_keeps_frames(void **state)
{
	struct virtio_net_hdr_v1 h;
	uint64_t cookie[2];
	struct nw_guest *g;
	uint16_t id[2];
	struct wire r;
	struct nw *w;

	nw_setup(state);
	w = *state;
	g = &w->g[0];
	wire_up(w, &r, "");
	pair_up(w, NW_ZERO_COPY);
	send_from(g, NW_TX, 1000, 0);
	nw_run(w);
	assert_int_equal(vio_uplink_lent(r.u), 1);
	/* In the big window; these two have nothing to do with it. */
	id[0] = extra_window(w, g, NW_END, &cookie[0]);
	id[1] = extra_window(w, g, NW_END + 0x8000, &cookie[1]);
	assert_int_equal(nw_step(w, g, withdraw(id[1])), VIO_ST_OK);
	assert_int_equal(h_rescind_logical(g->vcpu, RESCIND_NORMAL, cookie[1]), H_SUCCESS);
	/* Something of the other one is away too. */
	send_from(g, NW_END + 0x1000, 1000, 1);
	nw_run(w);
	assert_int_equal(vio_uplink_lent(r.u), 2);
	assert_int_equal(nw_step(w, g, withdraw(id[0])), 0xff);
	assert_int_equal(h_rescind_logical(g->vcpu, RESCIND_NORMAL, cookie[0]), H_RESOURCE);
	/* The server goes on for this guest, and knows the pages should it lose them. */
	while (nw_recv(&w->g[1], 0, in, &h) >= 0)
		;
	send_from(g, NW_TX + 0x2000, 100, 2);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[1], 0, in, &h), 100);
	assert_memory_equal(in, out, 100);
	assert_true(wire_take(&r, 1)); /* the first one's */
	nw_run(w);
	assert_int_equal(h_rescind_logical(g->vcpu, RESCIND_NORMAL, cookie[0]), H_RESOURCE);
	nw_frame(out, 1000, 77, 0, 1);
	assert_int_equal(wire_read(&r), 1000);
	assert_memory_equal(in, out, 1000);
	nw_run(w);
	assert_int_equal(g->last.op, VIO_OP_WINDOW_DEL | VIO_OP_REPLY);
	assert_int_equal(g->last.status, VIO_ST_OK);
	assert_int_equal(h_rescind_logical(g->vcpu, RESCIND_NORMAL, cookie[0]), H_SUCCESS);
	assert_int_equal(g->needs_resets, 0);
	assert_true(wire_take(&r, 1));
	nw_teardown(state);
	wire_down(&r);
}

/*
 * Guests up; this one withdraws a window at NW_END while the port has a frame from there, so that
 * no answer comes yet. The cookie of its grant.
 */
static uint64_t withdraw_while_lent(struct nw *w, struct nw_guest *g)
{
	uint64_t cookie;
	uint16_t id;

	pair_up(w, NW_ZERO_COPY);
	id = extra_window(w, g, NW_END, &cookie);
	send_from(g, NW_END, 1000, 0);
	nw_run(w);
	assert_int_equal(nw_step(w, g, withdraw(id)), 0xff);
	return cookie;
}

/*
 * The guest withdraws a window, and takes it back by force while the port still reads there: no
 * fault of ours.
 */
static void window_taken_by_force_while_it_is_being_withdrawn_ends_nobody(void **state)
{
	struct nw_guest *g;
	uint64_t cookie;
	struct wire r;
	struct nw *w;

	nw_setup(state);
	w = *state;
	g = &w->g[0];
	wire_up(w, &r, "");
	cookie = withdraw_while_lent(w, g);
	/* Not while the card reads its frame. */
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(h_rescind_logical(g->vcpu, RESCIND_FORCED, cookie), H_PARTIAL);
		nw_run(w);
	}
	fault_guard_begin(g->a);
	assert_int_equal(wire_read(&r), 1000);
	fault_guard_end();
	nw_run(w);
	assert_int_equal(h_rescind_logical(g->vcpu, RESCIND_FORCED, cookie), H_SUCCESS);
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	assert_false(vio_adapter_busy(g->a));
	assert_int_equal(vio_uplink_lent(r.u), 0);
	nw_teardown(state);
	wire_down(&r);
}

/* A frame from a window that is being withdrawn, while one of before is still away. */
static void nothing_new_leaves_from_a_window_that_is_being_withdrawn(void **state)
{
	struct nw_guest *g;
	struct wire r;
	struct nw *w;

	nw_setup(state);
	w = *state;
	g = &w->g[0];
	wire_up(w, &r, "");
	withdraw_while_lent(w, g);
	send_from(g, NW_END + 0x1000, 1000, 1);
	nw_run(w);
	assert_int_equal(r.port->stats.out_frames, 1);
	assert_int_equal(g->needs_resets, 1);
	assert_true(wire_take(&r, 1));
	nw_run(w);
	nw_teardown(state);
	wire_down(&r);
}

#define PIECES 30u
#define PIECE  40u

/* A frame of many pieces, in an indirect table; frame and table lie at places of its own. */
static void send_in_pieces(struct nw_guest *g, uint16_t i)
{
	const uint64_t at = NW_TX + i * 0x800ull, table = NW_CTRL + i * 0x200ull;
	struct vring_desc *d = (void *)(g->mem + table);

	nw_frame(out, PIECES * PIECE - (uint32_t)VIO_NET_HDR, 77, g->index, i);
	memset(g->mem + at, 0, VIO_NET_HDR);
	memcpy(g->mem + at + VIO_NET_HDR, out, PIECES * PIECE - VIO_NET_HDR);
	for (uint16_t k = 0; k < PIECES; k++)
		d[k] = (struct vring_desc){vio_le64(nw_at(g, at + k * PIECE).v), vio_le32(PIECE),
					   vio_le16(k + 1u < PIECES ? VRING_DESC_F_NEXT : 0),
					   vio_le16((uint16_t)(k + 1u))};
	nw_desc(g, 1, i, table, PIECES * sizeof(d[0]), VRING_DESC_F_INDIRECT, 0);
	nw_publish(g, 1, i);
}

/*
 * The port keeps what leaves. What is beyond one guest's share is copied, whole; another guest
 * still lends.
 */
static void frames_beyond_a_guests_share_are_copied_and_others_still_lend(void **state)
{
	const uint64_t features = NW_ALL | 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	const unsigned n = 200;
	unsigned lent, back = 0;
	uint32_t id, used;
	struct wire r;
	struct nw *w;

	nw_setup(state);
	w = *state;
	wire_up(w, &r, "");
	for (unsigned i = 0; i < 2; i++)
		nw_up(w, &w->g[i], NW_ZERO_COPY, features);
	for (uint16_t i = 0; i < n; i++)
		send_in_pieces(&w->g[0], i);
	nw_run(w);
	lent = vio_uplink_lent(r.u);
	assert_in_range(lent, 10, n / 2);
	assert_int_equal(r.port->stats.in_place, lent);
	assert_int_equal(r.port->stats.not_lent, n - lent);
	assert_int_equal(r.port->stats.out_frames, n);
	assert_int_equal(r.port->stats.drop[VIO_DROP_NO_BUFFERS], 0);
	while (nw_used(&w->g[0], 1, &id, &used))
		back++;
	assert_int_equal(back, n - lent); /* nobody needs those any more */
	send_in_pieces(&w->g[1], 0);
	nw_run(w);
	assert_int_equal(r.port->stats.in_place, lent + 1);
	for (unsigned i = 0; i < n; i++) {
		nw_frame(out, PIECES * PIECE - (uint32_t)VIO_NET_HDR, 77, 0, i);
		assert_int_equal(wire_read(&r), PIECES * PIECE - VIO_NET_HDR);
		assert_memory_equal(in, out, PIECES * PIECE - VIO_NET_HDR);
	}
	/* All of it is there again, for the guest that had used it up. */
	nw_run(w);
	while (nw_used(&w->g[0], 1, &id, &used))
		back++;
	assert_int_equal(back, n);
	send_in_pieces(&w->g[0], 0);
	nw_run(w);
	assert_int_equal(r.port->stats.in_place, lent + 2);
	assert_true(wire_take(&r, 2));
	nw_teardown(state);
	assert_int_equal(vio_uplink_lent(r.u), 0);
	wire_down(&r);
}

/*
 * Some drivers (af_packet) take tags off unasked and say so in the mbuf: the VLAN is the frame's
 * all the same.
 */
static void tag_that_the_driver_took_off_still_decides_the_vlan(void **state)
{
	const char *const spec[NW_GUESTS] = {"vlan=10", "vlan=20", "trunk=10+20"};
	const uint64_t one = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED,
		       two = one | RTE_MBUF_F_RX_QINQ | RTE_MBUF_F_RX_QINQ_STRIPPED;
	struct virtio_net_hdr_v1 h;
	struct wire r;
	struct nw *w;

	nw_setup_with(state, spec);
	w = *state;
	wire_up(w, &r, ",trunk=10+20,vlan=20");
	for (unsigned i = 0; i < NW_GUESTS; i++) {
		nw_up(w, &w->g[i], NW_ZERO_COPY, NW_ALL);
		nw_post(&w->g[i], 0, 20, 2048);
	}
	for (uint32_t len = 14; len < 200; len += 31) {
		nw_frame(out, len, 77, 99, len);
		wire_put(&r, len, one, 0x600a, 0); /* priority 3 */
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[0], 0, in, &h), len);
		assert_memory_equal(in, out, len);
		assert_int_equal(nw_recv(&w->g[1], 0, in, &h), -1); /* the native VLAN's */
		assert_int_equal(nw_recv(&w->g[2], 0, in, &h), len + 4);
		assert_int_equal(vio_get_be16(in + 12), 0x8100);
		assert_int_equal(vio_get_be16(in + 14), 0x600a);
		assert_memory_equal(in, out, 12);
		assert_memory_equal(in + 16, out + 12, len - 12);
	}
	/* A VLAN that the port is not in. */
	wire_put(&r, 100, one, 11, 0);
	nw_run(w);
	assert_int_equal(r.port->stats.drop[VIO_DROP_VLAN], 1);
	/* Two tags: the outer one decides, and nobody gets the frame as one of the inner one's VLAN. */
	wire_put(&r, 100, two, 20, 10);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[0], 0, in, &h), -1);
	assert_int_equal(nw_recv(&w->g[1], 0, in, &h), -1);
	assert_int_equal(nw_recv(&w->g[2], 0, in, &h), 108);
	assert_int_equal(vio_get_be16(in + 14), 10);
	assert_int_equal(vio_get_be16(in + 18), 20);
	assert_memory_equal(in + 20, out + 12, 88);
	nw_teardown(state);
	wire_down(&r);
}

/* ------------------------------------------------------------------------------- a loop ---- */

/*
 * net_ring is a loop: what leaves comes in again. So a frame of guest 0 reaches guest 1 twice, the
 * second time from an mbuf whose body is guest 0's memory.
 */
static void frame_leaves_in_place_comes_back_and_is_returned(void **state)
{
	static const uint32_t sizes[] = {14, 60, 273, 274, 1514};

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct virtio_net_hdr_v1 h;
		struct vio_uplink *u;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		u = uplink(w, "net_ring0");
		pair_up(w, &nw_arms[a]);
		for (unsigned i = 0; i < 40; i++) {
			uint32_t len = sizes[i % VIO_ARRAY_SIZE(sizes)], id, used;

			nw_frame(out, len, 77, 0, i);
			nw_send_cut(&w->g[0], 0, NULL, out, len, i % 26);
			nw_run(w);
			for (unsigned k = 0; k < 2; k++) {
				assert_int_equal(nw_recv(&w->g[1], 0, in, &h), len);
				assert_memory_equal(in, out, len);
			}
			assert_true(
				nw_used(&w->g[0], 1, &id, &used)); /* the port has let go of it */
			assert_int_equal(used, 0);
		}
		assert_int_equal(vio_uplink_port(u)->stats.in_place,
				 16); /* those of 274 and 1514 bytes */
		assert_int_equal(vio_uplink_port(u)->stats.out_frames, 40);
		nw_teardown(&s);
		assert_int_equal(vio_uplink_lent(u), 0);
		vio_uplink_destroy(u);
	}
}

/*
 * A port that never takes anything out of its ring fills up: drops are counted, chains come back,
 * nobody waits.
 */
static void full_port_drops_and_returns(void **state)
{
	struct vio_uplink *u;
	struct vio_port *p;
	struct nw *w;
	uint32_t id, used;

	nw_setup(state);
	w = *state;
	u = uplink(w, "net_memif0,role=server,socket=vio-test-memif,socket-abstract=yes");
	p = vio_uplink_port(u);
	/* Nobody is at its other end: link down. */
	assert_false(p->up);
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	for (unsigned i = 0; i < 5; i++) {
		nw_frame(out, 1000, 77, 0, i);
		nw_send(&w->g[0], out, 1000);
	}
	nw_run(w);
	assert_int_equal(p->stats.drop[VIO_DROP_LINK_DOWN], 5);
	for (unsigned i = 0; i < 5; i++)
		assert_true(nw_used(&w->g[0], 1, &id, &used));
	/* Link up by force: the port takes nothing. */
	vio_switch_link(p, true);
	for (unsigned i = 0; i < 5; i++)
		nw_send(&w->g[0], out, 1000);
	w->now = 0; /* no tick looks at the link */
	nw_run(w);
	assert_int_equal(p->stats.drop[VIO_DROP_NO_BUFFERS], 5);
	for (unsigned i = 0; i < 5; i++)
		assert_true(nw_used(&w->g[0], 1, &id, &used));
	assert_int_equal(vio_uplink_lent(u), 0);
	nw_teardown(state);
	vio_uplink_destroy(u);
}

/* ------------------------------------------------------------------------------ a pcap ---- */

static uint32_t tcp6_frame(uint32_t data)
{
	uint32_t len = 74 + data;
	uint8_t tail[4] = {0, 6, 0, 0};
	uint16_t csum;

	nw_frame(out, len, 77, 0, 3);
	vio_put_be16(out + 12, 0x86dd);
	memset(out + 14, 0, 60);
	out[14] = 0x60;
	vio_put_be16(out + 18, (uint16_t)(len - 54));
	out[20] = 6;
	out[21] = 64;
	out[37] = 1;
	out[53] = 2;
	vio_put_be16(out + 54, 5001);
	vio_put_be16(out + 56, 80);
	out[66] = 0x50;
	out[67] = 0x10;
	vio_put_be16(tail + 2, (uint16_t)(len - 54));
	csum = (uint16_t)~vio_csum_fold(
		vio_csum_add(vio_csum_add(0, out + 22, 32, false), tail, 4, false));
	memcpy(out + 70, &csum, 2);
	return len;
}

static bool tcp6_checks_out(const uint8_t *f, uint32_t len)
{
	uint32_t sum = 6 + (len - 54);

	for (uint32_t i = 22; i < len; i += 2)
		sum += (uint32_t)f[i] << 8 | (i + 1 < len ? f[i + 1] : 0u);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

/* A port without offloads: the server cuts and sums. What is on the wire is what a tap of it shows. */
static void port_without_offloads_gets_whole_segments(void **state)
{
	static const struct virtio_net_hdr_v1 tso6 = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						      .gso_type = VIRTIO_NET_HDR_GSO_TCPV6,
						      .hdr_len = 74,
						      .gso_size = 1440,
						      .csum_start = 54,
						      .csum_offset = 16};
	char path[] = "/tmp/vio-test-XXXXXX", spec[128];
	uint32_t len = tcp6_frame(10000), rec[4], magic[6], got = 0;
	struct vio_uplink *u;
	struct nw *w;
	FILE *f;

	nw_setup(state);
	w = *state;
	close(mkstemp(path));
	snprintf(spec, sizeof(spec), "net_pcap0,tx_pcap=%s,trunk=1+5", path);
	u = uplink(w, spec);
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_send_cut(&w->g[0], 0, &tso6, out, len, 33);
	nw_run(w);
	assert_int_equal(vio_uplink_port(u)->stats.segmented, 1);
	assert_int_equal(vio_uplink_port(u)->stats.out_frames, 7);
	nw_teardown(state);
	vio_uplink_destroy(u); /* and the file is written */
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fread(magic, sizeof(magic), 1, f), 1);
	while (fread(rec, sizeof(rec), 1, f) == 1) {
		assert_int_equal(rec[2], rec[3]);
		assert_int_equal(fread(in, rec[2], 1, f), 1);
		/* Tagged as the trunk wants it; the tag off, it is a right frame. */
		assert_int_equal(vio_get_be16(in + 12), 0x8100);
		assert_int_equal(vio_get_be16(in + 14), 1);
		memmove(in + 4, in, 12);
		assert_true(tcp6_checks_out(in + 4, rec[2] - 4));
		assert_memory_equal(in + 4 + 74, out + 74 + got, rec[2] - 4 - 74);
		got += rec[2] - 4 - 74;
	}
	assert_int_equal(got, 10000);
	fclose(f);
	unlink(path);
}

/* ------------------------------------------------------------------------------- a tap ---- */

/* A packet socket on the kernel's end of tap `name`; -1: this process may not have one. */
static int listen_on(const char *name)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET,
				 .sll_protocol = htobe16(0x0003),
				 .sll_ifindex = (int)if_nametoindex(name)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htobe16(0x0003));

	if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Next frame from the guest's address into in[]; 0: none. */
static uint32_t heard(int fd)
{
	ssize_t n;

	while ((n = recv(fd, in, sizeof(in), 0)) > 0) {
		if (!memcmp(in + 6, out + 6, 6))
			return (uint32_t)n;
	}
	return 0;
}

/* An uplink over a tap called `name` (16 bytes); skips where taps are not to be had. */
static struct vio_uplink *tap_uplink(char *name, int *fd)
{
	struct vio_uplink *u;
	struct vio_err err = {""};
	char spec[64];

	snprintf(name, 16, "vt%d", (int)getpid() % 100000);
	snprintf(spec, sizeof(spec), "net_tap7,iface=%s", name);
	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) < 0 ||
	    vio_uplink_create(spec, &u, &err) < 0)
		skip(); /* not possible here */
	*fd = listen_on(name);
	assert_true(*fd >= 0);
	return u;
}

/* A tap sums by itself, and is not asked to cut. What comes out of it is right either way. */
static void tap_sends_right_sums_and_segments(void **state)
{
	static const struct virtio_net_hdr_v1 tso6 = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						      .gso_type = VIRTIO_NET_HDR_GSO_TCPV6,
						      .gso_size = 1440,
						      .csum_start = 54,
						      .csum_offset = 16},
					      csum = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						      .csum_start = 54,
						      .csum_offset = 16};
	struct vio_uplink *u;
	struct vio_err err = {""};
	uint32_t got = 0, n, len;
	char name[16];
	struct nw *w;
	int fd;

	u = tap_uplink(name, &fd);
	nw_setup(state);
	w = *state;
	assert_int_equal(vio_switch_add(w->sw, vio_uplink_port(u), &err), 0);
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	len = tcp6_frame(1001);
	nw_send_cut(&w->g[0], 0, &csum, out, len, 40);
	nw_run(w);
	assert_int_equal(heard(fd), len);
	assert_true(tcp6_checks_out(in, len));
	assert_memory_equal(in + 74, out + 74, len - 74);
	len = tcp6_frame(10000);
	nw_send_cut(&w->g[0], 0, &tso6, out, len, 33);
	nw_run(w);
	while ((n = heard(fd)) > 0) {
		assert_in_range(n, 75, 1514);
		assert_true(tcp6_checks_out(in, n));
		assert_memory_equal(in + 74, out + 74 + got, n - 74);
		got += n - 74;
	}
	assert_int_equal(got, 10000);
	assert_int_equal(vio_uplink_port(u)->stats.checksummed, 0);
	assert_int_equal(vio_uplink_port(u)->stats.segmented, 1);
	assert_int_equal(vio_uplink_port(u)->stats.in_place, 8);
	close(fd);
	nw_teardown(state);
	assert_int_equal(vio_uplink_lent(u), 0);
	vio_uplink_destroy(u);
}

/*
 * The length of a TCP header is the guest's word. A driver that is told of one beyond the frame
 * reads there, or (tap) gives up the burst: the frame before it and the one behind it must get
 * through, and it itself too.
 */
static void tcp_header_longer_than_its_frame_is_not_left_to_the_port(void **state)
{
	static const struct virtio_net_hdr_v1 csum = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 54, .csum_offset = 16};
	static const uint8_t offset[] = {0x50, 0xf0, 0x40, 0x00,
					 0x50}; /* words of the header, upper four bits */
	const uint32_t len = tcp6_frame(10);
	struct vio_err err = {""};
	struct vio_uplink *u;
	char name[16];
	struct nw *w;
	int fd;

	u = tap_uplink(name, &fd);
	nw_setup(state);
	w = *state;
	assert_int_equal(vio_switch_add(w->sw, vio_uplink_port(u), &err), 0);
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(offset); i++) {
		out[66] = offset[i];
		nw_send_cut(&w->g[0], 0, &csum, out, len, 0);
	}
	nw_run(w);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(offset); i++) {
		assert_int_equal(heard(fd), len);
		assert_int_equal(in[66], offset[i]);
		assert_true(tcp6_checks_out(in, len));
	}
	assert_int_equal(vio_uplink_port(u)->stats.checksummed, 3); /* the wrong ones, by us */
	close(fd);
	nw_teardown(state);
	vio_uplink_destroy(u);
}

/* More windows than DPDK's table has room for: each refusal says why, and frames still leave. */
static void
windows_beyond_what_dpdk_takes_are_refused_with_a_reason_and_frames_still_leave(void **state)
{
	enum { N = 160, PAGE = 4096 };
	uint8_t *mem =
		mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vio_err err = {""};
	unsigned n = 0;
	struct wire r;
	struct nw *w;

	assert_ptr_not_equal(mem, MAP_FAILED);
	nw_setup(state);
	w = *state;
	wire_up(w, &r, "");
	while (n < N && vio_uplink_mem_add(&r.u, 1, mem + n * PAGE, PAGE, &err) == 0)
		assert_string_equal(err.msg, ""), n++;
	assert_in_range(n, 16, N - 1);
	assert_non_null(strstr(err.msg, "no more windows"));
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_frame(out, 1000, 77, 0, 1);
	nw_send(&w->g[0], out, 1000);
	nw_run(w);
	assert_int_equal(r.port->stats.out_frames, 1);
	assert_true(wire_take(&r, 1));
	/* And there is room again when some are gone. */
	vio_uplink_mem_del(&r.u, 1, mem, PAGE);
	err.msg[0] = '\0';
	assert_int_equal(vio_uplink_mem_add(&r.u, 1, mem, PAGE, &err), 0);
	assert_string_equal(err.msg, "");
	while (n-- > 0)
		vio_uplink_mem_del(&r.u, 1, mem + n * PAGE, PAGE);
	munmap(mem, N * PAGE);
	nw_teardown(state);
	wire_down(&r);
}

static void bad_uplinks_are_refused_with_a_reason(void **state)
{
	static const struct {
		const char *spec, *says;
	} bad[] = {{"net_no_such0", "can't make"},    {"", "wants the arguments"},
		   {"vlan=3", "wants the arguments"}, {"net_null9,vlan=0", "vlan=0"},
		   {"net_null9,trunk=9-3", "trunk"},  {"net_null9,mtu=20", "mtu"}};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		struct vio_uplink *u;
		struct vio_err err = {""};

		assert_true(vio_uplink_create(bad[i].spec, &u, &err) < 0);
		assert_non_null(strstr(err.msg, bad[i].says));
	}
}

/* ---------------------------------------------------------------------------- rte_hash ---- */

static void addresses_are_learnt_moved_aged_and_forgotten(void **state)
{
	struct vio_err err = {""};
	struct vio_fdb *t;
	unsigned n = 0, seen = 0;
	uint32_t at = 0;
	struct vio_fdb_row row;

	(void)state;
	assert_int_equal(vio_fdb_rte_create(&t, &err), 0);
	assert_int_equal(t->ops->lookup(t, 5), -1);
	assert_int_equal(t->ops->learn(t, 5, 1, 9, 100), 1);
	assert_int_equal(t->ops->learn(t, 5, 1, 9, 100), 0);
	assert_int_equal(t->ops->lookup(t, 5), 1);
	assert_int_equal(t->ops->learn(t, 5, 2, 9, 150), VIO_FDB_MOVED + 1);
	assert_int_equal(t->ops->lookup(t, 5), 2);
	assert_int_equal(t->ops->learn(t, 6, 3, 9, 100), 1);
	while (t->ops->walk(t, &at, &row))
		seen += (unsigned)row.key * row.port + row.seen;
	assert_int_equal(seen, 5 * 2 + 150 + 6 * 3 + 100);
	for (unsigned i = 0; i < 4; i++)
		n += t->ops->age(t, 200, 100);
	assert_int_equal(n, 1);
	assert_int_equal(t->ops->lookup(t, 6), -1);
	assert_int_equal(t->ops->lookup(t, 5), 2);
	t->ops->forget(t, 2);
	assert_int_equal(t->ops->count(t), 0);
	t->ops->free(t);
}

static void every_port_of_a_full_table_has_its_share(void **state)
{
	struct vio_err err = {""};
	struct vio_fdb *t;

	(void)state;
	assert_int_equal(vio_fdb_rte_create(&t, &err), 0);
	assert_int_equal(t->size, VIO_FDB_SIZE);
	/* The limit, and a station that moves to a port that has reached it: nothing changes. */
	assert_int_equal(t->ops->learn(t, 1, 0, 2, 0), 1);
	assert_int_equal(t->ops->learn(t, 2, 0, 2, 0), 1);
	assert_int_equal(t->ops->learn(t, 3, 0, 2, 0), -ENOSPC);
	assert_int_equal(t->ops->learn(t, 3, 1, 2, 0), 1);
	assert_int_equal(t->ops->learn(t, 3, 0, 2, 0), -ENOSPC);
	assert_int_equal(t->ops->lookup(t, 3), 1);
	assert_int_equal(t->ops->learn(t, 2, 0, 2, 0), 0); /* a known one is no new one */
	/* One that moves away leaves its place behind. */
	assert_int_equal(t->ops->learn(t, 2, 1, 2, 0), VIO_FDB_MOVED);
	assert_int_equal(t->ops->learn(t, 4, 0, 2, 0), 1);
	t->ops->forget(t, 0);
	t->ops->forget(t, 1);
	assert_int_equal(t->ops->count(t), 0);
	/* All ports to their limits: none is refused before, whatever the keys are. */
	for (unsigned p = 0; p < VIO_SWITCH_PORTS; p++) {
		for (uint64_t k = 0; k < VIO_FDB_GUEST; k++)
			assert_int_equal(t->ops->learn(t, 1 + k * 4096 + p, p, VIO_FDB_GUEST, 0),
					 1);
		assert_int_equal(t->ops->learn(t, 99, p, VIO_FDB_GUEST, 0), -ENOSPC);
	}
	assert_int_equal(t->ops->count(t), VIO_FDB_SIZE);
	t->ops->forget(t, 7);
	assert_int_equal(t->ops->count(t), VIO_FDB_SIZE - VIO_FDB_GUEST);
	for (uint64_t k = 0; k < VIO_FDB_GUEST; k++) /* and its room is free again */
		assert_int_equal(t->ops->learn(t, 1 + k * 4096 + 7, 7, VIO_FDB_GUEST, 0), 1);
	for (unsigned n = 0; n < 64 && t->ops->count(t) > 0; n++)
		t->ops->age(t, 1000, 300);
	assert_int_equal(t->ops->count(t), 0);
	for (unsigned p = 0; p < VIO_SWITCH_PORTS; p++)
		assert_int_equal(t->ops->learn(t, 1000 + p, p, 1, 0),
				 1); /* ageing has given it back */
	t->ops->free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_leaves_in_place_comes_back_and_is_returned),
		cmocka_unit_test(frames_that_a_port_keeps_are_back_before_the_adapters_go),
		cmocka_unit_test(frames_in_a_loop_are_back_when_it_is_stopped),
		cmocka_unit_test(windows_come_and_go_while_a_port_keeps_frames),
		cmocka_unit_test(window_taken_by_force_while_it_is_being_withdrawn_ends_nobody),
		cmocka_unit_test(nothing_new_leaves_from_a_window_that_is_being_withdrawn),
		cmocka_unit_test(frames_beyond_a_guests_share_are_copied_and_others_still_lend),
		cmocka_unit_test(tag_that_the_driver_took_off_still_decides_the_vlan),
		cmocka_unit_test(full_port_drops_and_returns),
		cmocka_unit_test(port_without_offloads_gets_whole_segments),
		cmocka_unit_test(tap_sends_right_sums_and_segments),
		cmocka_unit_test(tcp_header_longer_than_its_frame_is_not_left_to_the_port),
		cmocka_unit_test(
			windows_beyond_what_dpdk_takes_are_refused_with_a_reason_and_frames_still_leave),
		cmocka_unit_test(bad_uplinks_are_refused_with_a_reason),
		cmocka_unit_test(addresses_are_learnt_moved_aged_and_forgotten),
		cmocka_unit_test(every_port_of_a_full_table_has_its_share),
	};
	const unsigned core = (unsigned)sched_getcpu();
	char prefix[32];
	struct vio_err err = {""};
	const struct vio_eal_cfg cfg = {
		.prefix = prefix, .core = &core, .n_cores = 1, .no_huge = true, .mib = 96};

	snprintf(prefix, sizeof(prefix), "vio-test-%d", (int)getpid());
	if (vio_eal_start(&cfg, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
