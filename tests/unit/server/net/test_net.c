/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames between guests: what is agreed on, every arm both ways, copies by counters, holds. */
#include "tests/unit/server/net/net_talk.h"

/* Each arm with each arm, both ways, in one descriptor and cut anywhere. */
static void pair_of_arms(unsigned a, unsigned b)
{
	static const uint32_t sizes[] = {14, 15, 18, 60, 64, 1513, 1514};
	static const uint32_t cuts[] = {0, 5, 12, 13, 26, 29, 31};
	void *state;
	struct nw *w;

	nw_setup(&state);
	w = state;
	two_up(w, &nw_arms[a], &nw_arms[b], NW_ALL);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(sizes); i++) {
		for (unsigned c = 0; c < VIO_ARRAY_SIZE(cuts); c++) {
			uint32_t cut = cuts[c] < sizes[i] + 12 ? cuts[c] : 0;

			nw_frame(out, sizes[i], 1, 0, i + c);
			nw_send_cut(&w->g[0], 0, NULL, out, sizes[i], cut);
			assert_arrives(w, &w->g[1], sizes[i]);
			nw_frame(out, sizes[i], 0, 1, i + c);
			nw_send_cut(&w->g[1], 0, NULL, out, sizes[i], cut);
			assert_arrives(w, &w->g[0], sizes[i]);
		}
	}
	nw_teardown(&state);
}

static void every_arm_moves_frames_to_every_arm(void **state)
{
	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		for (unsigned b = 0; b < nw_n_arms; b++)
			pair_of_arms(a, b);
	}
}

static void device_header_and_config_are_those_of_the_agreement(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[1];
	const struct vio_dev_header_v2 *h = (const void *)(g->mem + 0x2000);
	const struct virtio_net_config *c = (const void *)(g->mem + 0x3000);

	assert_int_equal(nw_features(w, g, NW_COPY, NW_ALL), VIO_ST_OK);
	assert_int_equal(h->type, 1);
	assert_int_equal(vio_from_be16(h->num_vqs), 3);
	assert_int_equal(vio_from_be16(h->config_len), 24);
	assert_true((vio_from_be64(h->device_features) & NW_ALL) == NW_ALL);
	assert_int_equal(c->mac[0], 2);
	assert_int_equal(c->mac[5], 1);
	assert_int_equal(vio_le16(c->status), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(vio_le16(c->max_virtqueue_pairs), 1);
	assert_int_equal(vio_le16(c->mtu), 1500);
}

static void version_1_is_refused_and_told(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];

	g->mem[0x2000] = 0x77;
	assert_int_equal(nw_step(w, g,
				 (struct vio_msg){.version = VIO_PROTO_V1,
						  .op = VIO_OP_PROBE,
						  .arg = nw_at(g, 0x2000).v,
						  .arg16 = 64}),
			 VIO_ST_BAD_VERSION);
	assert_int_equal(g->mem[0x2000], 0x77);
	assert_true(nw_said(w, "needs version 2"));
}

static void features_that_need_others_are_refused_alone(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];
	static const uint64_t bad[] = {NW_F(HOST_TSO4), NW_F(GUEST_TSO6), NW_F(CTRL_RX),
				       NW_F(GUEST_CSUM) | NW_F(MQ)};

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		assert_int_equal(nw_features(w, g, NW_COPY, bad[i]), VIO_ST_FEATURES);
		assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	}
	assert_int_equal(nw_features(w, g, NW_COPY, NW_F(HOST_TSO4) | NW_F(CSUM)), VIO_ST_OK);
}

static void queues_that_are_not_there_are_refused(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[0];

	/* Without receive queue; and a control queue that was not agreed on. */
	assert_int_equal(nw_features(w, g, NW_COPY, NW_PLAIN), VIO_ST_OK);
	nw_queue(w, g, 1);
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_QUEUE);
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	assert_int_equal(nw_features(w, g, NW_COPY, NW_PLAIN), VIO_ST_OK);
	for (uint16_t q = 0; q < 3; q++)
		nw_queue(w, g, q);
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_QUEUE);
}

/* ---------------------------------------------------------------------------------- copies ---- */

