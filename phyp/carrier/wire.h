/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between a partition's libphyp and phypd: one request, one reply, over a UNIX SOCK_SEQPACKET
 * socket; descriptors with SCM_RIGHTS. Same machine, same build: native byte order, and a version
 * in the greeting.
 */
#ifndef PHYP_WIRE_H
#define PHYP_WIRE_H

#include "phyp/state/seg.h"

#define WIRE_VERSION 2u
#define WIRE_FDS     64 /* in one message, below SCM_MAX_FD */

enum wire_op {
	WIRE_HELLO, /* name, node: activate a partition -> part, gen; the segment's descriptor */
	WIRE_LMBS,  /* part, first -> gen, total; descriptors first.. */
	WIRE_EVFDS, /* part -> its HV_EVFDS eventfds */
	WIRE_STATS, /* -> struct wire_stats */
	WIRE_BYE,   /* an orderly end */
	WIRE_PIDFD, /* part -> a descriptor of the process that is that partition now (pidfd_open(2)) */
};

struct wire_req {
	uint32_t version;
	uint32_t op;
	uint32_t part;
	uint32_t first;
	uint32_t
		id; /* of the request: an answer that comes after a time-out is told from the next one */
	int32_t node; /* NUMA node of the caller's core, or -1 */
	char name[PHYP_NAME_LEN];
};

struct wire_rep {
	int32_t rc;  /* 0 or -errno, then msg */
	uint32_t id; /* the request's */
	uint32_t part;
	uint32_t gen;
	uint32_t total;
	char msg[sizeof(((struct vio_err *)0)->msg)];
};

struct wire_stats {
	struct wire_rep rep;
	uint32_t n;
	struct phyp_part_stats part[PHYP_MAX_PARTS];
};

/* Send bytes and descriptors. 0 or -errno. flags: MSG_DONTWAIT or 0. */
int wire_send(int sock, const void *buf, size_t len, const int *fd, unsigned n_fds, int flags);
/*
 * Receive one message of at most len bytes. fd[] of room *n_fds, filled (close-on-exec, the
 * caller's to close). Returns its length, 0 at the end of the connection, or -errno.
 */
ssize_t wire_recv(int sock, void *buf, size_t len, int *fd, unsigned *n_fds, int flags);
/* An address for path: -ENAMETOOLONG with a sentence when it doesn't fit. */
struct sockaddr_un;
int wire_address(const char *path, struct sockaddr_un *sa, struct vio_err *err);

#endif
