/* SPDX-License-Identifier: BSD-3-Clause */
/* What docs/virtio-conformance.md says of a device's features, against what the device offers. After cmocka.h. */
#ifndef VIO_TEST_SERVER_SPEC_LIST_H
#define VIO_TEST_SERVER_SPEC_LIST_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/*
 * The rows of the table: | bit | PREFIX NAME | yes, if, no | ... prefix: "VIRTIO_BLK_F_". always, some: bits that every device of the
 * kind offers, and any. all: those that the specification names; the table has each of them and no other.
 */
static inline void spec_list_is(const char *prefix, uint64_t always, uint64_t some, uint64_t all)
{
	char line[1024], name[64], offered[16];
	FILE *f = fopen(CONFORMANCE, "re");
	uint64_t listed = 0;
	unsigned bit;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		const char *want;

		if (sscanf(line, "| %u | %63s | %15[a-z]", &bit, name, offered) != 3 ||
		    strncmp(name, prefix, strlen(prefix)) != 0)
			continue;
		assert_true(bit < 64);
		want = always >> bit & 1 ? "yes" : some >> bit & 1 ? "if" : "no";
		if (strcmp(offered, want) != 0)
			fail_msg("%s: the documentation says '%s', the device '%s'", name, offered,
				 want);
		listed |= 1ull << bit;
	}
	fclose(f);
	assert_int_equal(some & ~listed, 0);
	assert_int_equal(listed, all);
}

#endif
