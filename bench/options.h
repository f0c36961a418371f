/* SPDX-License-Identifier: BSD-3-Clause */
/* Options and output that bench-limits and bench-anchors share. No state; any thread. */
#ifndef VIO_BENCH_OPTIONS_H
#define VIO_BENCH_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "bench/topology.h"
#include "vio/err.h"

/* What --cores G,S asked for. */
struct bench_core_option {
	bool given;
	unsigned guest, server; /* CPU numbers */
};

/* -EINVAL with the sentence when `text` is not two CPU numbers. */
int bench_parse_cores(const char *text, struct bench_core_option *o, struct vio_err *err);
/* Seconds from 0.2 to 600; -EINVAL with the sentence. */
int bench_parse_seconds(const char *text, double *seconds, struct vio_err *err);
/*
 * The cores asked for, or else those that hwloc chooses. *two: false when both are one CPU, and
 * cores->reason says why. -errno with the sentence.
 */
int bench_choose_cores(const struct bench_core_option *o, struct bench_cores *cores, bool *two,
		       struct vio_err *err);
/* Write and release `j` (NULL: there was no memory for it). `path` is for the sentence only. */
int bench_write_json(json_t *j, FILE *f, const char *path, struct vio_err *err);

#endif
