/* SPDX-License-Identifier: BSD-3-Clause */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/limits/limits_measure.h"
#include "vio/types.h"

#define PLAIN_PAGE 4096u
#define HUGE_PAGE  (2u << 20)
/* What may be taken when the available memory can't be read. */
#define ALLOWANCE_BLIND (4u << 20)

/* fallocate() first: it answers when pages are short, where a touch would end in SIGBUS. */
static int map_memfd(size_t bytes, bool huge, struct bench_mem *m)
{
	int fd =
		memfd_create("bench-limits", MFD_CLOEXEC | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	void *p;
	int e;

	if (fd < 0)
		return -errno;
	if (fallocate(fd, 0, 0, (off_t)bytes))
		goto fail;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (p == MAP_FAILED)
		goto fail;
	*m = (struct bench_mem){.base = p, .bytes = bytes, .fd = fd, .huge = huge};
	return 0;
fail:
	e = errno;
	close(fd);
	return -e;
}

/* MemAvailable in bytes, 0 when it can't be read. */
static uint64_t available(void)
{
	uint64_t kib = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
			break;
	fclose(f);
	return kib * 1024;
}

static uint64_t allowance_of(uint64_t available_bytes)
{
	return available_bytes ? available_bytes / 4 : ALLOWANCE_BLIND;
}

bool bench_mem_fits(size_t bytes, uint64_t available_bytes)
{
	return bytes <= allowance_of(available_bytes);
}

uint64_t bench_mem_allowance(void)
{
	return allowance_of(available());
}

int bench_mem_get(enum bench_mem_kind kind, size_t bytes, struct bench_mem *m, struct vio_err *err)
{
	uint64_t avail = available();
	size_t plain;
	void *p;
	int rc;

	/*
	 * Never left to the kernel: fallocate() of a memfd and MAP_POPULATE really take page after
	 * page, and when the pages run out it is other people's processes that the kernel kills.
	 */
	if (!bench_mem_fits(bytes, avail))
		return vio_err_set(err, -ENOMEM,
				   "%zu bytes are more than a quarter of the %" PRIu64 " available",
				   bytes, avail);
	plain = VIO_ALIGN_UP(bytes, (size_t)PLAIN_PAGE);
	if (kind == BENCH_MEM_SHARED) {
		if (map_memfd(VIO_ALIGN_UP(bytes, (size_t)HUGE_PAGE), true, m) == 0)
			return 0;
		rc = map_memfd(plain, false, m);
		if (rc)
			return vio_err_set(err, rc, "no shared memory of %zu bytes (memfd): %s",
					   plain, strerror(-rc));
		return 0;
	}
	p = mmap(NULL, plain, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		 -1, 0);
	if (p == MAP_FAILED)
		return vio_err_set(err, -errno, "no memory of %zu bytes: %s", plain,
				   strerror(errno));
	*m = (struct bench_mem){.base = p, .bytes = plain, .fd = -1};
	return 0;
}

void bench_mem_put(struct bench_mem *m)
{
	if (m->base)
		munmap(m->base, m->bytes);
	if (m->base && m->fd >= 0)
		close(m->fd);
	m->base = NULL;
}