static void zero_copy_is_one_copy_and_no_call_a_frame(void **state)
{
	struct nw *w = *state;
	struct phyp_counters before, after;
	uint64_t copied;
	const unsigned frames = 40;
	struct virtio_net_hdr_v1 h;

	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL);
	nw_frame(out, 1514, 1, 0, 0);
	nw_send(&w->g[0], out, 1514); /* learns; what is rare is behind us */
	nw_frame(out, 60, 0, 1, 0);
	nw_send(&w->g[1], out, 60);
	nw_run(w);
	nw_recv(&w->g[1], 0, in, &h);
	nw_frame(out, 1514, 1, 0, 7);
	copied = nw_cpu_bytes(&w->g[0]) + nw_cpu_bytes(&w->g[1]) + nw_cpu_bytes(&w->g[2]);
	phyp_part_counters(w->sp, &before);
	for (unsigned i = 0; i < frames; i++)
		nw_send(&w->g[0], out, 1514);
	nw_run(w);
	phyp_part_counters(w->sp, &after);
	copied = nw_cpu_bytes(&w->g[0]) + nw_cpu_bytes(&w->g[1]) + nw_cpu_bytes(&w->g[2]) - copied;
	assert_int_equal(copied, frames * 1514);
	assert_int_equal(after.cpu_bytes - before.cpu_bytes, frames * 1514);
	assert_int_equal(after.rdma_bytes, before.rdma_bytes);
	assert_int_equal(after.tce_updates, before.tce_updates);
	assert_memory_equal(after.hcall, before.hcall, sizeof(after.hcall));
	for (unsigned i = 0; i < frames; i++)
		assert_int_equal(nw_recv(&w->g[1], 0, in, &h), 1514);
	assert_memory_equal(in, out, 1514);
}

static void copy_arm_is_one_rdma_in_and_one_out_a_frame(void **state)
{
	struct nw *w = *state;
	struct phyp_counters before, after;
	const unsigned frames = 20;
	int copy = phyp_op_index(H_COPY_RDMA);
	uint64_t rings;

	two_up(w, NW_COPY, NW_COPY, NW_ALL);
	nw_frame(out, 60, 0, 1, 0);
	nw_send(&w->g[1], out, 60);
	nw_run(w);
	nw_frame(out, 1514, 1, 0, 7);
	phyp_part_counters(w->sp, &before);
	for (unsigned i = 0; i < frames; i++)
		nw_send(&w->g[0], out, 1514);
	nw_run(w);
	phyp_part_counters(w->sp, &after);
	assert_int_equal(after.cpu_bytes, before.cpu_bytes); /* all copies are the hypervisor's */
	/*
	 * Transmit ring in (2) and back (1) once; receive ring back once: the chains were noted
	 * before, or it comes in too.
	 */
	rings = after.hcall[copy] - before.hcall[copy] - 2 * frames;
	assert_in_range(rings, 4, 6);
}

/* ---------------------------------------------------------------------------------- merging ---- */

/* No arm is left without it, or a comparison of arms would compare two programs. */
static void frames_of_one_descriptor_go_the_short_way_in_every_arm(void **state)
{
	static const uint32_t sizes[] = {18, 60, 64, 128, 1514};
	struct virtio_net_hdr_v1 h;

	for (unsigned i = 0; i < nw_n_arms * nw_n_arms; i++) {
		struct nw_guest *g;
		struct nw *w;

		nw_setup(state);
		w = *state;
		g = &w->g[1];
		two_up(w, &nw_arms[i % nw_n_arms], &nw_arms[i / nw_n_arms], NW_ALL);
		for (unsigned k = 0; k < VIO_ARRAY_SIZE(sizes); k++) {
			for (unsigned n = 0; n < 3; n++) {
				nw_frame(out + n * 8192, sizes[k], 1, 0, n);
				nw_send(&w->g[0], out + n * 8192, sizes[k]);
			}
			nw_run(w);
			for (unsigned n = 0; n < 3; n++) {
				assert_int_equal(nw_recv(g, 0, in, &h), sizes[k]);
				assert_memory_equal(in, out + n * 8192, sizes[k]);
			}
		}
		assert_int_equal(plain(g), 3 * VIO_ARRAY_SIZE(sizes));
		for (unsigned r = 0; r < NW_SIZE; r++) { /* and no full request was made of them */
			assert_int_equal(g->polled[0]->req[r].n_seg, 0);
			assert_int_equal(w->g[0].polled[1]->req[r].n_seg, 0);
		}
		nw_teardown(state);
	}
}

/* ------------------------------------------------------------------------------------- holds ---- */

/* A port that keeps what it gets until it is told to let go. */
struct keeper {
	struct vio_port port;
	struct vio_hold *held[64];
	unsigned n;
	const uint8_t *body;
	size_t body_len;
};

static void keep(struct vio_port *p, struct vio_frame *const f[], unsigned n)
{
	struct keeper *k = vio_container_of(p, struct keeper, port);

	for (unsigned i = 0; i < n; i++) {
		assert_non_null(f[i]->hold);
		vio_hold_get(f[i]->hold);
		k->held[k->n++] = f[i]->hold;
		k->body = f[i]->body[0].iov_base;
		k->body_len = f[i]->body[0].iov_len;
	}
}

