/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench-anchors: what real mapping, io_uring, wake-ups and copies between processes cost, nothing
 * injected.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/anchors/anchors.h"
#include "bench/limits/options.h"
#include "vio/cycles.h"
#include "vio/output.h"

#define BATCHES 9
/* Beside its timed batches a case finds their size (about half a batch) and checks data: room for that. */
#define TIMED_SHARE 0.8

struct options {
	struct bench_common c;
	unsigned points;
	uint64_t seed;
	const char *dir;
};

static int set_points(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	(void)row;
	return anchors_parse_points(text, to, err);
}

static const struct vio_option rows[] = {
	VIO_ROWS(struct options, c, bench_rows),
	{"points", "LIST", "comma separated names of points, see below (all)",
	 VIO_CALL(struct options, points, set_points)},
	VIO_ROW_SEED(struct options, seed),
	{"dir", "D", "folder of the temporary files of uring-*, 32 MiB without a name",
	 VIO_TEXT(struct options, dir), .def = "."},
	{0},
};

static const struct vio_program program = {
	.name = "bench-anchors",
	.about =
		"bench-anchors: measure the real counterparts of the costs that experiments inject\n\n"
		"What the machine does not allow is in not_measured, with the reason; the exit code is 0.\n"
		"Exit code: 0 done, 1 failed, 2 wrong use.\n\n",
	.tail = anchors_json_keys,
	.rows = rows,
};

/* All cases in their order; ends at the first that failed. */
static int anchors_measure(struct anchors_result *r, struct vio_err *err)
{
	uint64_t t0 = vio_now_ns();
	struct rusage children;
	int rc = 0;

	r->env.samples = BATCHES;
	r->env.case_ns = (uint64_t)(r->budget_seconds * TIMED_SHARE * 1e9 / r->n);
	for (unsigned i = 0; i < r->n && !rc; i++) {
		anchors_run(&r->env, &r->c[i], &r->o[i]);
		rc = r->o[i].rc;
		if (rc)
			vio_err_set(err, rc, "%s, %s, %zu bytes, depth %u: %.200s",
				    anchors_point_name(r->c[i].point),
				    anchors_level_name(r->c[i].level), r->c[i].size, r->c[i].depth,
				    r->o[i].why.msg);
	}
	getrusage(RUSAGE_CHILDREN, &children);
	r->involuntary_switches = (uint64_t)children.ru_nivcsw;
	r->taken_seconds = (double)(vio_now_ns() - t0) / 1e9;
	return rc;
}

static int save(const struct anchors_result *r, const char *path, struct vio_err *err)
{
	FILE *f = path ? fopen(path, "we") : stdout;
	int rc;

	if (!f)
		return vio_err_set(err, -errno, "--json %.200s: %s", path, strerror(errno));
	rc = bench_write_json(anchors_json(r), f, path ? path : "standard output", err);
	if (path && fclose(f) && !rc)
		rc = vio_err_set(err, -errno, "--json %.200s: %s", path, strerror(errno));
	return rc;
}

static int anchors_all(const struct options *o, struct anchors_result *r, struct vio_err *err)
{
	const unsigned uring = 1u << ANCHORS_URING_BUFFERED | 1u << ANCHORS_URING_DIRECT;
	const char *json = strcmp(o->c.json, "-") ? o->c.json : NULL;
	int rc = bench_choose_cores(&o->c.cores, &r->env.cores, &r->env.two_cores, err);

	r->budget_seconds = o->c.seconds;
	r->seed = r->env.written = r->env.expected = o->seed;
	r->env.buffered_fd = r->env.direct_fd = -1;
	r->n = anchors_cases(o->points, o->seed, r->c);
	if (!rc && json)
		rc = vio_output_check("json", json, err);
	if (!rc && !r->env.two_cores)
		fprintf(stderr, "bench-anchors: %s\n", r->env.cores.reason);
	if (!rc && (o->points & uring))
		rc = anchors_files_open(&r->env, o->dir, err);
	if (!rc)
		rc = anchors_measure(r, err);
	anchors_files_close(&r->env);
	return rc ? rc : save(r, json, err);
}

int main(int argc, char **argv)
{
	struct options o = {.points = (1u << ANCHORS_N_POINTS) - 1};
	struct anchors_result *r;
	struct vio_err err = {""};
	int rc = vio_options_parse(&program, &o, argc, argv, &err);

	if (rc > 0)
		return 0;
	if (rc < 0) {
		fprintf(stderr, "bench-anchors: %s\n", err.msg);
		return 2;
	}
	r = calloc(1, sizeof(*r));
	rc = r ? anchors_all(&o, r, &err) : vio_err_set(&err, -ENOMEM, "no memory for the results");
	free(r);
	if (rc)
		fprintf(stderr, "bench-anchors: %s\n", err.msg);
	return rc ? 1 : 0;
}
