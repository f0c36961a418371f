/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages to a person, from threads that must not wait. A line goes into memory; a thread of its
 * own writes it out and is the only one that waits when nobody reads (a pipe that is full, a stopped
 * terminal, a dead file server). What finds no room is counted, and the count is said later. Each
 * source has a share of the room and a rate of its own, so that none hides what others say.
 */
#ifndef VIO_SERVER_LOG_H
#define VIO_SERVER_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vio/err.h"

#define VIO_LOG_SOURCES                                                                            \
	65 /* 0: the program itself, without a rate; the others as the program likes */
#define VIO_LOG_LINE        480 /* bytes; longer ones are cut */
#define VIO_LOG_LINES       512 /* that wait to be written */
#define VIO_LOG_SHARE       16  /* of them, of one source that is not 0 */
#define VIO_LOG_RATE        20  /* lines of such a source in a second */
#define VIO_LOG_PATIENCE_NS 200000000ull

struct vio_log;

/* Write to `fd`, which stays the caller's. -errno with a sentence. */
int vio_log_start(int fd, struct vio_log **out, struct vio_err *err);
/*
 * A line without its newline. Any thread. Does not wait for the reader, but for source 0 (a trace
 * should be whole): that one waits for room, for VIO_LOG_PATIENCE_NS in all as long as nothing can be
 * written. `log` NULL: standard error, at once.
 */
void vio_log_line(struct vio_log *log, unsigned source, const char *line);
/* Wait until all is written, at most so long. False: it is not. */
bool vio_log_flush(struct vio_log *log, uint64_t patience_ns);
/* Flush, then end; what can't be written is lost. NULL is allowed. */
void vio_log_stop(struct vio_log *log, uint64_t patience_ns);
/*
 * A stream whose lines become lines of source 0, for code that wants one (DPDK, traces). Closed by
 * vio_log_stop(). NULL: no memory.
 */
FILE *vio_log_stream(struct vio_log *log);

#endif
