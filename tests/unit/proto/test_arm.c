/* SPDX-License-Identifier: BSD-3-Clause */
/* Arms: names, parsing, and each refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "vio/arm.h"
#include "vio/types.h"

static void is(const struct vio_arm *a, const char *name, enum vio_mapping m, enum vio_payload p,
	       enum vio_ring_access r, enum vio_notification n)
{
	assert_string_equal(a->name, name);
	assert_int_equal(a->mapping, m);
	assert_int_equal(a->payload, p);
	assert_int_equal(a->ring, r);
	assert_int_equal(a->notify, n);
}

static void the_named_arms_are_those_of_the_design(void **state)
{
	(void)state;
	is(vio_arm_named(0), "copy", VIO_MAP_SINGLE_USE, VIO_PAYLOAD_RDMA, VIO_RING_COPY,
	   VIO_NOTIFY_CRQ);
	is(vio_arm_named(1), "copy-tuned", VIO_MAP_DEFERRED, VIO_PAYLOAD_RDMA, VIO_RING_COPY_DELTA,
	   VIO_NOTIFY_SUPPRESS);
	is(vio_arm_named(2), "premapped", VIO_MAP_POOL, VIO_PAYLOAD_BOUNCE, VIO_RING_DIRECT,
	   VIO_NOTIFY_POLL);
	is(vio_arm_named(3), "zero-copy", VIO_MAP_POOL, VIO_PAYLOAD_DIRECT, VIO_RING_DIRECT,
	   VIO_NOTIFY_POLL);
	is(vio_arm_named(4), "unprotected", VIO_MAP_POOL, VIO_PAYLOAD_UNCHECKED, VIO_RING_DIRECT,
	   VIO_NOTIFY_POLL);
	assert_null(vio_arm_named(5));
	for (unsigned i = 0; vio_arm_named(i); i++)
		assert_int_equal(vio_arm_check(vio_arm_named(i), NULL), 0);
}

static void an_arm_is_parsed_by_name_by_factors_and_by_name_with_changes(void **state)
{
	struct vio_err err;
	struct vio_arm a;

	(void)state;
	for (unsigned i = 0; vio_arm_named(i); i++) {
		const struct vio_arm *n = vio_arm_named(i);

		assert_int_equal(vio_arm_parse(n->name, &a, &err), 0);
		is(&a, n->name, n->mapping, n->payload, n->ring, n->notify);
	}
	assert_int_equal(
		vio_arm_parse("mapping=cached,payload=direct,ring=copy,notify=crq", &a, &err), 0);
	is(&a, "custom", VIO_MAP_CACHED, VIO_PAYLOAD_DIRECT, VIO_RING_COPY, VIO_NOTIFY_CRQ);
	assert_int_equal(vio_arm_parse("copy,ring=direct", &a, &err), 0);
	is(&a, "custom", VIO_MAP_SINGLE_USE, VIO_PAYLOAD_RDMA, VIO_RING_DIRECT, VIO_NOTIFY_CRQ);
	assert_int_equal(
		vio_arm_parse("notify=poll,ring=direct,payload=direct,mapping=pool", &a, &err), 0);
	assert_string_equal(a.name, "zero-copy"); /* the same levels are the same arm */
	assert_int_equal(vio_arm_parse("copy", &a, NULL), 0);
}

/* Refused, with a sentence that has each of the words (up to NULL); the arm stays as it was. */
static void refused(const char *text, ...)
{
	struct vio_arm a = {.name = "before", .ring = VIO_RING_COPY_DELTA};
	struct vio_err err = {{0}};
	const char *word;
	va_list ap;

	assert_int_equal(vio_arm_parse(text, &a, &err), -EINVAL);
	assert_int_equal(vio_arm_parse(text, &a, NULL), -EINVAL);
	is(&a, "before", 0, 0, VIO_RING_COPY_DELTA, 0);
	va_start(ap, text);
	while ((word = va_arg(ap, const char *)))
		if (!strstr(err.msg, word))
			fail_msg("\"%s\": \"%s\" is not in \"%s\"", text, word, err.msg);
	va_end(ap);
}

