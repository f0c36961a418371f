/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers and sizes as people write them on command lines. Not the data path; any thread. */
#ifndef VIO_NUMBER_H
#define VIO_NUMBER_H

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "vio/err.h"

/* Decimal digits, and k, M, G or T after them if wanted, in either case: "4096", "64k", "256M". 0, or -EINVAL. */
static inline int vio_parse_size(const char *text, uint64_t *value)
{
	static const char units[] = "KMGT";
	uint64_t v = 0;
	const char *unit;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	for (; isdigit((unsigned char)*text); text++) {
		uint64_t digit = (uint64_t)(*text - '0');

		if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, digit, &v))
			return -EINVAL;
	}
	if (*text) {
		unit = strchr(units, toupper((unsigned char)*text));
		if (!unit || text[1])
			return -EINVAL;
		if (__builtin_mul_overflow(v, 1ull << 10 * (unit - units + 1), &v))
			return -EINVAL;
	}
	*value = v;
	return 0;
}

/* The value of option --name, within [lo, hi]. -EINVAL with a sentence that names the option and the range. */
static inline int vio_option_number(const char *name, const char *text, uint64_t lo, uint64_t hi,
				    uint64_t *value, struct vio_err *err)
{
	uint64_t v;

	if (vio_parse_size(text, &v) || v < lo || v > hi)
		return vio_err_set(err, -EINVAL, "--%s %s: must be a number from %llu to %llu",
				   name, text, (unsigned long long)lo, (unsigned long long)hi);
	*value = v;
	return 0;
}

#endif
