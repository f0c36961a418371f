/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The 9P server at the other end of a UNIX socket, one connection at a time, which is called a session. A thread of
 * its own connects, reads and writes, so that no lcore waits for the server; between the two are rings of bytes.
 *
 * The queue's lcore begins and ends sessions. Until the thread has answered that (VIO_9P_CHANGING) neither ring is
 * used; what an earlier session left in them is gone then. A session that was lost stays so: its server has forgotten
 * the guest's fids, so only the guest can begin another one.
 */
#ifndef VIO_SERVER_DEV_9P_PEER_H
#define VIO_SERVER_DEV_9P_PEER_H

#include <pthread.h>

#include "server/dev/bytes.h"
#include "vio/err.h"
#include "vio/phyp.h"

/* The longest message in either direction, bytes. */
#define VIO_9P_MSIZE 65536u
/* Bytes kept in each direction: a message is given to the guest when all of it is there. */
#define VIO_9P_RING (2u * VIO_9P_MSIZE)

enum vio_9p_session { VIO_9P_CHANGING, VIO_9P_UP, VIO_9P_DOWN };

struct vio_9p_peer {
	struct vio_bytes out, in; /* to the server; from it */
	struct vio_bell bell;     /* rung when one of the rings was moved on, and for `want` */
	struct phyp_vcpu
		*vcpu; /* to be woken when the thread moved one on, or NULL; atomic (pair L) */
	char path[108];
	pthread_t thread;
	bool running;
	bool stop;     /* atomic */
	uint32_t want; /* the lcore's: number << 1 | to be connected (pair SE) */
	uint32_t seen; /* the lcore's: the last session whose ring it has emptied */
	/* The thread's. */
	uint32_t state;   /* number << 1 | connected (pair SE) */
	uint32_t in_from; /* where in `in` this session begins; before `state` */
	int fd;           /* -1: none */
	bool deaf;        /* the server takes no more: what it has said is still to be read */
	/* Relaxed, written by the thread. */
	bool connected;
	uint64_t connections, refused, losses, bytes_in, bytes_out;
};

/* Into zeroed memory; nobody is connected to yet. -ENOMEM, -ENAMETOOLONG, -errno with a sentence. */
int vio_9p_peer_open(struct vio_9p_peer *p, const char *path, struct vio_err *err);
/* No lcore uses it any more. Waits for the thread, which may be connecting: VIO_9P_CONNECT_MS at most. */
void vio_9p_peer_close(struct vio_9p_peer *p);

/* So long a connection may take, ms: it waits only for a place in the server's queue of those not yet accepted. */
#define VIO_9P_CONNECT_MS 2000

/* ---- the queue's lcore; nobody else while it is polled ---- */

/* End the session, if there is one; connect: begin another. */
void vio_9p_peer_session(struct vio_9p_peer *p, bool connect);
/* DOWN: all that the server said before it went is in the ring by now. */
enum vio_9p_session vio_9p_peer_look(struct vio_9p_peer *p);

#endif
