/* SPDX-License-Identifier: BSD-3-Clause */
/* phypd inside: its state, shared by its loop (phypd_serve.c), its requests (phypd_requests.c) and the ends of partitions (phypd_deaths.c). One thread. */
#ifndef PHYP_PHYPD_PRIV_H
#define PHYP_PHYPD_PRIV_H

#include <pthread.h>
#include <semaphore.h>
#include <sys/types.h>

#include "phyp/phypd/phypd.h"

#define MAX_CONNS 64
/* A connection that is no partition, not yet or no more, may stay so long. */
#define GREETING_NS 5000000000ull

struct conn {
	int fd; /* -1: free */
	int pidfd;
	pid_t pid;
	uid_t uid;
	uint32_t part;     /* HV_NONE before the greeting */
	uint64_t greet_by; /* dropped then unless it is a partition; 0: it is one */
};

/* A queue that is still to be closed for a partition that ended. */
struct late {
	bool due;
	uint8_t event;
	uint32_t gen;
};

/* The grants of a partition that is no more, taken back by force when its time comes. */
struct grace {
	uint64_t at; /* 0: free */
	uint32_t part, gen;
};

struct phypd {
	const struct phypd_cfg *cfg;
	struct phyp_machine *m;
	int ep, listen, timer, signal;
	bool bound;
	struct conn conn[MAX_CONNS];
	struct grace grace[MAX_CONNS];
	struct late late[PHYP_MAX_UNITS];
	uint32_t turn; /* the watchdog's: odd while an event is worked on */
	sem_t end;     /* ends the watchdog */
	pthread_t watchdog;
	bool watched;
};

struct wire_req;

/*
 * Serve one request of a connection, whose bytes are a stranger's. 0, or -errno: the connection is
 * to be dropped.
 */
int phypd_answer(struct phypd *d, struct conn *c, struct wire_req *req);
/*
 * The partition behind a connection is no more; the connection stays. Its queues are closed, its
 * partners told; orderly: by its own word.
 */
void phypd_end_partition(struct phypd *d, struct conn *c, bool orderly);

/* What is due at `now` of those that have ended: grants are taken back, queues closed. */
void phypd_deaths_due(struct phypd *d, uint64_t now);
/* Wake up when the next of that is due, or a connection has been no partition for too long. */
void phypd_arm_timer(struct phypd *d);

#endif
