/* SPDX-License-Identifier: BSD-3-Clause */
/* phypd: the control plane. Its parts. */
#ifndef PHYP_PHYPD_H
#define PHYP_PHYPD_H

#include "common/sandbox.h"
#include "phyp/core/hv.h"

struct phypd_cfg {
	const char *socket;
	struct phyp_profile profile;
	int ready_fd; /* -1: none */
	bool trace;
	struct vio_sandbox sandbox;
	bool all_statistics; /* a partition is told the counters of all, not only its own */
};

/*
 * Read a partition profile (JSON, described by `phypd --help`). -EINVAL or -errno with a sentence
 * that names the file and the field.
 */
int phypd_profile_read(const char *path, struct phyp_profile *p, struct vio_err *err);
int phypd_pages_parse(const char *text, enum phyp_pages *pages);

/*
 * Serve until SIGTERM or SIGINT. 0, or a negative errno with a sentence when it could not start.
 * Nothing stays behind.
 */
int phypd_run(const struct phypd_cfg *cfg, struct vio_err *err);

#endif