static void a_bad_word_is_named_with_the_valid_ones(void **state)
{
	(void)state;
	refused("", "\"\"", "copy-tuned", "zero-copy", "mapping=", NULL);
	refused("zerocopy", "\"zerocopy\"", "copy, copy-tuned, premapped, zero-copy, unprotected",
		NULL);
	refused("Copy", "\"Copy\"", NULL);
	refused("copy,", "\"\"", "ring=", NULL);
	refused(",copy", "\"\"", NULL);
	refused("copy,rings=direct", "\"rings=direct\"",
		"mapping=, payload=, ring=, notify=", NULL);
	refused("copy,ring", "\"ring\"", NULL);
	refused("copy,=direct", "\"=direct\"", NULL);
	refused("copy,ring=", "\"\"", "copy, copy-delta, direct", NULL);
	refused("copy,ring=fast", "\"fast\"", "copy, copy-delta, direct", NULL);
	refused("copy,mapping=x", "single-use, deferred, cached, pool", NULL);
	refused("copy,payload=x", "rdma, bounce, direct, copybreak, unchecked", NULL);
	refused("copy,notify=x", "crq, suppress, poll", NULL);
	refused("copy,ring=directly", "\"directly\"", NULL);
	refused("copy,zero-copy", "\"zero-copy\"", "first", NULL);
	refused("ring=direct,copy", "\"copy\"", "first", NULL);
	refused("copy,ring=direct,ring=direct", "ring", "twice", NULL);
}

static void factors_without_an_arm_must_be_complete(void **state)
{
	(void)state;
	refused("ring=direct", "mapping, payload, notify", NULL);
	refused("mapping=pool,payload=direct,ring=copy", "notify not given", NULL);
}

static void a_long_bad_word_is_cut_in_the_sentence(void **state)
{
	char text[5000];

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	refused(text, "aaaaaaaa", "notify=", NULL);
}

static void combinations_that_make_no_sense_are_refused_with_the_reason(void **state)
{
	(void)state;
	refused("copy,payload=bounce", "payload=bounce", "mapping=single-use", "mapping=pool",
		NULL);
	refused("premapped,mapping=deferred", "payload=bounce", "mapping=deferred", NULL);
	refused("premapped,mapping=cached", "payload=bounce", "mapping=cached", NULL);
	refused("unprotected,mapping=single-use", "payload=unchecked", "mapping=single-use", NULL);
	refused("unprotected,ring=copy", "payload=unchecked", "ring=copy", "ring=direct", NULL);
	refused("unprotected,ring=copy-delta", "payload=unchecked", "ring=copy-delta", NULL);
}

static void a_level_out_of_range_is_refused(void **state)
{
	struct vio_err err;
	struct vio_arm a;

	(void)state;
	a = *vio_arm_named(0);
	a.mapping = VIO_N_MAPPING;
	assert_int_equal(vio_arm_check(&a, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "mapping"));
	a = *vio_arm_named(0);
	a.payload = (enum vio_payload)77;
	assert_int_equal(vio_arm_check(&a, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "payload has no level number 77"));
	a = *vio_arm_named(0);
	a.ring = VIO_N_RING;
	assert_int_equal(vio_arm_check(&a, NULL), -EINVAL);
	a = *vio_arm_named(0);
	a.notify = (enum vio_notification) - 1;
	assert_int_equal(vio_arm_check(&a, NULL), -EINVAL);
}

static void every_rung_from_copy_to_zero_copy_is_allowed_in_any_order_of_factors(void **state)
{
	const struct vio_arm *from = vio_arm_named(0), *to = vio_arm_named(3);

	(void)state;
	for (unsigned set = 0; set < 16; set++) { /* which factors have been changed already */
		struct vio_arm a = *from;

		a.mapping = set & 1 ? to->mapping : from->mapping;
		a.payload = set & 2 ? to->payload : from->payload;
		a.ring = set & 4 ? to->ring : from->ring;
		a.notify = set & 8 ? to->notify : from->notify;
		assert_int_equal(vio_arm_check(&a, NULL), 0);
	}
}

