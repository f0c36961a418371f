/* SPDX-License-Identifier: BSD-3-Clause */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_log.h>
#include <rte_errno.h>

#include "server/dpdk/eal.h"
#include "vio/types.h"

#define MAX_ARGS 64

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

/* What has to outlive EAL. */
struct leftover {
	char path[PATH_MAX];      /* of the runtime directory */
	char *argv[MAX_ARGS + 1]; /* EAL may keep pointers into it */
};

/*
 * Telemetry removes its socket in an atexit handler, so the directory can go only after that:
 * handlers run in reverse order, this one is registered before EAL's. rmdir() leaves alone what
 * another process still uses.
 */
static void remove_dir(int status, void *arg)
{
	struct leftover *l = arg;

	(void)status;
	if (l->path[0])
		rmdir(l->path);
	for (unsigned i = 0; l->argv[i]; i++)
		free(l->argv[i]);
	free(l);
}

/* "0@3,1@5": lcore 0 on processor 3, ... Any processor number is possible this way, EAL's own are bounded. */
static void lcore_map(const struct vio_eal_cfg *cfg, char *buf, size_t len)
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < cfg->n_cores && at < len; i++)
		at += (size_t)snprintf(buf + at, len - at, "%s%u@%u", i ? "," : "", i,
				       cfg->core[i]);
}

int vio_eal_start(const struct vio_eal_cfg *cfg, struct vio_err *err)
{
	struct leftover *left = calloc(1, sizeof(*left));
	char map[512];
	char mib[16];
	/*
	 * Disks need next to nothing of DPDK's memory, uplinks their mbufs: pages are taken when
	 * needed. Nothing is shared with secondary processes, so nothing is in the file system but
	 * telemetry's socket. (--in-memory and --no-huge exclude each other.) What remains of the
	 * start is EAL's own tick calibration, 100 ms.
	 */
	/*
	 * tap's driver reports as errors that it can do without what old kernels lack; when it
	 * fails, we say so.
	 */
	const char *arg[MAX_ARGS] = {"vios",        "--log-level", "pmd.net.tap:critical",
				     "--log-level", "*:error",     "--file-prefix",
				     cfg->prefix,   "--lcores",    map};
	const char *const plain[] = {"--no-shconf", "--no-huge", "-m", mib};
	char *argv[MAX_ARGS + 1] = {NULL};
	int argc = 9;

	snprintf(mib, sizeof(mib), "%u", cfg->mib);
	if (!cfg->no_huge)
		arg[argc++] = "--in-memory";
	if (!cfg->no_huge && cfg->one_file)
		arg[argc++] = "--single-file-segments";
	for (unsigned i = 0; cfg->no_huge && i < VIO_ARRAY_SIZE(plain); i++)
		arg[argc++] = plain[i];
	if (cfg->n_pci == 0)
		arg[argc++] = "--no-pci";
	for (unsigned i = 0; i < cfg->n_pci && argc + 2 <= MAX_ARGS; i++) {
		arg[argc++] = "-a";
		arg[argc++] = cfg->pci[i];
	}
	if (!left || on_exit(remove_dir, left)) {
		free(left);
		return vio_err_set(err, -ENOMEM, "no memory to start DPDK");
	}
	lcore_map(cfg, map, sizeof(map));
	/* EAL reorders its argv: it gets a list of its own. */
	for (int i = 0; i < argc; i++) {
		argv[i] = left->argv[i] = strdup(arg[i]);
		if (!argv[i])
			return vio_err_set(err, -ENOMEM, "no memory to start DPDK");
	}
	vio_eal_log(cfg->log);
	if (rte_eal_init(argc, argv) < 0)
		return vio_err_set(err, -rte_errno, "DPDK did not start: %s%s",
				   rte_strerror(rte_errno), cfg->no_huge ? "" : "; try --no-huge");
	snprintf(left->path, sizeof(left->path), "%s", rte_eal_get_runtime_dir());
	return 0;
}

void vio_eal_log(FILE *log)
{
	rte_openlog_stream(log);
}
