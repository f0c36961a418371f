/* SPDX-License-Identifier: BSD-3-Clause */
/* What --help of the guest's programs says of arms and levels is what there is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "guest/prog/common.h"

/* "mapping=single-use|deferred|..." */
#define LIST(buf, factor, name)                                                                    \
	do {                                                                                       \
		int at_ = snprintf(buf, sizeof(buf), "%s=", factor);                               \
		for (unsigned i_ = 0; strcmp(name(i_), "?") != 0; i_++)                            \
			at_ += snprintf(buf + at_, sizeof(buf) - (size_t)at_, "%s%s",              \
					i_ ? "|" : "", name(i_));                                  \
	} while (0)

static void help_of_arm_names_each_arm_and_each_level_of_each_factor(void **state)
{
	const struct vio_option *row = vio_rows_design;
	char list[5][200], want[1000];
	int at = 0;
	(void)state;

	while (!row->name || strcmp(row->name, "arm") != 0)
		row++;
	for (unsigned i = 0; vio_arm_named(i); i++)
		at += snprintf(want + at, sizeof(want) - (size_t)at, "%s, ",
			       vio_arm_named(i)->name);
	LIST(list[0], "mapping", vio_mapping_name);
	LIST(list[1], "payload", vio_payload_name);
	LIST(list[2], "ring", vio_ring_name);
	LIST(list[3], "notify", vio_notify_name);
	LIST(list[4], "layout", vio_layout_name);
	snprintf(want + at, sizeof(want) - (size_t)at,
		 "or factors, separated by commas: %s %s %s %s %s", list[0], list[1], list[2],
		 list[3], list[4]);
	assert_string_equal(row->help, want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(help_of_arm_names_each_arm_and_each_level_of_each_factor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