static void all_but_the_refused_combinations_are_allowed(void **state)
{
	unsigned allowed = 0;

	(void)state;
	for (unsigned m = 0; m < VIO_N_MAPPING; m++)
		for (unsigned p = 0; p < VIO_N_PAYLOAD; p++)
			for (unsigned r = 0; r < VIO_N_RING; r++)
				for (unsigned n = 0; n < VIO_N_NOTIFY; n++) {
					const struct vio_arm a = {"", m, p,
								  r,  n, VIO_LAYOUT_PACKED};
					bool bad = (p == VIO_PAYLOAD_BOUNCE && m != VIO_MAP_POOL) ||
						   (p == VIO_PAYLOAD_UNCHECKED &&
						    (m != VIO_MAP_POOL || r != VIO_RING_DIRECT));

					assert_int_equal(vio_arm_check(&a, NULL),
							 bad ? -EINVAL : 0);
					allowed += !bad;
				}
	/* rdma, direct, copybreak: 4*3*3 each; bounce: 1*3*3; unchecked: 1*1*3 */
	assert_int_equal(allowed, 3 * 36 + 9 + 3);
}

static void layout_has_a_default_and_makes_another_arm(void **state)
{
	struct vio_arm a, b;

	(void)state;
	assert_int_equal(vio_arm_parse("zero-copy", &a, NULL), 0);
	assert_int_equal(a.layout, VIO_LAYOUT_SPLIT);
	assert_int_equal(vio_arm_parse("zero-copy,layout=split", &b, NULL), 0);
	assert_string_equal(b.name, "zero-copy");
	assert_int_equal(
		vio_arm_parse("mapping=pool,payload=direct,ring=direct,notify=poll,layout=packed",
			      &b, NULL),
		0);
	assert_int_equal(b.layout, VIO_LAYOUT_PACKED);
	assert_string_equal(b.name, "custom");
	assert_string_equal(vio_layout_name(b.layout), "packed");
	assert_int_equal(vio_arm_parse("copy,layout=round", &b, NULL), -EINVAL);
	/* A layout is what features are agreed on, so no two have the same. */
	for (unsigned i = 0; i < VIO_N_LAYOUT; i++)
		for (unsigned k = 0; k < VIO_N_LAYOUT; k++) {
			a.layout = (enum vio_layout)i;
			b.layout = (enum vio_layout)k;
			assert_int_equal(vio_arm_features(&a) == vio_arm_features(&b), i == k);
			assert_int_equal(vio_arm_features(&a) & ~vio_layout_features(), 0);
		}
}

static void level_names_out_of_range_are_question_marks(void **state)
{
	(void)state;
	assert_string_equal(vio_mapping_name(VIO_MAP_POOL), "pool");
	assert_string_equal(vio_payload_name(VIO_PAYLOAD_COPYBREAK), "copybreak");
	assert_string_equal(vio_ring_name(VIO_RING_COPY_DELTA), "copy-delta");
	assert_string_equal(vio_notify_name(VIO_NOTIFY_SUPPRESS), "suppress");
	assert_string_equal(vio_mapping_name(VIO_N_MAPPING), "?");
	assert_string_equal(vio_payload_name(VIO_N_PAYLOAD), "?");
	assert_string_equal(vio_ring_name(VIO_N_RING), "?");
	assert_string_equal(vio_notify_name((enum vio_notification) - 1), "?");
}

static void every_payload_but_rdma_needs_granted_pages(void **state)
{
	(void)state;
	for (unsigned p = 0; p < VIO_N_PAYLOAD; p++)
		assert_int_equal(vio_payload_in_place((enum vio_payload)p), p != VIO_PAYLOAD_RDMA);
	assert_false(vio_payload_in_place(VIO_N_PAYLOAD));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_named_arms_are_those_of_the_design),
		cmocka_unit_test(an_arm_is_parsed_by_name_by_factors_and_by_name_with_changes),
		cmocka_unit_test(a_bad_word_is_named_with_the_valid_ones),
		cmocka_unit_test(factors_without_an_arm_must_be_complete),
		cmocka_unit_test(a_long_bad_word_is_cut_in_the_sentence),
		cmocka_unit_test(combinations_that_make_no_sense_are_refused_with_the_reason),
		cmocka_unit_test(a_level_out_of_range_is_refused),
		cmocka_unit_test(
			every_rung_from_copy_to_zero_copy_is_allowed_in_any_order_of_factors),
		cmocka_unit_test(all_but_the_refused_combinations_are_allowed),
		cmocka_unit_test(layout_has_a_default_and_makes_another_arm),
		cmocka_unit_test(level_names_out_of_range_are_question_marks),
		cmocka_unit_test(every_payload_but_rdma_needs_granted_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
