/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The load that an experiment puts on a network card, and what it saw: testpmd's forwarding modes.
 * Knows the network front end only: nothing here depends on the arm. One thread serves all pairs in
 * turn.
 */
#ifndef VIO_GUEST_PROG_NET_LOAD_H
#define VIO_GUEST_PROG_NET_LOAD_H

#include "duet/score.h"
#include "guest/prog/hist.h"
#include "guest/prog/net/net_frame.h"

#define VIO_NL_MAX_SIZES 16u
#define VIO_NL_MAX_BURST 256u

enum vio_nl_mode {
	VIO_NL_TXONLY,  /* send; what arrives is dropped */
	VIO_NL_RXONLY,  /* receive and check */
	VIO_NL_IO,      /* send what arrives as it is */
	VIO_NL_MAC,     /* ... from this card's address to --peer, or to where it came from */
	VIO_NL_FLOWGEN, /* send several flows, and receive and check */
};

struct vio_nl_cfg {
	enum vio_nl_mode mode;
	uint32_t size[VIO_NL_MAX_SIZES]; /* bytes of frames, used in turn */
	unsigned n_sizes;
	unsigned burst;    /* frames a publish, and a look at the receive queue */
	double rate;       /* open loop: frames a second, all pairs; 0: as fast as it goes */
	uint64_t count;    /* stop after so many frames (sent; rxonly: received); 0: by time */
	uint64_t run_ns;   /* ... or after so long */
	uint64_t warm_ns;  /* before measuring */
	uint64_t drain_ns; /* after sending: wait for what is on its way back (flowgen) */
	bool peer_given;
	struct vio_nf_cfg frame; /* src is this card's; payload: --touch all */
};

struct vio_nl_result {
	uint64_t elapsed_ns;
	uint64_t tx_frames, tx_bytes, rx_frames, rx_bytes;
	uint64_t tx_before; /* frames sent in the warm-up */
	uint64_t tx_full;   /* bursts that the queue did not take in whole */
	uint64_t own,
		foreign; /* received: frames of this program's, others (not checked, not forwarded wrongly) */
	uint64_t missing;                    /* numbers of a stream that never came, or came late */
	uint64_t disordered;                 /* came late or twice */
	uint64_t bytes_verified, mismatches; /* bytes that differ, and wrong lengths */
	char first_mismatch[160];
	uint64_t publishes; /* calls that sent something */
	uint64_t late;      /* open loop: frames that could not start when they should have */
	struct vio_net_stats front; /* difference over the measurement, all pairs */
	/* From the intended start (open loop) or the making of the frame, to when it was seen here. */
	struct vio_hist latency;
};

struct vio_nl;
/* -EINVAL with a sentence when the configuration does not fit the card. */
int vio_nl_create(struct vio_net *n, struct phyp_part *part, const struct vio_nl_cfg *cfg,
		  struct vio_nl **out, struct vio_err *err);
/*
 * Run once: warm up, call mark(ctx, false), measure, mark(ctx, true), drain. *stop ends it early (a
 * signal). -EIO when the machine is gone.
 */
int vio_nl_run(struct vio_nl *l, void (*mark)(void *ctx, bool end), void *ctx,
	       const volatile int *stop, struct vio_nl_result *res);
/*
 * The same in turns: `d` says when to load the card and when to let others; a request is a frame that went in the direction of
 * the load (what is sent, what is received, or both when what is sent is not all that comes). The score has the times; cfg's are
 * not used. Frames on their way to the server at the end of a turn are waited for.
 */
int vio_nl_duet(struct vio_nl *l, struct vio_duet *d, void (*mark)(void *ctx, bool end), void *ctx,
		const volatile int *stop, struct vio_nl_result *res);
void vio_nl_free(struct vio_nl *l);
/* "txonly" ...; "?" out of range. */
/* All of them, and NULL. */
extern const char *const vio_nl_modes[];
const char *vio_nl_mode_name(enum vio_nl_mode m);

#endif
