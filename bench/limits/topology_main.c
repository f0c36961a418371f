/* SPDX-License-Identifier: BSD-3-Clause */
/* bench-topology: print the two cores that an experiment should use. */
#include <stdio.h>
#include <string.h>

#include "bench/limits/topology.h"
#include "common/options.h"

struct options {
	bool text;
};

static const struct vio_option rows[] = {
	{"text", NULL, "one line for a person in place of JSON", VIO_FLAG(struct options, text)},
	{0},
};

static const struct vio_program program = {
	.name = "bench-topology",
	.about = "bench-topology: choose a core for the guest and one for the VIO server\n\n",
	.tail = "\n"
		"Among the CPUs on which this process may run: different physical cores, one NUMA node, one L3, and not CPU 0\n"
		"when there are more than two. JSON keys: guest_core, server_core (CPU numbers), reason, n_cpus, n_cores\n"
		"(allowed), smt (some core has several CPUs), smt_siblings (the two chosen ones are of one core),\n"
		"l3_shared (null: no L3 visible), numa_shared, numa_node (-1: none), l1_bytes, l2_bytes, l3_bytes (0: not visible).\n"
		"Exit code: 0 two CPUs, 1 failed, 2 wrong use, 3 only one CPU (guest_core equals server_core).\n",
	.rows = rows,
};

static int print(const struct bench_cores *c, bool text)
{
	json_t *j;
	int rc = 0;

	if (text) {
		printf("guest on CPU %u, server on CPU %u: %s (CPUs: %u, cores: %u)\n",
		       c->guest_core, c->server_core, c->reason, c->n_cpus, c->n_cores);
	} else {
		j = bench_cores_json(c);
		rc = !j || json_dumpf(j, stdout, JSON_INDENT(1)) || putchar('\n') == EOF;
		json_decref(j);
	}
	if (rc || fflush(stdout)) {
		fprintf(stderr, "bench-topology: can't write the answer: %s\n", strerror(errno));
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct vio_err err = {""};
	struct bench_cores cores;
	hwloc_topology_t topo;
	hwloc_bitmap_t allowed;
	struct options o = {.text = false};
	int rc;

	rc = vio_options_parse(&program, &o, argc, argv, &err);
	if (rc > 0)
		return 0;
	if (rc < 0) {
		fprintf(stderr, "bench-topology: %s\n", err.msg);
		return 2;
	}
	rc = bench_topology_load(&topo, &allowed, &err);
	if (!rc) {
		rc = bench_topology_choose(topo, allowed, &cores, &err);
		bench_topology_free(topo, allowed);
	}
	if (rc < 0) {
		fprintf(stderr, "bench-topology: %s\n", err.msg);
		return 1;
	}
	if (print(&cores, o.text))
		return 1;
	return rc ? 3 : 0;
}
