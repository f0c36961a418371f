/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench-anchors: what real mapping, io_uring, wake-ups and copies between processes cost, nothing
 * injected.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/anchors.h"
#include "bench/options.h"
#include "vio/cycles.h"
#include "vio/number.h"
#include "vio/output.h"

static const char usage[] =
	"bench-anchors: measure the real counterparts of the costs that experiments inject\n"
	"\n"
	"  --cores G,S      CPU of the guest, CPU of the server (default: chosen by hwloc, see bench-topology)\n"
	"  --points LIST    comma separated names of points, see below (default: all)\n"
	"  --seconds S      total time, about (6; 0.2 to 600)\n"
	"  --seed N         decides the order and the data (1)\n"
	"  --json FILE      write the JSON there (default and -: standard output)\n"
	"  --dir D          folder of the temporary files of uring-*, 32 MiB without a name (default: .)\n"
	"  --help           this text\n"
	"\n"
	"What the machine does not allow is in not_measured, with the reason; the exit code is 0.\n"
	"Exit code: 0 done, 1 failed, 2 wrong use.\n"
	"\n";

#define BATCHES 9
/* Beside its timed batches a case finds their size (about half a batch) and checks data: room for that. */
#define TIMED_SHARE 0.8

struct options {
	struct bench_core_option cores;
	unsigned points;
	double seconds;
	uint64_t seed;
	const char *json, *dir; /* json NULL: standard output */
};

static const struct option longs[] = {
	{"cores", required_argument, NULL, 'c'},   {"points", required_argument, NULL, 'p'},
	{"seconds", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'r'},
	{"json", required_argument, NULL, 'j'},    {"dir", required_argument, NULL, 'd'},
	{"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
};

/* 0: go on; 1: help was asked for; -EINVAL: wrong use, with a sentence or, from getopt_long, already said. */
static int parse(int argc, char **argv, struct options *o, struct vio_err *err)
{
	int opt, rc = 0;

	while (!rc && (opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (opt) {
		case 'c':
			rc = bench_parse_cores(optarg, &o->cores, err);
			break;
		case 'p':
			rc = anchors_parse_points(optarg, &o->points, err);
			break;
		case 's':
			rc = bench_parse_seconds(optarg, &o->seconds, err);
			break;
		case 'r':
			rc = vio_option_number("seed", optarg, 0, INT64_MAX, &o->seed, err);
			break;
		case 'j':
			o->json = strcmp(optarg, "-") ? optarg : NULL;
			break;
		case 'd':
			o->dir = optarg;
			break;
		case 'h':
			return 1;
		default:
			return -EINVAL;
		}
	}
	if (!rc && optind < argc)
		rc = vio_err_set(err, -EINVAL, "%s: takes options only, see --help", argv[optind]);
	return rc;
}

/* All cases in their order; ends at the first that failed. */
static int measure(struct anchors_result *r, struct vio_err *err)
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

static int run(const struct options *o, struct anchors_result *r, struct vio_err *err)
{
	const unsigned uring = 1u << ANCHORS_URING_BUFFERED | 1u << ANCHORS_URING_DIRECT;
	int rc = bench_choose_cores(&o->cores, &r->env.cores, &r->env.two_cores, err);

	r->budget_seconds = o->seconds;
	r->seed = r->env.written = r->env.expected = o->seed;
	r->env.buffered_fd = r->env.direct_fd = -1;
	r->n = anchors_cases(o->points, o->seed, r->c);
	if (!rc && o->json)
		rc = vio_output_check("json", o->json, err);
	if (!rc && !r->env.two_cores)
		fprintf(stderr, "bench-anchors: %s\n", r->env.cores.reason);
	if (!rc && (o->points & uring))
		rc = anchors_files_open(&r->env, o->dir, err);
	if (!rc)
		rc = measure(r, err);
	anchors_files_close(&r->env);
	return rc ? rc : save(r, o->json, err);
}

int main(int argc, char **argv)
{
	struct options o = {
		.seconds = 6, .seed = 1, .points = (1u << ANCHORS_N_POINTS) - 1, .dir = "."};
	struct anchors_result *r;
	struct vio_err err = {""};
	int rc = parse(argc, argv, &o, &err);

	if (rc > 0) {
		printf("%s%s", usage, anchors_json_keys);
		return 0;
	}
	if (rc < 0) {
		if (err.msg[0])
			fprintf(stderr, "bench-anchors: %s\n", err.msg);
		return 2;
	}
	r = calloc(1, sizeof(*r));
	rc = r ? run(&o, r, &err) : vio_err_set(&err, -ENOMEM, "no memory for the results");
	free(r);
	if (rc)
		fprintf(stderr, "bench-anchors: %s\n", err.msg);
	return rc ? 1 : 0;
}
