/* SPDX-License-Identifier: BSD-3-Clause */
/* Files that a program writes when it has measured. Not the data path; any thread. */
#ifndef VIO_OUTPUT_H
#define VIO_OUTPUT_H

#include <string.h>
#include <unistd.h>

#include "vio/err.h"

/*
 * Can `path`, the value of option --name, be written? Asked before measuring, so that a wrong path
 * costs no time; the file is opened at the end, so that an interrupted run leaves no empty one. "-"
 * is standard output. 0, or -errno with a sentence.
 */
static inline int vio_output_check(const char *name, const char *path, struct vio_err *err)
{
	const char *slash = strrchr(path, '/');
	char folder[4096];

	if (strcmp(path, "-") == 0 || access(path, W_OK) == 0)
		return 0;
	if (errno == ENOENT) {
		snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path + 1) : 1,
			 slash ? path : ".");
		if (access(folder, W_OK | X_OK) == 0)
			return 0;
	}
	return vio_err_set(err, -errno, "--%s %.200s: %s", name, path, strerror(errno));
}

#endif
