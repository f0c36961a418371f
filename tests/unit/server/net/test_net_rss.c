/* SPDX-License-Identifier: BSD-3-Clause */
/* RSS: queues as the guest says it, and commands that make no sense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net_packet.h"

/* ------------------------------------------------------------------------------------- RSS ---- */

static const uint8_t ms_key[40] = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
				   0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
				   0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
				   0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

struct rss {
	uint32_t types;
	uint16_t mask, unclassified, entries; /* entries: that are written */
	uint16_t first, second;               /* of the table, in turn */
	uint16_t tx;
	uint8_t key_len;
	int more; /* bytes at the end */
};
static const struct rss good = {
	.types = 0x3f, .mask = 127, .entries = 128, .second = 1, .tx = 2, .key_len = 40};

static uint8_t set_rss(struct nw *w, struct nw_guest *g, const struct rss *r)
{
	uint8_t d[1000] = {0};
	uint32_t at = 8;

	memcpy(d, (uint32_t[]){vio_le32(r->types)}, 4);
	memcpy(d + 4, (uint16_t[]){vio_le16(r->mask), vio_le16(r->unclassified)}, 4);
	for (unsigned i = 0; i < r->entries; i++, at += 2)
		memcpy(d + at, (uint16_t[]){vio_le16(i % 2 ? r->second : r->first)}, 2);
	memcpy(d + at, (uint16_t[]){vio_le16(r->tx)}, 2);
	d[at + 2] = r->key_len;
	memcpy(d + at + 3, ms_key, 40);
	at = (uint32_t)((int)(at + 3 + r->key_len) + r->more);
	return control(w, g, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG, d, at);
}

static int two_pairs(void **state)
{
	static const char *const spec[NW_GUESTS] = {"", "queues=2", "queues=2"};

	return nw_setup_with(state, spec);
}

/* The pair of guest 1 on which the frame in out[] arrives. */
static unsigned pair_of(struct nw *w, uint32_t len)
{
	struct virtio_net_hdr_v1 h;
	unsigned got = 2;

	nw_post(&w->g[1], 0, 1, 2048);
	nw_post(&w->g[1], 1, 1, 2048);
	nw_send(&w->g[0], out, len);
	nw_run(w);
	for (unsigned p = 0; p < 2; p++) {
		if (nw_recv(&w->g[1], p, in, &h) == (int)len)
			got = p;
	}
	assert_in_range(got, 0, 1);
	return got;
}

static uint32_t be_word(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void rss_sends_each_frame_to_the_queue_that_hash_and_table_say(void **state)
{
	static const struct shape s[] = {{"TCP", 6, false, 0},
					 {"UDP", 17, false, 0},
					 {"TCP 6", 6, true, 0},
					 {"UDP 6", 17, true, 0},
					 {"options", 6, true, 16}};

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		unsigned pairs = 0;
		struct rss r = good;
		struct nw_guest *g;
		uint32_t key[10];
		struct nw *w;
		void *st;

		two_pairs(&st);
		w = st;
		g = &w->g[1];
		nw_up(w, &w->g[0], &nw_arms[a], NW_ALL);
		nw_up(w, g, &nw_arms[a], NW_ALL | NW_F(MQ) | NW_F(RSS));
		assert_int_equal(nw_config(g)->rss_max_key_size, 40);
		assert_int_equal(nw_config(g)->rss_max_indirection_table_length, 128);
		assert_int_equal(nw_config(g)->supported_hash_types, 0x3f);
		memcpy(key, ms_key, sizeof(key));
		for (unsigned how = 0; how < 2; how++) {
			r.types = how ? 0x9 : 0x3f; /* addresses only */
			assert_int_equal(set_rss(w, g, &r), VIRTIO_NET_OK);
			for (unsigned i = 0; i < 60; i++) {
				const struct shape *p = &s[i % VIO_ARRAY_SIZE(s)];
				uint32_t len = packet(p, 50), word[9], n = p->v6 ? 8 : 2;

				out[p->v6 ? 37 : 29] = (uint8_t)i; /* an address, a port */
				out[l4_of(p) + 1] = (uint8_t)(7 * i);
				for (unsigned k = 0; k < n; k++)
					word[k] = be_word(out + (p->v6 ? 22 : 26) + 4 * k);
				if (!how)
					word[n++] = be_word(out + l4_of(p));
				assert_int_equal(pair_of(w, len),
						 nw_env.toeplitz(word, n, key) % 2);
				pairs |= 1u << nw_env.toeplitz(word, n, key) % 2;
			}
		}
		assert_int_equal(pairs, 3);
		/* No IP at all, or no type for it. */
		r.types = 0;
		r.unclassified = 1;
		assert_int_equal(set_rss(w, g, &r), VIRTIO_NET_OK);
		assert_int_equal(pair_of(w, packet(&s[0], 50)), 1);
		nw_frame(out, 100, 1, 0, 1);
		assert_int_equal(pair_of(w, 100), 1);
		/* A command of the older kind ends it: the first pair only. */
		assert_int_equal(control(w, g, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
					 (uint16_t[]){vio_le16(1)}, 2),
				 VIRTIO_NET_OK);
		assert_int_equal(pair_of(w, 100), 0);
		nw_teardown(&st);
	}
}

