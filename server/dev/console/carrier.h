/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The other end of a console: a UNIX socket that one person at a time connects to, or a pseudo-terminal. A thread of
 * its own moves bytes between it and two rings, so that no lcore waits for a person.
 *
 * While somebody is connected nothing is lost: a full ring stops its writer. While nobody is, the newest bytes of the
 * guest are kept for who comes, and older ones are dropped and counted, so that a guest does not stand still because
 * nobody looks.
 */
#ifndef VIO_SERVER_DEV_CONSOLE_CARRIER_H
#define VIO_SERVER_DEV_CONSOLE_CARRIER_H

#include <pthread.h>

#include "server/dev/bytes.h"
#include "vio/err.h"
#include "vio/phyp.h"

/* Bytes kept in each direction. */
#define VIO_CONSOLE_RING 65536u

struct vio_carrier_cfg {
	const char
		*path; /* the socket; or with `pty` a symbolic link to the terminal, "" for none */
	bool pty;
};

struct vio_carrier {
	struct vio_bytes in, out; /* to the guest; from it */
	struct vio_bell bell;     /* rung when one of the rings was moved on */
	struct phyp_vcpu
		*vcpu; /* to be woken when the carrier moved one on, or NULL; atomic (pair L) */
	bool pty, running;
	char path[108];
	int listener, client; /* descriptors, -1: none; the thread's */
	bool stop;            /* atomic */
	bool linked;          /* path is ours, to be removed */
	pthread_t thread;
	bool deaf; /* the client takes no more; the thread's */
	/* Relaxed, written by the thread. */
	bool connected;
	uint64_t connections, refused, bytes_in, bytes_out, bytes_lost;
};

/*
 * Into zeroed memory. -EADDRINUSE: somebody serves this socket, or the path is something else; other -errno, each
 * with a sentence. vio_carrier_close() after success only.
 */
int vio_carrier_open(struct vio_carrier *c, const struct vio_carrier_cfg *cfg, struct vio_err *err);
/* No lcore uses it any more. What was not yet carried is offered to the client once more, without waiting. */
void vio_carrier_close(struct vio_carrier *c);

/* endpoint.c: what to serve. Fills listener or client. -errno with a sentence. */
int vio_carrier_endpoint(struct vio_carrier *c, const char *path, struct vio_err *err);
void vio_carrier_endpoint_close(struct vio_carrier *c);

#endif
