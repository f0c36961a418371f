/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors for people. Functions return 0 or a negative errno; the sentence for the person (what was
 * wrong, where, what to do) goes into a struct vio_err owned by the caller. Never on the data path.
 */
#ifndef VIO_ERR_H
#define VIO_ERR_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* The sentence, without a newline; cut if it is longer. */
struct vio_err {
	char msg[320];
};

/* Write the sentence; `err` may be NULL. Returns `rc`, so that `return vio_err_set(err, -EINVAL, "...")` reads well. */
__attribute__((format(printf, 3, 4))) static inline int vio_err_set(struct vio_err *err, int rc,
								    const char *fmt, ...)
{
	if (err) {
		va_list ap;

		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
	}
	return rc;
}

#endif
