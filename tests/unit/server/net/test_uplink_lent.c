/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames that a port keeps, in place: windows, adapters and other guests meanwhile. */
#include "tests/unit/server/net/uplink_wire.h"

static uint8_t out[ROOM], in[ROOM];

/* ------------------------------------------------------------- a port with its wire in hand ---- */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_that_a_port_keeps_are_back_before_the_adapters_go),
		cmocka_unit_test(frames_in_a_loop_are_back_when_it_is_stopped),
		cmocka_unit_test(windows_come_and_go_while_a_port_keeps_frames),
		cmocka_unit_test(window_taken_by_force_while_it_is_being_withdrawn_ends_nobody),
		cmocka_unit_test(nothing_new_leaves_from_a_window_that_is_being_withdrawn),
		cmocka_unit_test(frames_beyond_a_guests_share_are_copied_and_others_still_lend),
	};

	if (!eal_begin())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
