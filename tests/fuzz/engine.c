/* SPDX-License-Identifier: BSD-3-Clause */
/* For libFuzzer: the fuzzer's own seeds as files, into the folder that VIO_FUZZ_SEEDS names. run.py asks for it. */
#include <string.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static uint8_t buf[65536];
	const char *dir = getenv("VIO_FUZZ_SEEDS");

	(void)argc;
	(void)argv;
	for (unsigned i = 0; dir && vio_fuzz_seed; i++) {
		char path[4096];
		size_t n = vio_fuzz_seed(i, buf, sizeof(buf));
		FILE *f;

		if (n == 0)
			break;
		snprintf(path, sizeof(path), "%s/seed-%u", dir, i);
		f = fopen(path, "wb");
		if (!f || fwrite(buf, 1, n, f) != n || fclose(f)) {
			fprintf(stderr, "%s: can't be written\n", path);
			exit(2);
		}
	}
	return 0;
}
