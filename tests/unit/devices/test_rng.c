/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-rng, guest and server, in every arm. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "dev_world.h"
#include "guest/dev/rng/rng.h"
#include "vio/cycles.h"

#define PATIENCE_NS 30000000000ull

static void read_all(struct vio_rng *r, uint8_t *to, uint32_t len)
{
	uint64_t end = vio_now_ns() + PATIENCE_NS;
	uint32_t done = 0;

	while (done < len) {
		int n = vio_rng_read(r, to + done, len - done);

		assert_true(n >= 0 && n <= (int)(len - done));
		done += (uint32_t)n;
		if (n == 0)
			vio_rng_idle(r, 1000000);
		if (vio_now_ns() > end)
			fail_msg("%u of %u bytes came", done, len);
	}
}

/* Every value of a byte, about as often as chance has it: 16 times 256 of them. */
static void look_random(const uint8_t *b, uint32_t len)
{
	unsigned seen[256] = {0};

	for (uint32_t i = 0; i < len; i++)
		seen[b[i]]++;
	for (unsigned v = 0; v < 256; v++)
		assert_in_range(seen[v], len / 256 / 4, len / 256 * 4);
}

static void random_bytes_reach_the_guest_in_every_arm(void **state)
{
	static uint8_t a[65536], b[65536];

	(void)state;
	for (unsigned i = 0; i < dw_n_arms; i++) {
		const struct vio_buffered_cfg cfg = dw_cfg(dw_arms[i]);
		struct vio_err err = {""};
		struct dev_world w;
		struct vio_rng *r;

		dw_start(&w, &vio_kind_rng, "rate=1G");
		if (vio_rng_open(w.gp, &w.mem, &cfg, &r, &err))
			fail_msg("%s: %s", dw_arms[i], err.msg);
		read_all(r, a, sizeof(a));
		read_all(r, b, sizeof(b));
		look_random(a, sizeof(a));
		look_random(b, sizeof(b));
		assert_memory_not_equal(a, b, sizeof(a));
		vio_rng_close(r); /* and the server's turns for it have ended */
		assert_true(dw_shown(&w, "bytes_given") >= sizeof(a) + sizeof(b));
		assert_true(dw_shown(&w, "bytes_drawn") >= dw_shown(&w, "bytes_given"));
		dw_stop(&w);
	}
}

static void a_guest_gets_no_more_than_the_rate(void **state)
{
	const struct vio_buffered_cfg cfg = dw_cfg("zero-copy");
	struct vio_err err = {""};
	struct dev_world w;
	struct vio_rng *r;
	uint8_t b[4096];
	uint64_t since = vio_now_ns(), took;

	(void)state;
	dw_start(&w, &vio_kind_rng, "rate=64k");
	assert_int_equal(vio_rng_open(w.gp, &w.mem, &cfg, &r, &err), 0);
	for (unsigned i = 0; i < 8; i++)
		read_all(r, b, sizeof(b));
	took = vio_now_ns() - since;
	/* A bound on bytes: never more than what the time that passed allows, and what was in the pool. */
	assert_true(dw_shown(&w, "bytes_drawn") <= vio_muldiv(took, 65536, 1000000000) + 2 * 16384);
	vio_rng_close(r);
	dw_stop(&w);
}

static void a_guest_goes_on_when_the_server_is_back(void **state)
{
	static uint8_t a[16384];

	(void)state;
	for (unsigned i = 0; i < dw_n_arms; i++) {
		const struct vio_buffered_cfg cfg = dw_cfg(dw_arms[i]);
		struct vio_err err = {""};
		struct dev_world w;
		struct vio_rng *r;

		dw_start(&w, &vio_kind_rng, "rate=1G");
		if (vio_rng_open(w.gp, &w.mem, &cfg, &r, &err))
			fail_msg("%s: %s", dw_arms[i], err.msg);
		read_all(r, a, 1000); /* buffers are with the server */
		dw_server_again(&w, "rate=1G");
		read_all(r, a, sizeof(a));
		look_random(a, sizeof(a));
		vio_rng_close(r);
		dw_stop(&w);
	}
}

static void wrong_specs_are_refused_with_a_sentence(void **state)
{
	static const char *const bad[] = {"rate=0",  "rate=",      "rate=fast",
					  "rate=2T", "colour=red", "rate"};
	const struct vio_dev_env env = {0};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		struct vio_device *dev = NULL;
		struct vio_err err = {""};

		assert_int_equal(vio_kind_rng.open(bad[i], &env, &dev, &err), -EINVAL);
		assert_true(strlen(err.msg) > 10);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_bytes_reach_the_guest_in_every_arm),
		cmocka_unit_test(a_guest_gets_no_more_than_the_rate),
		cmocka_unit_test(a_guest_goes_on_when_the_server_is_back),
		cmocka_unit_test(wrong_specs_are_refused_with_a_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
