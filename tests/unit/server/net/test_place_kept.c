/* SPDX-License-Identifier: BSD-3-Clause */
/* Buffers of a guest that a port has for long: reset, death, withdrawal, force and the port's end meanwhile. */
#include <pthread.h>

#include "tests/unit/server/net/place_wire.h"

static void reset_waits_for_buffers_that_a_port_has(void **state)
{
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");
	struct rte_mbuf *m;

	guest_up(w, 3);
	m = take(&r);
	assert_int_equal(nw_step(w, &w->g[0], (struct vio_msg){.op = VIO_OP_RESET}), 0xff);
	/* What comes in there now reaches nobody. */
	fill(m, 100, 0, 1);
	comes_in(&r, m);
	nw_run(w);
	assert_int_equal(w->g[0].last.op, VIO_OP_RESET | VIO_OP_REPLY);
	assert_int_equal(w->g[0].net->port.stats.drop[VIO_DROP_STOPPED], 1);
	memset(w->g[0].ring, 0, sizeof(w->g[0].ring));
	guest_up(w, 3);
	m = take(&r);
	fill(m, 200, 0, 2);
	comes_in(&r, m);
	nw_run(w);
	assert_gets(w, 200, 0, 2);
	nw_teardown(state);
	wire_down(&r);
}

static void guest_that_dies_is_forgotten_when_the_port_lets_go(void **state)
{
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");
	struct rte_mbuf *m, *other;

	guest_up(w, 3);
	m = take(&r);
	nw_reopen(w, &w->g[0]);
	assert_true(vio_adapter_busy(w->g[0].a));
	other = take(&r); /* none of the dead one's any more */
	rte_pktmbuf_free(m);
	rte_pktmbuf_free(other);
	nw_run(w);
	assert_false(vio_adapter_busy(w->g[0].a));
	guest_up(w, 3);
	m = take(&r);
	assert_true(of_guest(&w->g[0], m));
	fill(m, 200, 0, 2);
	comes_in(&r, m);
	nw_run(w);
	assert_gets(w, 200, 0, 2);
	nw_teardown(state);
	wire_down(&r);
}

static void end_of_the_port_gives_back_what_it_has(void **state)
{
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");
	struct rte_mbuf *m;

	guest_up(w, 3);
	m = take(&r);
	vio_adapter_stop(w->g[0].a);
	nw_run(w);
	assert_true(vio_adapter_busy(w->g[0].a));
	vio_uplink_stop(r.u);
	nw_run(w);
	assert_false(vio_adapter_busy(w->g[0].a));
	rte_pktmbuf_free(m); /* late: there is nothing to be told */
	nw_teardown(state);
	wire_down(&r);
}

/* A window with one buffer in it, which the port has then; the rest of the guest's buffers are elsewhere. */
static struct rte_mbuf *take_from_window(struct nw *w, struct wire *r, uint16_t *id,
					 uint64_t *cookie)
{
	const uint64_t at = NW_END, len = 0x4000, desc = 0x5000;
	struct nw_guest *g = &w->g[0];
	struct vio_window_desc d = {.liobn = vio_to_be32(g->u->liobn),
				    .perm = TCE_READ | TCE_WRITE,
				    .role = VIO_WINDOW_BUFFERS,
				    .ioba = vio_to_be64(nw_at(g, at).v),
				    .len = vio_to_be64(len)};
	struct rte_mbuf *m;

	guest_up(w, 0);
	for (uint64_t off = 0; off < len; off += 0x1000)
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
	*id = g->last.arg16;
	nw_desc(g, 0, 50, at, 2048, VRING_DESC_F_WRITE, 0);
	nw_publish(g, 0, 50);
	m = take(r);
	assert_true(of_guest(g, m));
	nw_post(g, 0, 4, 2048);
	return m;
}

static struct vio_msg withdraw(uint16_t id)
{
	return (struct vio_msg){.op = VIO_OP_WINDOW_DEL, .arg16 = id};
}

static void window_stays_while_a_port_has_a_buffer_in_it(void **state)
{
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");
	struct nw_guest *g = &w->g[0];
	struct rte_mbuf *m, *other;
	uint64_t cookie;
	uint16_t id;

	m = take_from_window(w, &r, &id, &cookie);
	assert_int_equal(nw_step(w, g, withdraw(id)), 0xff);
	assert_int_equal(h_rescind_logical(g->vcpu, RESCIND_NORMAL, cookie), H_RESOURCE);
	/* The others go on meanwhile. */
	other = take(&r);
	assert_true(of_guest(g, other));
	fill(other, 100, 0, 3);
	comes_in(&r, other);
	nw_run(w);
	assert_int_equal(g->net->port.stats.in_place, 1);
	fill(m, 600, 0, 9);
	comes_in(&r, m);
	nw_run(w);
	assert_int_equal(g->last.op, VIO_OP_WINDOW_DEL | VIO_OP_REPLY);
	assert_int_equal(g->last.status, VIO_ST_OK);
	assert_int_equal(h_rescind_logical(g->vcpu, RESCIND_NORMAL, cookie), H_SUCCESS);
	assert_memory_equal(g->mem + NW_END + 12, out, 600); /* it came before the end */
	assert_int_equal(g->needs_resets, 0);
	nw_teardown(state);
	wire_down(&r);
}