static const struct vio_port_ops keeper_ops = {.kind = "keeper", .deliver = keep};

static void held_frame_is_returned_when_it_is_let_go_of(void **state)
{
	struct nw *w = *state;
	static struct keeper k; /* the switch has it until the tear-down */
	struct vio_err err;
	struct nw_guest *g = &w->g[0];
	uint32_t id, len;

	k = (struct keeper){.port = {.ops = &keeper_ops, .name = "keeper"}};
	vio_port_defaults(&k.port);
	assert_int_equal(vio_switch_add(w->sw, &k.port, &err), 0);
	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL);
	for (unsigned i = 0; i < 3; i++) {
		nw_frame(out, 500, 77, 0, i);
		nw_send(g, out, 500); /* flooded: the keeper's copy and the other guest's */
	}
	nw_run(w);
	assert_int_equal(k.n, 3);
	assert_false(nw_used(g, 1, &id, &len));
	assert_int_equal(g->polled[1]->in_flight, 3);
	/* In place: what the keeper has is the guest's own memory. */
	assert_memory_equal(k.body, out + 18, k.body_len);
	g->mem[NW_TX + 2 * NW_TX_ROOM + 12 + 18] ^= 0xff;
	assert_int_equal(k.body[0], out[18] ^ 0xff);
	vio_hold_put(k.held[1]);
	nw_run(w);
	assert_true(nw_used(g, 1, &id, &len));
	assert_int_equal(id, 2);
	/* A window that a port still reads from is not given back before it has let go. */
	assert_int_equal(
		nw_step(w, g, (struct vio_msg){.op = VIO_OP_WINDOW_DEL, .arg16 = g->window[1]}),
		0xff);
	vio_hold_put(k.held[0]);
	nw_run(w);
	assert_int_equal(g->last.op, VIO_OP_DRIVER_OK | VIO_OP_REPLY); /* no answer yet */
	vio_hold_put(k.held[2]);
	nw_run(w);
	assert_int_equal(g->last.op, VIO_OP_WINDOW_DEL | VIO_OP_REPLY);
	assert_int_equal(g->last.status, VIO_ST_OK);
}

static void held_frames_survive_the_guest(void **state)
{
	struct nw *w = *state;
	static struct keeper k; /* the switch has it until the tear-down */
	struct vio_err err;
	struct nw_guest *g = &w->g[0];

	k = (struct keeper){.port = {.ops = &keeper_ops, .name = "keeper"}};
	vio_port_defaults(&k.port);
	assert_int_equal(vio_switch_add(w->sw, &k.port, &err), 0);
	two_up(w, NW_ZERO_COPY, NW_ZERO_COPY, NW_ALL);
	nw_frame(out, 500, 77, 0, 0);
	nw_send(g, out, 500);
	nw_run(w);
	assert_int_equal(k.n, 1);
	/* Reset is not answered, nothing is unmapped, while the port has the frame. */
	assert_int_equal(nw_step(w, g, (struct vio_msg){.op = VIO_OP_RESET}), 0xff);
	assert_memory_equal(k.body, out + 18, k.body_len);
	vio_hold_put(k.held[0]);
	nw_run(w);
	assert_int_equal(g->last.op, VIO_OP_RESET | VIO_OP_REPLY);
	assert_int_equal(g->last.status, VIO_ST_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_arm_moves_frames_to_every_arm),
		cmocka_unit_test(frames_of_one_descriptor_go_the_short_way_in_every_arm),
		cmocka_unit_test_setup_teardown(device_header_and_config_are_those_of_the_agreement,
						nw_setup, nw_teardown),
		cmocka_unit_test_setup_teardown(version_1_is_refused_and_told, nw_setup,
						nw_teardown),
		cmocka_unit_test_setup_teardown(features_that_need_others_are_refused_alone,
						nw_setup, nw_teardown),
		cmocka_unit_test_setup_teardown(queues_that_are_not_there_are_refused, nw_setup,
						nw_teardown),
		cmocka_unit_test_setup_teardown(zero_copy_is_one_copy_and_no_call_a_frame, nw_setup,
						nw_teardown),
		cmocka_unit_test_setup_teardown(copy_arm_is_one_rdma_in_and_one_out_a_frame,
						nw_setup, nw_teardown),
		cmocka_unit_test_setup_teardown(held_frame_is_returned_when_it_is_let_go_of,
						nw_setup, nw_teardown),
		cmocka_unit_test_setup_teardown(held_frames_survive_the_guest, nw_setup,
						nw_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
