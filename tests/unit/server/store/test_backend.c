/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of backends, their words, and the two that need nothing: null and memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "be_rig.h"
#include "vio/atomics.h"

static void sizes_are_read_as_people_write_them(void **state)
{
	static const struct {
		const char *text;
		uint64_t want;
	} good[] = {
		{"0", 0},
		{"512", 512},
		{"64k", 64ull << 10},
		{"64K", 64ull << 10},
		{"256M", 256ull << 20},
		{"1G", 1ull << 30},
		{"3t", 3ull << 40},
		{"18446744073709551615", UINT64_MAX},
	};
	static const char *const bad[] = {"",
					  "k",
					  "-1",
					  "1x",
					  "1kk",
					  "1 k",
					  "0x10",
					  "1.5G",
					  " 1",
					  "+1",
					  "18446744073709551616",
					  "16777216T"};
	uint64_t v;

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(good); i++) {
		assert_int_equal(vio_parse_size(good[i].text, &v), 0);
		assert_true(v == good[i].want);
	}
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++)
		if (vio_parse_size(bad[i], &v) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
}

static void a_value_is_found_whole_or_not_at_all(void **state)
{
	const char *spec = "a=1,bb=x=y,c=,d=p,,q,,,e=last";
	char buf[8];

	(void)state;
	assert_int_equal(vio_spec_get(spec, "a", buf, sizeof(buf)), 1);
	assert_string_equal(buf, "1");
	assert_int_equal(vio_spec_get(spec, "bb", buf, sizeof(buf)), 1);
	assert_string_equal(buf, "x=y");
	assert_int_equal(vio_spec_get(spec, "b", buf, sizeof(buf)), 0);
	assert_int_equal(vio_spec_get(spec, "c", buf, sizeof(buf)), 1);
	assert_string_equal(buf, "");
	assert_int_equal(vio_spec_get(spec, "d", buf, sizeof(buf)), 1);
	assert_string_equal(buf, "p,q,"); /* two commas are one that is meant */
	assert_int_equal(vio_spec_get(spec, "e", buf, sizeof(buf)), 1);
	assert_string_equal(buf, "last");
	assert_int_equal(vio_spec_get(spec, "e", buf, 4), -EINVAL);
	assert_int_equal(vio_spec_get("", "a", buf, sizeof(buf)), 0);
	assert_int_equal(vio_spec_get("a", "a", buf, sizeof(buf)), 0);
}

static void a_wrong_word_is_named_with_the_right_ones(void **state)
{
	(void)state;
	rig_refused("", -EINVAL, "null, memory, file, nbd");
	rig_refused("nul", -EINVAL, "'nul'");
	rig_refused("nulls,size=1G", -EINVAL, "'nulls'");
	rig_refused("null,sise=1G", -EINVAL, "'sise'");
	rig_refused("null,sise=1G", -EINVAL, "its keys are: size");
	rig_refused("null,size", -EINVAL, "no value");
	rig_refused("null,size=1G,size=2G", -EINVAL, "twice");
	rig_refused("null,=3", -EINVAL, "''");
	rig_refused("null,size=100", -EINVAL, "size=100");
	rig_refused("null,size=0", -EINVAL, "size=0");
	rig_refused("null,size=99999999999999999999999999999999999999", -EINVAL, "too long");
	rig_refused("null,size=16777215T", -EINVAL, "not a disk size");
	rig_refused("memory", -EINVAL, "how large");
	rig_refused("memory,size=1M,fill=ones", -EINVAL, "zero, random");
	rig_refused("null,short=yes", -EINVAL, "off, on");
	rig_refused("file,path=/x,short=on", -EINVAL, "'short'");
	rig_refused("memory,size=1M", -EOPNOTSUPP, "no partition memory");
	rig_refused("file", -EINVAL, "path=");
	rig_refused("file,path=/x,direct=yes", -EINVAL, "auto, on, off");
	rig_refused("file,path=/x,ro=1", -EINVAL, "off, on");
	rig_refused("file,path=/x,block=1024", -EINVAL, "512, 4096");
	rig_refused("nbd", -EINVAL, "uri=");
}

static void every_backend_has_its_line_of_help(void **state)
{
	static const char *const names[] = {"null", "memory", "file", "nbd"};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(names); i++) {
		const char *line = vio_backend_usage(i);

		assert_non_null(line);
		assert_memory_equal(line, names[i], strlen(names[i]));
		assert_null(strchr(line, '\n'));
	}
	assert_null(vio_backend_usage(VIO_ARRAY_SIZE(names)));
}

static void null_takes_everything_and_touches_nothing(void **state)
{
	struct rig g;
	struct vio_io *r[RIG_DEPTH];

	(void)state;
	rig_start(&g);
	rig_open(&g, "null,size=1M");
	assert_true(g.be->size == 1 << 20);
	assert_false(g.be->touches_data);
	assert_false(g.be->read_only);
	for (unsigned i = 0; i < RIG_DEPTH; i++) {
		r[i] = rig_req(&g, i, (enum vio_io_op)(i % 5), i * 512, 512, 0);
		memset(rig_piece(&g, i), (int)i, 512);
	}
	rig_run(&g, r, RIG_DEPTH);
	for (unsigned i = 0; i < RIG_DEPTH; i++) {
		assert_int_equal(r[i]->result, 0);
		for (unsigned b = 0; b < 512; b++)
			assert_int_equal(rig_piece(&g, i)[b], i);
	}
	rig_close(&g);
	rig_open(&g, "null");
	assert_true(g.be->size == 1 << 30);
	rig_stop(&g);
}

