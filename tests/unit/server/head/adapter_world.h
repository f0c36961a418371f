/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole in-process machine with one adapter and a guest that is driven by hand, message by
 * message, so that it can also do what a correct guest never does. One thread: aw_turn() is a turn
 * of the server's poll loop.
 */
#ifndef VIO_TEST_SERVER_ADAPTER_WORLD_H
#define VIO_TEST_SERVER_ADAPTER_WORLD_H

#include <pthread.h>

#include "proto/fsm.h"
#include "server/head/adapter.h"
#include "server/dev/blk/blk.h"
#include "vq/mock.h"

/* The guest's memory, by guest-logical address; all of it is TCE-mapped 1:1 for reading and writing. */
#define AW_CRQ    0x1000ull
#define AW_HEADER 0x2000ull
#define AW_CONFIG 0x3000ull
#define AW_WDESC  0x4000ull
#define AW_DESC   0x10000ull /* descriptor table and available ring of queue q: + q * AW_QUEUE */
#define AW_AVAIL  0x11000ull
#define AW_USED   0x12000ull
#define AW_QUEUE  0x10000ull
#define AW_BUF    0x100000ull
#define AW_BUFLEN 0x10000ull
#define AW_SIZE   16u
#define AW_QUEUES 2u

struct aw_backend {
	struct vio_backend be;
	uint8_t disk[64 << 10];
	bool slow; /* keep requests until it is cleared */
	struct vio_io *held[64];
	unsigned n_held;
	unsigned queues_open, adds, dels;
	unsigned adds_in_flight; /* window calls that came while something was in flight */
	bool fail_open;
	int fail;    /* result of every request */
	bool forced; /* the guest took pages back by force: a withdrawn window need not be mapped */
};
extern const struct vio_backend_ops aw_backend_ops; /* of struct aw_backend.be */

struct aw {
	struct phyp_machine *m;
	struct phyp_part *sp, *gp, *other;
	struct phyp_vcpu *sv, *gv, *ov;
	const struct phyp_unit_info *su, *gu;
	struct vio_adapter *a;
	struct vio_adapter_cfg cfg;
	struct aw_backend b;
	struct vio_disk disk;
	/* The loop. */
	struct vio_squeue *polled[AW_QUEUES];
	uint64_t turn;
	/*
	 * With a second lcore, which then has the queues: aw_second_lcore(). As rte_rcu_qsbr does
	 * it: the lcore repeats the token that it saw at the end of its turn.
	 */
	bool second, second_stop;
	pthread_t thread;
	struct phyp_vcpu *sv2;
	uint64_t token, passed;
	bool lcores_stuck; /* no lcore passes a quiescent state */
	char said[4096];
	/* The guest. */
	uint8_t *gmem;
	struct phyp_crq crq;
	struct vio_link link;
	struct vio_gfsm fsm;
	struct vio_msg last; /* reply or message that came last */
	unsigned messages;   /* that came */
	unsigned used_messages;
	uint16_t window_id[3]; /* of aw_windows() */
	uint64_t cookie[3];
	struct mock ring[AW_QUEUES]; /* their driver */
	enum vio_link_event link_event;
};

/* cmocka: machine and server adapter (all levels, proto 2); the guest is not there yet. */
int aw_setup(void **state);
int aw_teardown(void **state);
/* Another server in place of the first. */
void aw_server(struct aw *w, uint8_t proto, uint8_t ring_levels, uint8_t payload_levels);
void aw_server_gone(struct aw *w);

void aw_turn(struct aw *w);
/* The guest takes a message; false: there is none. */
bool aw_take(struct aw *w);
/* Start a thread that polls the queues from now on; ended by aw_teardown(). */
void aw_second_lcore(struct aw *w);
/* Turns until neither side has anything to do; takes the guest's messages. At most 200 turns. */
void aw_run(struct aw *w);

/* Guest: register the CRQ, say INIT, wait until the link is up. */
void aw_guest(struct aw *w, uint8_t proto);
void aw_guest_gone(struct aw *w); /* its partition dies and is opened anew */
/* Send a message as it is, without asking the guest's own state machine. */
void aw_send_raw(struct aw *w, struct vio_msg m);
/* Send through the state machine, run, and return the status of what came back (0xff: nothing came). */
uint8_t aw_step(struct aw *w, struct vio_msg m);
/* PROBE ... features: what comes before windows and queues. Returns the status of the last step. */
uint8_t aw_probe(struct aw *w);
uint8_t aw_features(struct aw *w, uint64_t features, enum vio_ring_access ring,
		    enum vio_payload payload, enum vio_notification notify);
/* Grant and announce one window. Returns the status; id in w->last.arg16. */
uint8_t aw_window(struct aw *w, uint64_t gla, uint64_t len, uint8_t perm, uint8_t role,
		  uint64_t *cookie);
uint8_t aw_announce(struct aw *w, const struct vio_window_desc *d);
struct vio_window_desc aw_wdesc(const struct aw *w, uint64_t gla, uint64_t len, uint8_t perm,
				uint8_t role, uint64_t cookie);
uint64_t aw_grant(struct aw *w, uint64_t flags, uint64_t gla, uint64_t len);
/* Rings of queue 0 and 1, read-only and writable, and the buffers. */
void aw_windows(struct aw *w);
void aw_queue(struct aw *w, uint16_t q);
/* All of it for one queue, up to RUNNING. */
void aw_bring_up(struct aw *w, enum vio_ring_access ring, enum vio_payload payload,
		 enum vio_notification notify);

struct ioba aw_at(const struct aw *w, uint64_t gla);
/* A 512-byte read of sector 0 into the buffers; kick when the arm is crq. */
void aw_request(struct aw *w, uint16_t q);
/* Used elements that came. */
unsigned aw_used(struct aw *w, uint16_t q);
bool aw_said(const struct aw *w, const char *text);

#endif