/* A fragment has no ports: those of one packet go where its first one goes. */
static void rss_keeps_the_fragments_of_a_packet_together(void **state)
{
	static const struct shape s = {"UDP", 17, false, 0};
	struct nw *w = *state;
	struct nw_guest *g = &w->g[1];
	unsigned want;

	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_up(w, g, NW_ZERO_COPY, NW_ALL | NW_F(MQ) | NW_F(RSS));
	assert_int_equal(set_rss(w, g, &good), VIRTIO_NET_OK);
	packet(&s, 50);
	out[20] = 0x20; /* the first one */
	want = pair_of(w, 92);
	for (unsigned i = 0; i < 20; i++) {
		out[20] = 0;
		out[21] = (uint8_t)(i + 1);   /* a later one */
		out[35] = (uint8_t)(i * 13u); /* whatever stands where ports would be */
		assert_int_equal(pair_of(w, 92), want);
	}
}

static void rss_commands_that_make_no_sense_are_refused_and_change_nothing(void **state)
{
	struct nw *w = *state;
	struct nw_guest *g = &w->g[1];
	struct rss r;

	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_up(w, g, NW_ZERO_COPY, NW_ALL | NW_F(MQ) | NW_F(RSS));
	r = good;
	r.first = r.second = 1;
	r.unclassified = 1;
	assert_int_equal(set_rss(w, g, &r), VIRTIO_NET_OK);
#define BAD(field, v)                                                                              \
	do {                                                                                       \
		r = good;                                                                          \
		r.field = (v);                                                                     \
		assert_int_equal(set_rss(w, g, &r), VIRTIO_NET_ERR);                               \
	} while (0)
	BAD(types, 0x40);
	BAD(types, UINT32_MAX);
	BAD(mask, 128);
	BAD(mask, 0xffff);
	BAD(mask, 126);
	BAD(mask, 63); /* and 128 entries: too long by half of them */
	BAD(entries, 64);
	BAD(entries, 0);
	BAD(unclassified, 2);
	BAD(unclassified, 0xffff);
	BAD(first, 2);
	BAD(second, 0xffff);
	BAD(tx, 0);
	BAD(tx, 3);
	BAD(key_len, 41);
	BAD(key_len, 255);
	BAD(more, 1);
	BAD(more, -1);
	BAD(more, -40);
#undef BAD
	for (uint32_t len = 0; len < 299; len += len < 12 ? 1 : 7)
		assert_int_equal(
			control(w, g, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG, out, len),
			VIRTIO_NET_ERR);
	nw_frame(out, 100, 1, 0, 1);
	assert_int_equal(pair_of(w, 100), 1);
	assert_int_equal(g->needs_resets, 0);
	/* Who did not agree to it. */
	nw_up(w, &w->g[2], NW_ZERO_COPY, NW_ALL | NW_F(MQ));
	assert_int_equal(set_rss(w, &w->g[2], &good), VIRTIO_NET_ERR);
	assert_false(w->g[2].net->rss.on);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rss_sends_each_frame_to_the_queue_that_hash_and_table_say),
		cmocka_unit_test_setup_teardown(rss_keeps_the_fragments_of_a_packet_together,
						two_pairs, nw_teardown),
		cmocka_unit_test_setup_teardown(
			rss_commands_that_make_no_sense_are_refused_and_change_nothing, two_pairs,
			nw_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
