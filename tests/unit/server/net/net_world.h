/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An in-process machine whose server has a switch and a network adapter for each of three guests.
 * The guests are driven by hand, message by message and descriptor by descriptor, so that they can
 * also do what a correct driver never does.
 */
#ifndef VIO_TEST_SERVER_NET_WORLD_H
#define VIO_TEST_SERVER_NET_WORLD_H

#include <linux/virtio_config.h>

#include "server/head/adapter.h"
#include "server/dev/net/net_priv.h"
#include "vq/mock.h"

#define NW_GUESTS 3u
#define NW_QUEUES 5u /* two pairs and the control queue */
#define NW_SIZE   256u

/* The guest's memory, by guest-logical address. */
#define NW_RINGS                                                                                   \
	0x10000ull /* queue q: + q * 0x10000; available ring + 0x1000, used ring + 0x2000 */
#define NW_RX       0x100000ull /* buffer i of pair p: + p * 0x100000 + i * 0x1000 */
#define NW_TX       0x400000ull /* frame i: + i * NW_TX_ROOM */
#define NW_CTRL     0x900000ull
#define NW_END      0xa00000ull /* mapped and granted up to here */
#define NW_TX_ROOM  0x12000ull
#define NW_TX_SLOTS 64u

#define NW_F(name) (1ull << VIRTIO_NET_F_##name)
#define NW_PLAIN   (NW_F(MAC) | NW_F(MTU) | NW_F(STATUS))
#define NW_ALL                                                                                     \
	(NW_PLAIN | NW_F(MRG_RXBUF) | NW_F(CSUM) | NW_F(GUEST_CSUM) | NW_F(HOST_TSO4) |            \
	 NW_F(HOST_TSO6) | NW_F(GUEST_TSO4) | NW_F(GUEST_TSO6) | NW_F(CTRL_VQ) | NW_F(CTRL_RX) |   \
	 NW_F(CTRL_MAC_ADDR))

struct nw_arm {
	const char *name;
	enum vio_ring_access ring;
	enum vio_payload payload;
	enum vio_notification notify;
};
extern const struct nw_arm nw_arms[];
extern const unsigned nw_n_arms;
#define NW_ZERO_COPY (&nw_arms[3])
#define NW_COPY      (&nw_arms[0])

/* What devices have of the program: a Toeplitz hash (net_env.c). */
extern const struct vio_dev_env nw_env;

struct nw_guest {
	unsigned index;
	struct phyp_part *part;
	struct phyp_vcpu *vcpu;
	const struct phyp_unit_info *u;
	uint8_t *mem;
	struct phyp_crq crq;
	struct vio_msg last;
	unsigned messages, needs_resets, used_messages;
	uint64_t features;
	const struct nw_arm *arm;
	struct mock ring[NW_QUEUES]; /* their driver */
	uint32_t buf_len;            /* of receive buffers */
	unsigned tx_next;            /* slot */
	uint16_t window[2];          /* ids: rings, buffers */
	/* Server's side. */
	struct vio_net *net;
	struct vio_adapter *a;
	struct vio_squeue *polled[NW_QUEUES];
};

struct nw {
	struct phyp_machine *m;
	struct phyp_part *sp;
	struct phyp_vcpu *sv;
	struct vio_switch *sw;
	uint64_t now; /* ns: the switch's clock */
	uint64_t turn;
	char said[8192];
	struct nw_guest g[NW_GUESTS];
};

/* cmocka. *state: machine and server, specs "" for each guest; or those of nw_setup_with(). */
int nw_setup(void **state);
int nw_setup_with(void **state, const char *const spec[NW_GUESTS]);
/* Also checks that no chain is lost: see nw_check_leaks(). */
int nw_teardown(void **state);
/*
 * Every transmitted chain was returned, every posted buffer is with the guest, in the ring, or
 * noted by the server.
 */
void nw_check_leaks(struct nw *w);

/* Turns until nothing moves. */
void nw_run(struct nw *w);
/* The configuration space, as the server wrote it last. */
const struct virtio_net_config *nw_config(const struct nw_guest *g);
/* From PROBE to RUNNING with these features and all queues that they have. Receive buffers are not posted. */
void nw_up(struct nw *w, struct nw_guest *g, const struct nw_arm *arm, uint64_t features);
/* The first steps of it: 0xff or the status that came back. */
uint8_t nw_step(struct nw *w, struct nw_guest *g, struct vio_msg m);
uint8_t nw_features(struct nw *w, struct nw_guest *g, const struct nw_arm *arm, uint64_t features);
uint8_t nw_window(struct nw *w, struct nw_guest *g, uint64_t gla, uint64_t len, uint8_t role,
		  uint16_t *id);
void nw_queue(struct nw *w, struct nw_guest *g, uint16_t q);
void nw_crq(struct nw *w, struct nw_guest *g);
/* The guest's partition dies, and another takes its place, as far as the CRQ. */
void nw_reopen(struct nw *w, struct nw_guest *g);

struct ioba nw_at(const struct nw_guest *g, uint64_t gla);
void nw_desc(struct nw_guest *g, uint16_t q, unsigned i, uint64_t gla, uint32_t len, unsigned flags,
	     unsigned next);
/* Make head available, publish, kick under crq. */
void nw_publish(struct nw_guest *g, uint16_t q, uint16_t head);
/* Next used element of queue q. */
bool nw_used(struct nw_guest *g, uint16_t q, uint32_t *id, uint32_t *len);

/* Post n receive buffers of `len` bytes (<= 4096) on pair p, one descriptor each. */
void nw_post(struct nw_guest *g, unsigned p, unsigned n, uint32_t len);
/*
 * Send `len` bytes with this header (NULL: zeros) on pair p; two descriptors, split after `cut`
 * bytes (0: one).
 */
void nw_send_cut(struct nw_guest *g, unsigned p, const struct virtio_net_hdr_v1 *h,
		 const void *frame, uint32_t len, uint32_t cut);
void nw_send(struct nw_guest *g, const void *frame, uint32_t len);
/* Next received frame of pair p into buf (room for 70,000 bytes); its length, -1: none. */
int nw_recv(struct nw_guest *g, unsigned p, void *buf, struct virtio_net_hdr_v1 *h);

/* "from" and "to": 0x02, 0, 0, 0, 0, number; pattern in the payload that depends on seed. */
void nw_frame(uint8_t *buf, uint32_t len, unsigned to, unsigned from, unsigned seed);
uint64_t nw_drops(const struct nw_guest *g, enum vio_drop why);
/* Sum of cpu_bytes of all queues of the guest's adapter. */
uint64_t nw_cpu_bytes(const struct nw_guest *g);
bool nw_said(const struct nw *w, const char *text);

/* A table of addresses without DPDK. */
#define NW_FDB_ROOM 800u
struct vio_fdb *nw_fdb(void);

#endif
