/* SPDX-License-Identifier: BSD-3-Clause */
/* Bytes of messages and headers, names and trace lines. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "proto/msg.h"

static const uint8_t all_ops[] = {
	VIO_OP_PROBE,
	VIO_OP_PROBE | VIO_OP_REPLY,
	VIO_OP_ACKNOWLEDGE,
	VIO_OP_ACKNOWLEDGE | VIO_OP_REPLY,
	VIO_OP_DRIVER,
	VIO_OP_FEATURES_OK,
	VIO_OP_FEATURES_OK | VIO_OP_REPLY,
	VIO_OP_QUEUE,
	VIO_OP_DRIVER_OK,
	VIO_OP_DRIVER_OK | VIO_OP_REPLY,
	VIO_OP_RESET,
	VIO_OP_RESET | VIO_OP_REPLY,
	VIO_OP_WINDOW_ADD,
	VIO_OP_WINDOW_ADD | VIO_OP_REPLY,
	VIO_OP_WINDOW_DEL,
	VIO_OP_WINDOW_DEL | VIO_OP_REPLY,
	VIO_OP_WINDOW_LOST,
	VIO_OP_KICK,
	VIO_OP_USED,
	VIO_OP_CONFIG,
	VIO_OP_CONFIG_SET,
	VIO_OP_CONFIG_SET | VIO_OP_REPLY,
	VIO_OP_NEEDS_RESET,
};

static bool is_known(unsigned op)
{
	return memchr(all_ops, (int)op, sizeof(all_ops)) != NULL;
}

static void every_op_survives_encode_and_decode(void **state)
{
	static const struct vio_msg args[] = {
		{.version = 1},
		{.version = 2, .status = 255, .arg8 = 255, .arg16 = 0xffff, .arg = UINT64_MAX},
		{.version = 255,
		 .status = 0x12,
		 .arg8 = 0x34,
		 .arg16 = 0x5678,
		 .arg = 0x9abcdef012345678u},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(all_ops); i++) {
		for (size_t k = 0; k < VIO_ARRAY_SIZE(args); k++) {
			struct vio_msg m = args[k], out;
			uint64_t hi, lo;

			m.op = all_ops[i];
			vio_msg_encode(&m, &hi, &lo);
			assert_int_equal(vio_msg_decode(hi, lo, &out), 0);
			assert_int_equal(out.version, m.version);
			assert_int_equal(out.op, m.op);
			assert_int_equal(out.status, m.status);
			assert_int_equal(out.arg8, m.arg8);
			assert_int_equal(out.arg16, m.arg16);
			assert_true(out.arg == m.arg);
		}
	}
}

static void bytes_of_a_message_are_where_the_specification_has_them(void **state)
{
	const struct vio_msg m = {.version = 2,
				  .op = 0x05,
				  .status = 0x11,
				  .arg8 = 0x22,
				  .arg16 = 0x3344,
				  .arg = 0x0102030405060708u};
	static const uint8_t want[CRQ_ENTRY_BYTES] = {0x80, 0x56, 2, 0x05, 0x11, 0x22, 0x33, 0x44,
						      1,    2,    3, 4,    5,    6,    7,    8};
	uint64_t hi, lo;
	struct be64 entry[2];

	(void)state;
	vio_msg_encode(&m, &hi, &lo);
	entry[0] = vio_to_be64(hi);
	entry[1] = vio_to_be64(lo);
	assert_memory_equal(entry, want, sizeof(want));
}

static void an_entry_that_is_not_ours_is_refused_by_decode(void **state)
{
	struct vio_msg m;

	(void)state;
	for (unsigned valid = 0; valid < 256; valid++)
		for (unsigned format = 0; format < 256; format++) {
			uint64_t hi =
				(uint64_t)valid << 56 | (uint64_t)format << 48 | 0x020100000000u;

			assert_int_equal(vio_msg_decode(hi, 0, &m),
					 valid == 0x80 && format == 0x56 ? 0 : -EPROTO);
		}
}

static void every_op_has_its_own_name_and_no_other_value_has_one(void **state)
{
	(void)state;
	for (unsigned op = 0; op < 256; op++) {
		assert_int_equal(strcmp(vio_op_name((uint8_t)op), "?") != 0, is_known(op));
		for (unsigned other = 0; other < op; other++)
			if (is_known(op) && is_known(other))
				assert_string_not_equal(vio_op_name((uint8_t)op),
							vio_op_name((uint8_t)other));
	}
	assert_string_equal(vio_op_name(VIO_OP_PROBE | VIO_OP_REPLY), "PROBE reply");
}

static void every_status_has_its_own_sentence(void **state)
{
	(void)state;
	for (unsigned s = 0; s < VIO_N_STATUS; s++) {
		assert_non_null(vio_status_text((uint8_t)s));
		for (unsigned other = 0; other < s; other++)
			assert_string_not_equal(vio_status_text((uint8_t)s),
						vio_status_text((uint8_t)other));
	}
	assert_string_equal(vio_status_text(VIO_N_STATUS), "an unknown reason");
	assert_string_equal(vio_status_text(255), "an unknown reason");
}

static void header_v1_has_the_slides_fields_at_the_slides_places(void **state)
{
	struct vio_dev_header_v1 h;
	const uint8_t *b = (const uint8_t *)&h;

	(void)state;
	memset(&h, 0, sizeof(h));
	h.type = 2;
	h.num_vqs = 4;
	h.vqs_size = 8;
	h.device_features = vio_to_be32(0x01020304);
	h.guest_features = vio_to_be32(0x05060708);
	h.config_len = 60;
	h.device_status = 7;
	static const uint8_t want[13] = {2, 4, 8, 1, 2, 3, 4, 5, 6, 7, 8, 60, 7};

	assert_memory_equal(b, want, sizeof(want));
}

static void header_v2_and_window_desc_have_the_specified_offsets(void **state)
{
	(void)state;
	assert_int_equal(offsetof(struct vio_dev_header_v2, device_status), 1);
	assert_int_equal(offsetof(struct vio_dev_header_v2, num_vqs), 2);
	assert_int_equal(offsetof(struct vio_dev_header_v2, vqs_size), 4);
	assert_int_equal(offsetof(struct vio_dev_header_v2, config_len), 6);
	assert_int_equal(offsetof(struct vio_dev_header_v2, device_features), 8);
	assert_int_equal(offsetof(struct vio_dev_header_v2, guest_features), 16);
	assert_int_equal(offsetof(struct vio_dev_header_v2, ring_levels), 24);
	assert_int_equal(offsetof(struct vio_dev_header_v2, payload_levels), 25);
	assert_int_equal(offsetof(struct vio_dev_header_v2, notify_levels), 26);
	assert_int_equal(offsetof(struct vio_dev_header_v2, ring), 28);
	assert_int_equal(offsetof(struct vio_dev_header_v2, payload), 29);
	assert_int_equal(offsetof(struct vio_dev_header_v2, notify), 30);
	assert_int_equal(offsetof(struct vio_window_desc, liobn), 0);
	assert_int_equal(offsetof(struct vio_window_desc, perm), 4);
	assert_int_equal(offsetof(struct vio_window_desc, role), 5);
	assert_int_equal(offsetof(struct vio_window_desc, ioba), 8);
	assert_int_equal(offsetof(struct vio_window_desc, len), 16);
	assert_int_equal(offsetof(struct vio_window_desc, cookie), 24);
	assert_true(sizeof(struct vio_window_desc) <= H_READ_RDMA_MAX);
}

static void trace_line_is(const struct vio_msg *m, bool to_server, const char *want)
{
	char line[256];

	vio_msg_trace(line, sizeof(line), m, to_server);
	assert_string_equal(line, want);
}

static void trace_lines_name_the_message_and_its_arguments(void **state)
{
	(void)state;
	trace_line_is(
		&(struct vio_msg){.version = 2, .op = VIO_OP_PROBE, .arg16 = 64, .arg = 0x80000000},
		true, "guest  -> server  PROBE              v2 header=0x80000000 bytes=64");
	trace_line_is(&(struct vio_msg){.version = 2, .op = VIO_OP_PROBE | VIO_OP_REPLY}, false,
		      "server -> guest   PROBE reply        v2 ok");
	trace_line_is(
		&(struct vio_msg){
			.version = 1, .op = VIO_OP_QUEUE, .arg8 = 1, .arg16 = 3, .arg = 0x1000},
		true, "guest  -> server  QUEUE              v1 queue=3 avail ioba=0x1000");
	trace_line_is(
		&(struct vio_msg){
			.version = 2, .op = VIO_OP_QUEUE, .arg8 = 3, .arg16 = 0, .arg = 256},
		true, "guest  -> server  QUEUE              v2 queue=0 size entries=256");
	trace_line_is(
		&(struct vio_msg){.version = 2, .op = VIO_OP_WINDOW_ADD | VIO_OP_REPLY, .arg16 = 5},
		false, "server -> guest   WINDOW_ADD reply   v2 ok id=5");
	trace_line_is(
		&(struct vio_msg){.version = 2,
				  .op = VIO_OP_WINDOW_ADD | VIO_OP_REPLY,
				  .status = VIO_ST_WINDOW_FULL},
		false,
		"server -> guest   WINDOW_ADD reply   v2 refused (10): there is no room for another window");
	trace_line_is(
		&(struct vio_msg){.version = 2,
				  .op = VIO_OP_NEEDS_RESET,
				  .status = VIO_ST_DESC_CHAIN,
				  .arg16 = 1,
				  .arg = 7},
		false,
		"server -> guest   NEEDS_RESET        v2 queue=1 detail=0x7: a descriptor chain loops, leaves the table, or is too long");
	trace_line_is(
		&(struct vio_msg){
			.version = 3, .op = 0x7f, .status = 1, .arg8 = 2, .arg16 = 3, .arg = 4},
		true,
		"guest  -> server  unknown op 0x7f    v3 status=1 arg8=0x02 arg16=0x0003 arg=0x4");
}

static void trace_of_connection_entries_says_who_and_what(void **state)
{
	static const struct {
		uint64_t hi;
		const char *want;
	} cases[] = {
		{0xc001000000000000u, "server -> guest   INIT"},
		{0xc002000000000000u, "server -> guest   INIT COMPLETE"},
		{0xff01000000000000u, "phyp   -> guest   transport event 0x01: partner failed"},
		{0xff02000000000000u,
		 "phyp   -> guest   transport event 0x02: partner deregistered its CRQ"},
		{0xff06000000000000u, "phyp   -> guest   transport event 0x06: partner suspended"},
		{0xff77000000000000u, "phyp   -> guest   transport event 0x77: unknown"},
		{0x8001000000000000u,
		 "server -> guest   unknown entry 8001000000000000 0000000000000009"},
		{0x8056022100000001u, "server -> guest   USED               v2 queue=1"},
	};
	char line[256];

	(void)state;
	for (size_t i = 0; i < VIO_ARRAY_SIZE(cases); i++) {
		vio_crq_trace(line, sizeof(line), cases[i].hi, 9, false);
		assert_string_equal(line, cases[i].want);
	}
}

static void trace_into_a_buffer_of_any_size_is_terminated_inside_it(void **state)
{
	const struct vio_msg m = {
		.version = 2, .op = VIO_OP_NEEDS_RESET, .status = VIO_ST_DESC_CHAIN};
	char full[256], cut[256];

	(void)state;
	vio_msg_trace(full, sizeof(full), &m, false);
	for (size_t len = 1; len <= strlen(full) + 1; len++) {
		memset(cut, 'x', sizeof(cut));
		vio_msg_trace(cut, len, &m, false);
		assert_int_equal(strlen(cut), len - 1);
		assert_memory_equal(cut, full, len - 1);
		for (size_t i = len; i < sizeof(cut); i++)
			assert_int_equal(cut[i], 'x');
	}
	cut[0] = 'x';
	vio_msg_trace(cut, 0, &m, false);
	assert_int_equal(cut[0], 'x');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_op_survives_encode_and_decode),
		cmocka_unit_test(bytes_of_a_message_are_where_the_specification_has_them),
		cmocka_unit_test(an_entry_that_is_not_ours_is_refused_by_decode),
		cmocka_unit_test(every_op_has_its_own_name_and_no_other_value_has_one),
		cmocka_unit_test(every_status_has_its_own_sentence),
		cmocka_unit_test(header_v1_has_the_slides_fields_at_the_slides_places),
		cmocka_unit_test(header_v2_and_window_desc_have_the_specified_offsets),
		cmocka_unit_test(trace_lines_name_the_message_and_its_arguments),
		cmocka_unit_test(trace_of_connection_entries_says_who_and_what),
		cmocka_unit_test(trace_into_a_buffer_of_any_size_is_terminated_inside_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