/* By force, while the port writes: the device stops, the port's lcore does not, and the page goes when the port has let go. */
static void window_taken_by_force_stops_the_device_and_nobody_else(void **state)
{
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");
	struct nw_guest *g = &w->g[0];
	struct rte_mbuf *m;
	uint64_t cookie;
	uint16_t id;

	m = take_from_window(w, &r, &id, &cookie);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(h_rescind_logical(g->vcpu, RESCIND_FORCED, cookie), H_PARTIAL);
		nw_run(w);
	}
	fault_guard_begin(g->a);
	fill(m, 600, 0, 9);
	comes_in(&r, m);
	nw_run(w);
	fault_guard_end();
	assert_int_equal(h_rescind_logical(g->vcpu, RESCIND_FORCED, cookie), H_SUCCESS);
	assert_int_equal(g->needs_resets, 1);
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	assert_false(vio_adapter_busy(g->a));
	nw_teardown(state);
	wire_down(&r);
}

/* More than a part of its ring no port gets: others have frames for the guest too. */
static void a_port_that_keeps_buffers_leaves_some_to_others(void **state)
{
	struct rte_mbuf *m[200];
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");
	unsigned has = 0;

	guest_up(w, 200);
	for (unsigned i = 0; i < 200; i++) {
		m[i] = take(&r);
		has += of_guest(&w->g[0], m[i]);
	}
	assert_in_range(has, 1, 199);
	comes_in(&r, m[199]); /* with its own room */
	fill(m[199], 321, 0, 7);
	nw_run(w);
	assert_gets(w, 321, 0, 7);
	for (unsigned i = 0; i < 199; i++)
		rte_pktmbuf_free(m[i]);
	nw_run(w);
	nw_teardown(state);
	wire_down(&r);
}

static void *free_them(void *arg)
{
	struct rte_mbuf **m = arg;

	for (unsigned i = 0; i < 50; i++)
		rte_pktmbuf_free(m[i]);
	return NULL;
}

static void buffers_that_another_thread_lets_go_of_come_back(void **state)
{
	struct rte_mbuf *m[50];
	struct wire r;
	struct nw *w = begin(state, &r, ",rx=in-place");
	pthread_t t;

	guest_up(w, 60);
	for (unsigned i = 0; i < 50; i++)
		m[i] = take(&r);
	assert_int_equal(pthread_create(&t, NULL, free_them, m), 0);
	for (unsigned i = 0; i < 100; i++)
		nw_run(w);
	pthread_join(t, NULL);
	nw_run(w);
	assert_int_equal(w->g[0].polled[0]->in_flight, 0);
	for (unsigned i = 0; i < 60; i++) {
		struct rte_mbuf *f = take(&r);

		assert_true(of_guest(&w->g[0], f));
		fill(f, 80, 0, i);
		comes_in(&r, f);
	}
	nw_run(w);
	for (unsigned i = 0; i < 60; i++)
		assert_gets(w, 80, 0, i);
	nw_teardown(state);
	wire_down(&r);
}

#define ROUNDS 10u
#define SENT   30u

/* The slot is how one is handed over: DPDK's ring, which is not instrumented, says nothing of that to the thread sanitizer. */
struct letting_go {
	struct rte_mbuf *slot;
	unsigned left;
};

static void *let_them_go(void *arg)
{
	struct letting_go *l = arg;

	while (l->left > 0) {
		struct rte_mbuf *m = vio_load_acquire(&l->slot);

		if (!m) {
			sched_yield();
			continue;
		}
		rte_pktmbuf_free(m);
		vio_store_release(&l->slot, (struct rte_mbuf *)NULL);
		l->left--;
	}
	return NULL;
}

static void hand_over(struct letting_go *l, struct rte_ring *tx)
{
	void *m;

	while (rte_ring_dequeue(tx, &m) == 0) {
		while (vio_load_acquire(&l->slot))
			sched_yield();
		vio_store_release(&l->slot, (struct rte_mbuf *)m);
	}
}

/* The other way: lent frames, in one piece and in several, whose port is told by a thread of its own that they have gone. */
static void frames_that_another_thread_lets_go_of_come_back(void **state)
{
	struct wire r;
	struct nw *w = begin(state, &r, "");
	struct letting_go l = {NULL, ROUNDS * SENT};
	unsigned back = 0;
	uint32_t id, used;
	pthread_t t;

	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	assert_int_equal(pthread_create(&t, NULL, let_them_go, &l), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		for (unsigned k = 0; k < SENT; k++) {
			nw_frame(out, 1000, 77, 0, i + k);
			nw_send_cut(&w->g[0], 0, NULL, out, 1000, k % 3 ? 0 : 500);
		}
		while (back < (i + 1) * SENT) {
			nw_run(w);
			hand_over(&l, r.tx);
			while (nw_used(&w->g[0], 1, &id, &used))
				back++;
		}
	}
	pthread_join(t, NULL);
	assert_int_equal(r.port->stats.in_place, ROUNDS * SENT);
	assert_int_equal(vio_uplink_lent(r.u), 0);
	nw_teardown(state);
	wire_down(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reset_waits_for_buffers_that_a_port_has),
		cmocka_unit_test(guest_that_dies_is_forgotten_when_the_port_lets_go),
		cmocka_unit_test(end_of_the_port_gives_back_what_it_has),
		cmocka_unit_test(window_stays_while_a_port_has_a_buffer_in_it),
		cmocka_unit_test(window_taken_by_force_stops_the_device_and_nobody_else),
		cmocka_unit_test(a_port_that_keeps_buffers_leaves_some_to_others),
		cmocka_unit_test(buffers_that_another_thread_lets_go_of_come_back),
		cmocka_unit_test(frames_that_another_thread_lets_go_of_come_back),
	};

	if (!eal_begin())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