static void memory_open(struct rig *g, struct rig_env *e, const char *spec)
{
	struct vio_err err = {""};

	if (vio_backend_open(spec, &e->env, &g->be, &err))
		fail_msg("%s: %s", spec, err.msg);
	assert_int_equal(g->be->ops->queue_open(g->be, RIG_DEPTH, &g->bq, &err), 0);
}

static void memory_equals_a_shadow(void **state)
{
	const struct rig_mix mix = {2000, 8, 3, 1, 65536, true};
	struct rig g;
	struct rig_env e;

	(void)state;
	rig_start(&g);
	rig_env_init(&e, 4 << 20);
	memory_open(&g, &e, "memory,size=4M,fill=random");
	assert_true(g.be->touches_data);
	rig_shadow(&g, &mix);
	assert_int_equal(rig_one(&g, VIO_IO_ZERO, g.be->size, 0), 0);
	assert_int_equal(rig_one(&g, VIO_IO_DISCARD, g.be->size - 512, 512), 0);
	assert_int_equal(rig_one(&g, VIO_IO_ZERO, g.be->size - 512, 1024), -EIO);
	assert_int_equal(rig_one(&g, VIO_IO_READ, UINT64_MAX - 511, 1024), -EIO);
	rig_stop(&g);
	rig_env_free(&e);
}

static void memory_gives_addresses_inside_the_disk_only(void **state)
{
	struct rig g;
	struct rig_env e;
	struct gla at;

	(void)state;
	rig_start(&g);
	rig_env_init(&e, 4 << 20);
	memory_open(&g, &e, "memory,size=1M");
	assert_ptr_equal(g.be->ops->at(g.be, 0, 1 << 20, &at), e.mem);
	assert_true(at.v == 0x100000);
	assert_ptr_equal(g.be->ops->at(g.be, 4096, 512, &at), (uint8_t *)e.mem + 4096);
	assert_true(at.v == 0x101000);
	assert_non_null(g.be->ops->at(g.be, 1 << 20, 0, &at));
	assert_null(g.be->ops->at(g.be, (1 << 20) - 511, 512, &at));
	assert_null(g.be->ops->at(g.be, (1 << 20) + 1, 0, &at));
	assert_null(g.be->ops->at(g.be, UINT64_MAX, 2, &at));
	rig_stop(&g);
	rig_env_free(&e);
}

static void memory_is_filled_as_asked(void **state)
{
	struct rig g;
	struct rig_env e, f;
	unsigned zeroes = 0;

	(void)state;
	rig_start(&g);
	rig_env_init(&e, 1 << 20);
	rig_env_init(&f, 1 << 20);
	memory_open(&g, &e, "memory,size=64k,fill=zero");
	for (unsigned i = 0; i < 65536; i++)
		assert_int_equal(((uint8_t *)e.mem)[i], 0);
	rig_close(&g);
	rig_env_free(&e);
	memory_open(&g, &e, "memory,size=64k,fill=random");
	rig_close(&g);
	memory_open(&g, &f, "memory,size=64k,fill=random");
	assert_memory_equal(e.mem, f.mem, 65536);
	for (unsigned i = 0; i < 65536; i++)
		zeroes += ((uint8_t *)e.mem)[i] == 0;
	assert_in_range(zeroes, 1, 1024);
	rig_stop(&g);
	rig_env_free(&e);
	rig_env_free(&f);
}

static void memory_that_does_not_fit_is_said_by_the_partition(void **state)
{
	struct rig_env e;
	struct vio_backend *be;
	struct vio_err err = {""};

	(void)state;
	rig_env_init(&e, 1 << 20);
	assert_int_equal(vio_backend_open("memory,size=2M", &e.env, &be, &err), -ENOMEM);
	assert_string_equal(err.msg, "needs 2097152 bytes");
	assert_null(be);
}

/* A store that answers 2,048 while one of its queues sees `meanwhile`. */
static uint64_t meanwhile;

static int look_and_be_overtaken(struct vio_backend *be, uint64_t *size)
{
	vio_store_relaxed(&be->size, meanwhile);
	*size = 2048;
	return 0;
}

static void say_nothing(void *ctx, const char *line)
{
	(void)ctx;
	(void)line;
}

static void a_size_that_a_queue_has_seen_meanwhile_does_not_go_back(void **state)
{
	static const struct vio_backend_ops ops = {.name = "x", .look_size = look_and_be_overtaken};
	struct vio_backend be = {.ops = &ops, .size = 1024, .say = say_nothing};

	(void)state;
	meanwhile = 4096;
	assert_int_equal(vio_backend_resize(&be), 0);
	assert_int_equal(be.size, 4096);
	be.size = meanwhile = 1024;
	assert_int_equal(vio_backend_resize(&be), 1);
	assert_int_equal(be.size, 2048);
	be.size = meanwhile = 4096;
	assert_int_equal(vio_backend_resize(&be), -ENOSPC);
	assert_int_equal(be.size, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_read_as_people_write_them),
		cmocka_unit_test(a_value_is_found_whole_or_not_at_all),
		cmocka_unit_test(a_wrong_word_is_named_with_the_right_ones),
		cmocka_unit_test(every_backend_has_its_line_of_help),
		cmocka_unit_test(null_takes_everything_and_touches_nothing),
		cmocka_unit_test(memory_equals_a_shadow),
		cmocka_unit_test(memory_gives_addresses_inside_the_disk_only),
		cmocka_unit_test(memory_is_filled_as_asked),
		cmocka_unit_test(memory_that_does_not_fit_is_said_by_the_partition),
		cmocka_unit_test(a_size_that_a_queue_has_seen_meanwhile_does_not_go_back),
	};
	int rc;

	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rig_sweep();
	return rc;
}
