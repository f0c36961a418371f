/* SPDX-License-Identifier: BSD-3-Clause */
/* The server's command line: what is accepted, and that each mistake is named. */
#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/options.h"
#include "vio/arm.h"

static int parse(struct vio_server_opts *o, struct vio_err *err, const char *const args[])
{
	char *argv[16] = {(char *)(uintptr_t) "vios"};
	int argc = 1;

	for (; args[argc - 1]; argc++)
		argv[argc] = (char *)(uintptr_t)args[argc - 1];
	err->msg[0] = '\0';
	optind = 0; /* glibc: begin anew */
	return vio_server_opts_parse(o, argc, argv, err);
}
#define PARSE(o, err, ...) parse(o, err, (const char *const[]){__VA_ARGS__, NULL})

static void refused(const char *const args[], const char *word)
{
	struct vio_server_opts o;
	struct vio_err err;

	assert_int_equal(parse(&o, &err, args), -EINVAL);
	if (!strstr(err.msg, word))
		fail_msg("'%s' does not say '%s'", err.msg, word);
}
#define REFUSED(word, ...) refused((const char *const[]){__VA_ARGS__, NULL}, word)

static void defaults_offer_everything_but_unchecked(void **state)
{
	struct vio_server_opts o;
	struct vio_err err;

	(void)state;
	assert_int_equal(PARSE(&o, &err, "--disk", "null"), 0);
	assert_int_equal(o.devices.n, 1);
	assert_int_equal(o.ring_levels, 7);
	assert_int_equal(o.payload_levels, 0xf);
	assert_int_equal(o.notify_levels, 7);
	assert_int_equal(o.proto, 2);
	assert_int_equal(o.queue_size, 256);
	assert_int_equal(o.ready_fd, -1);
}

static void unchecked_is_offered_only_with_unprotected(void **state)
{
	struct vio_server_opts o;
	struct vio_err err;

	(void)state;
	assert_int_equal(
		PARSE(&o, &err, "--unprotected", "--disk", "null", "--allow", "payload=rdma"), 0);
	assert_int_equal(o.payload_levels, 1u << VIO_PAYLOAD_RDMA | 1u << VIO_PAYLOAD_UNCHECKED);
	REFUSED("--unprotected", "--disk", "null", "--allow", "payload=unchecked");
}

static void allow_takes_lists_and_leaves_the_factors_it_does_not_name(void **state)
{
	struct vio_server_opts o;
	struct vio_err err;

	(void)state;
	assert_int_equal(
		PARSE(&o, &err, "--disk", "null", "--allow", "ring=copy+direct,notify=poll"), 0);
	assert_int_equal(o.ring_levels, 1u << VIO_RING_COPY | 1u << VIO_RING_DIRECT);
	assert_int_equal(o.payload_levels, 0xf);
	assert_int_equal(o.notify_levels, 1u << VIO_NOTIFY_POLL);
	REFUSED("copy-delta", "--disk", "null", "--allow", "ring=fast");
	REFUSED("names no level", "--disk", "null", "--allow", "ring=");
	REFUSED("rings", "--disk", "null", "--allow", "rings=copy");
	REFUSED("ring", "--disk", "null", "--allow", "ring");
}

static void lists_of_processors_are_read_and_mistakes_named(void **state)
{
	struct vio_server_opts o;
	struct vio_err err;

	(void)state;
	assert_int_equal(PARSE(&o, &err, "--disk", "null", "--lcores", "7,1-3"), 0);
	assert_int_equal(o.n_cores, 4);
	assert_int_equal(o.core[0], 7);
	assert_int_equal(o.core[3], 3);
	REFUSED("twice", "--disk", "null", "--lcores", "1,0-2");
	REFUSED("at most 16", "--disk", "null", "--lcores", "0-16");
	REFUSED("--lcores 3-1", "--disk", "null", "--lcores", "3-1");
	REFUSED("list of processor", "--disk", "null", "--lcores", "");
	REFUSED("list of processor", "--disk", "null", "--lcores", "1,");
	REFUSED("list of processor", "--disk", "null", "--lcores", "-1");
	REFUSED("list of processor", "--disk", "null", "--lcores", "0-99999999999999999999");
}

static void numbers_out_of_range_are_refused_with_the_range(void **state)
{
	(void)state;
	REFUSED("1 to 64", "--disk", "null", "--queues", "65");
	REFUSED("1 to 64", "--disk", "null", "--queues", "four");
	REFUSED("power of two", "--disk", "null", "--queue-size", "100");
	REFUSED("2 to 32768", "--disk", "null", "--queue-size", "65536");
	REFUSED("1 to 2", "--disk", "null", "--proto", "3");
	REFUSED("0 to 1000000", "--disk", "null", "--spin-us", "-1");
	REFUSED("0 to 1000000", "--disk", "null", "--idle-ms", "soon");
	REFUSED("--ready-fd", "--disk", "null", "--ready-fd", "9999");
	REFUSED("--file-prefix", "--disk", "null", "--file-prefix", "../x");
}

static void idle_may_be_never(void **state)
{
	struct vio_server_opts o;
	struct vio_err err;

	(void)state;
	assert_int_equal(PARSE(&o, &err, "--disk", "null", "--idle-ms", "never"), 0);
	assert_true(o.idle_ns == UINT64_MAX);
	assert_int_equal(PARSE(&o, &err, "--disk", "null", "--idle-ms", "3", "--spin-us", "0"), 0);
	assert_int_equal(o.idle_ns, 3000000);
	assert_int_equal(o.spin_ns, 0);
}

static void what_is_unknown_or_missing_is_named(void **state)
{
	(void)state;
	REFUSED("--disk is missing", "--proto", "1");
	REFUSED("--nonsense", "--nonsense");
	REFUSED("wants a value", "--disk");
	REFUSED("leftover", "--disk", "null", "leftover");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_offer_everything_but_unchecked),
		cmocka_unit_test(unchecked_is_offered_only_with_unprotected),
		cmocka_unit_test(allow_takes_lists_and_leaves_the_factors_it_does_not_name),
		cmocka_unit_test(lists_of_processors_are_read_and_mistakes_named),
		cmocka_unit_test(numbers_out_of_range_are_refused_with_the_range),
		cmocka_unit_test(idle_may_be_never),
		cmocka_unit_test(what_is_unknown_or_missing_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
