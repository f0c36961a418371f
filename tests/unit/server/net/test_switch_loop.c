/* SPDX-License-Identifier: BSD-3-Clause */
/* A loop behind two ports: what a station says to everybody comes back there, again and again. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "net_world.h"

#define S 1000000000ull
#define N 200u /* frames that the loop brings */

static uint8_t out[64], in[64];

static int setup(void **state)
{
	static const char *const spec[NW_GUESTS] = {"storm=off", "storm=off", ""};
	struct nw *w;

	nw_setup_with(state, spec);
	w = *state;
	for (unsigned i = 0; i < NW_GUESTS; i++)
		nw_up(w, &w->g[i], NW_ZERO_COPY, NW_ALL);
	vio_switch_poll(w->sw, 1000 * S);
	return 0;
}

/* From `src` to `to` (99: nobody's), in at guest `at`. */
static void say(struct nw *w, unsigned at, unsigned to, unsigned src)
{
	nw_frame(out, sizeof(out), to, src, 0);
	nw_send(&w->g[at], out, sizeof(out));
	nw_run(w);
}

/* Does guest i get it? There is one buffer, of which nothing is left. */
static bool gets(struct nw *w, unsigned i, unsigned at, unsigned to, unsigned src)
{
	struct virtio_net_hdr_v1 h;

	nw_post(&w->g[i], 0, 1, 256);
	say(w, at, to, src);
	return nw_recv(&w->g[i], 0, in, &h) == (int)sizeof(out);
}

static uint64_t sum(const struct nw *w, size_t counter)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < 2; i++)
		n += *(const uint64_t *)((const uint8_t *)&w->g[i].net->port.stats + counter);
	return n;
}

static void station_whose_broadcasts_go_round_is_found_where_it_speaks(void **state)
{
	struct nw *w = *state;

	say(w, 2, 99, 2);
	for (unsigned i = 0; i < N; i++)
		say(w, i % 2, 99, 2);
	assert_int_equal(sum(w, offsetof(struct vio_port_stats, moved)), 2 * VIO_SWITCH_MOVES);
	say(w, 2, 99, 2);
	for (unsigned i = 0; i < N; i++)
		say(w, i % 2, 99, 2);
	/* At first half of the frames come from where the station was left. */
	assert_int_equal(sum(w, offsetof(struct vio_port_stats, not_moved)),
			 (N - 2 * VIO_SWITCH_MOVES) / 2 + N);
	assert_true(gets(w, 2, 1, 2, 1));
	/* A new station is learnt there all the same, and a tenth of a second later all are followed again. */
	say(w, 0, 99, 77);
	assert_true(gets(w, 0, 1, 77, 1));
	vio_switch_poll(w->sw, 1000 * S + S / 10);
	say(w, 0, 99, 2);
	assert_true(gets(w, 0, 1, 2, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			station_whose_broadcasts_go_round_is_found_where_it_speaks, setup,
			nw_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
