/* SPDX-License-Identifier: BSD-3-Clause */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>

#include "server/eal.h"
#include "vio/types.h"

unsigned long vio_eal_free_hugepages(void)
{
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	unsigned long n = 0;

	if (f) {
		if (fscanf(f, "%lu", &n) != 1)
			n = 0;
		fclose(f);
	}
	return n;
}

/*
 * Telemetry removes its socket in an atexit handler, so the directory can go only after that: handlers run in
 * reverse order, this one is registered before EAL's. rmdir() leaves alone what another process still uses.
 */
static void remove_dir(int status, void *arg)
{
	char *path = arg;

	(void)status;
	if (path[0])
		rmdir(path);
	free(path);
}

/* "0@3,1@5": lcore 0 on processor 3, ... Any processor number is possible this way, EAL's own are bounded. */
static void lcore_map(const struct vio_eal_cfg *cfg, char *buf, size_t len)
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < cfg->n_cores && at < len; i++)
		at += (size_t)snprintf(buf + at, len - at, "%s%u@%u", i ? "," : "", i, cfg->core[i]);
}

int vio_eal_start(const struct vio_eal_cfg *cfg, struct vio_err *err)
{
	char map[512], *path = calloc(1, PATH_MAX);
	/*
	 * Nothing of DPDK's memory is on our data path: one page is enough, and it is taken when needed. No
	 * PCI scan, nothing shared with secondary processes, so nothing in the file system but telemetry's
	 * socket. (--in-memory and
	 * --no-huge exclude each other.) What remains of the start is EAL's own tick calibration, 100 ms.
	 */
	const char *huge[] = {"vios",      "--no-pci", "--log-level", "*:error",    "--file-prefix",
			      cfg->prefix, "--lcores", map,           "--in-memory"};
	const char *plain[] = {"vios",          "--no-pci",  "--log-level", "*:error",
			       "--file-prefix", cfg->prefix, "--lcores",    map,
			       "--no-shconf",   "--no-huge", "-m",          "8"};
	const char *const *from = cfg->no_huge ? plain : huge;
	int argc = (int)(cfg->no_huge ? VIO_ARRAY_SIZE(plain) : VIO_ARRAY_SIZE(huge));
	char *argv[VIO_ARRAY_SIZE(plain) + 1] = {NULL};

	if (!path || on_exit(remove_dir, path)) {
		free(path);
		return vio_err_set(err, -ENOMEM, "no memory to start DPDK");
	}
	lcore_map(cfg, map, sizeof(map));
	/* EAL reorders its argv and may keep pointers into it: copies that are never freed, once in a
	 * process. */
	for (int i = 0; i < argc; i++) {
		argv[i] = strdup(from[i]);
		if (!argv[i])
			return vio_err_set(err, -ENOMEM, "no memory to start DPDK");
	}
	if (rte_eal_init(argc, argv) < 0)
		return vio_err_set(err, -rte_errno, "DPDK did not start: %s%s", rte_strerror(rte_errno),
				   cfg->no_huge ? "" : "; try --no-huge");
	snprintf(path, PATH_MAX, "%s", rte_eal_get_runtime_dir());
	return 0;
}

void vio_eal_stop(void)
{
	rte_eal_cleanup();
}

const char *vio_eal_runtime_dir(void)
{
	return rte_eal_get_runtime_dir();
}
