/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a fuzzer provides. It is run by libFuzzer (meson option fuzz_engine) or by standalone.c; it
 * must be deterministic, leave nothing behind, and abort() when something is wrong: FUZZ_CHECK().
 */
#ifndef VIO_TESTS_FUZZ_H
#define VIO_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* One input. Always returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Optional: input number i that gets far, written to buf (max bytes); its size, 0 past the last.
 * standalone.c mutates these, because without an engine that sees coverage random bytes stay at the
 * front door; engine.c gives them to libFuzzer as files.
 */
__attribute__((weak)) size_t vio_fuzz_seed(unsigned i, uint8_t *buf, size_t max);

#define FUZZ_CHECK(cond)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s: not true: %s\n", __FILE__, __LINE__, __func__, \
				#cond);                                                            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#endif
