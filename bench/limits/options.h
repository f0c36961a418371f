/* SPDX-License-Identifier: BSD-3-Clause */
/* Options and output that bench-limits and bench-anchors share. No state; any thread. */
#ifndef VIO_BENCH_OPTIONS_H
#define VIO_BENCH_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "bench/limits/topology.h"
#include "common/option_rows.h"
#include "vio/err.h"

/* What --cores G,S asked for. */
struct bench_core_option {
	bool given;
	unsigned guest, server; /* CPU numbers */
};

/* What bench-limits and bench-anchors are both told. */
struct bench_common {
	struct bench_core_option cores;
	double seconds;
	const char *json; /* "-": standard output */
};

/* Rows of struct bench_common, for a program's table by VIO_ROWS(). */
extern const struct vio_option bench_rows[];
/* For VIO_CALL of a struct bench_core_option: "G,S". */
int bench_set_cores(const struct vio_option *row, void *to, const char *text, struct vio_err *err);
/*
 * The cores asked for, or else those that hwloc chooses. *two: false when both are one CPU, and
 * cores->reason says why. -errno with the sentence.
 */
int bench_choose_cores(const struct bench_core_option *o, struct bench_cores *cores, bool *two,
		       struct vio_err *err);
/* Write and release `j` (NULL: there was no memory for it). `path` is for the sentence only. */
int bench_write_json(json_t *j, FILE *f, const char *path, struct vio_err *err);

#endif
