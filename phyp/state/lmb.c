/* SPDX-License-Identifier: BSD-3-Clause */
/* Logical memory blocks: sealed memfds, preallocated, placed by libnuma; and mappings of them. */
#include <fcntl.h>
#include <numa.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "phyp/state/lmb.h"

#define HUGE_2M (2ull << 20)
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif

/* The pages of fd come from `node`; a hint, so that a machine without it still runs. */
static void place(int fd, uint64_t bytes, int node)
{
	void *va;

	if (node < 0 || numa_available() < 0 || numa_max_node() == 0 || node > numa_max_node())
		return;
	/* The policy is set on the mapping and kept with the file's range. */
	va = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (va == MAP_FAILED)
		return;
	numa_tonode_memory(va, bytes, node);
	munmap(va, bytes);
}

static int lmb_create(const char *part, uint64_t bytes, bool huge, int node)
{
	char name[PHYP_NAME_LEN + 8];
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
	int fd, rc;

	/*
	 * The owner's name shows in /proc/PID/maps: who has whose memory mapped can be read, and is
	 * tested.
	 */
	snprintf(name, sizeof(name), "lmb-%s", part);
	fd = memfd_create(name, flags);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) == 0) {
		place(fd, bytes, node);
		/* All pages now, or the error now: nobody meets a SIGBUS later. */
		if (fallocate(fd, 0, 0, (off_t)bytes) == 0 &&
		    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
			return fd;
	}
	rc = -errno;
	close(fd);
	return rc;
}

static int create_all(const struct phyp_part_profile *p, bool huge, int node, int *fd)
{
	unsigned n = p->memory_mib / p->lmb_mib;

	for (unsigned i = 0; i < n; i++) {
		fd[i] = lmb_create(p->name, (uint64_t)p->lmb_mib << 20, huge, node);
		if (fd[i] < 0) {
			int rc = fd[i];

			while (i-- > 0)
				close(fd[i]);
			return rc;
		}
	}
	return 0;
}

/*
 * Plain pages are taken one by one until the machine has none left, and then the kernel kills
 * somebody: ask first. MiB that could be had now; UINT64_MAX when the kernel does not say.
 */
static uint64_t available_mib(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];
	bool found = false;

	if (!f)
		return UINT64_MAX;
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, "MemAvailable: %llu kB", &kib) == 1;
	fclose(f);
	return found ? kib >> 10 : UINT64_MAX;
}

int hv_lmbs_create(const struct phyp_part_profile *p, int node, int fd[PHYP_MAX_LMBS],
		   uint64_t *backing, struct vio_err *err)
{
	int rc = -ENOMEM;

	*backing = HUGE_2M;
	if (p->pages != PHYP_PAGES_4K)
		rc = create_all(p, true, node, fd);
	if (rc == 0)
		return 0;
	if (p->pages == PHYP_PAGES_2M)
		return vio_err_set(
			err, -ENOMEM,
			"partition %s: no %u MiB in 2 MiB pages (%s); reserve them in /proc/sys/vm/nr_hugepages, or choose pages auto or 4k",
			p->name, p->memory_mib, strerror(-rc));
	*backing = 4096;
	if (p->memory_mib > available_mib())
		return vio_err_set(
			err, -ENOMEM,
			"partition %s: %u MiB wanted, this machine has %llu MiB left; give it less memory_mib (phypd --server-memory, --guest-memory)",
			p->name, p->memory_mib, (unsigned long long)available_mib());
	rc = create_all(p, false, node, fd);
	if (rc)
		return vio_err_set(err, -ENOMEM, "partition %s: no %u MiB of memory (%s)", p->name,
				   p->memory_mib, strerror(-rc));
	return 0;
}

int hv_lmbs_map(uint8_t *va, const int *fd, unsigned n, uint64_t lmb_bytes, int prot, int flags)
{
	for (unsigned i = 0; i < n; i++) {
		if (mmap(va + i * lmb_bytes, lmb_bytes, prot, MAP_SHARED | MAP_FIXED | flags, fd[i],
			 0) == MAP_FAILED)
			return -errno;
	}
	return 0;
}

uint8_t *hv_reserve(uint64_t bytes)
{
	uint8_t *va = mmap(NULL, bytes + HUGE_2M, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *start;
	uint64_t head;

	if (va == MAP_FAILED)
		return NULL;
	start = (uint8_t *)VIO_ALIGN_UP((uintptr_t)va, HUGE_2M);
	head = (uint64_t)(start - va);
	if (head)
		munmap(va, head);
	if (head < HUGE_2M)
		munmap(start + bytes, HUGE_2M - head);
	return start;
}

uint8_t *hv_tmap_get(struct hv_tmap *map, const struct hv_part *p, const int *fd, uint64_t gla,
		     uint64_t *len)
{
	uint64_t lmb = 1ull << p->lmb_shift, in = gla & (lmb - 1), from, to;

	if (map->va && gla - map->gla < map->len) {
		uint64_t left = map->len - (gla - map->gla);

		if (*len > left)
			*len = left;
		return map->va + (gla - map->gla);
	}
	hv_tmap_put(map);
	if (*len > lmb - in)
		*len = lmb - in;
	from = in & ~(p->backing - 1);
	to = VIO_ALIGN_UP(in + *len, p->backing);
	map->va = mmap(NULL, to - from, PROT_READ | PROT_WRITE, MAP_SHARED, fd[gla >> p->lmb_shift],
		       (off_t)from);
	if (map->va == MAP_FAILED) {
		map->va = NULL;
		return NULL;
	}
	map->len = to - from;
	map->gla = gla - (in - from);
	return map->va + (in - from);
}

void hv_tmap_put(struct hv_tmap *map)
{
	if (map->va)
		munmap(map->va, map->len);
	map->va = NULL;
}
