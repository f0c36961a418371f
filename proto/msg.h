/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0 */
/*
 * virtio over CRQ: the messages and the structures that they point to. Bytes on the wire only: no
 * policy, no I/O, no allocation. docs/protocol.md is the specification; section numbers in comments
 * are its.
 *
 * A message is one 16-byte CRQ entry, big-endian:
 *
 *   byte	0	1	2	 3    4	      5	    6..7   8..15
 * 		valid	format	version	 op   status  arg8  arg16  arg
 * 		0x80	0x56
 *
 * Version 1 is the 2010 slides' own layout of the device header and sequence of steps. Version 2 adds 64-bit features,
 * FEATURES_OK, the choice of levels, and windows. The slides draw arrows, not bytes: the numbers below and the replies
 * (op | VIO_OP_REPLY) are this project's.
 */
#ifndef VIO_PROTO_MSG_H
#define VIO_PROTO_MSG_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "vio/papr.h"
#include "vio/types.h"

#define VIO_CRQ_FORMAT                                                                             \
	0x56 /* byte 1; formats 1 to 6 are taken (SRP, MAD, OS/400, AIX, Linux, inline) */
#define VIO_PROTO_V1     1
#define VIO_PROTO_V2     2
#define VIO_PROTO_LATEST VIO_PROTO_V2

#define VIO_OP_REPLY 0x80

enum vio_op {
	/* Configuration, guest to server; the slides' names. Those marked R are answered with op | VIO_OP_REPLY. */
	VIO_OP_PROBE =
		0x01, /* R  arg: IOBA of the device header; arg16: bytes mapped there; version: highest known */
	VIO_OP_ACKNOWLEDGE = 0x02, /* R  arg: IOBA of config space; arg16: its bytes */
	VIO_OP_DRIVER = 0x03,      /*    - */
	VIO_OP_FEATURES_OK = 0x04, /* R  v2: - (guest_features and levels are in the header) */
	VIO_OP_QUEUE =
		0x05, /*    arg8: enum vio_queue_part; arg16: queue; arg: IOBA, or the size (v2) */
	VIO_OP_DRIVER_OK = 0x06, /* R  - */
	VIO_OP_RESET =
		0x07, /* R  -; answered when the server touches nothing of the guest any more */
	/* Windows, v2. */
	VIO_OP_WINDOW_ADD =
		0x10, /* R  guest to server. arg: IOBA of a struct vio_window_desc; the reply's arg16: id */
	VIO_OP_WINDOW_DEL =
		0x11, /* R  guest to server. arg16: id; answered when the server can't touch the pages */
	VIO_OP_WINDOW_LOST = 0x12, /*   server to guest. arg16: id; status: why */
	/* Running. */
	VIO_OP_KICK = 0x20,   /*   guest to server. arg16: queue */
	VIO_OP_USED = 0x21,   /*   server to guest. arg16: queue */
	VIO_OP_CONFIG = 0x22, /*   server to guest: config space changed (and was written again) */
	VIO_OP_NEEDS_RESET =
		0x23, /*   server to guest. status: why; arg16: queue or 0xffff; arg: detail */
	/*
	 * v2, R, guest to server: the driver writes a field of config space. arg16: its offset; arg8: its
	 * bytes, 1 to 8; arg: its value. The values are in the message, so that nothing is read twice.
	 */
	VIO_OP_CONFIG_SET = 0x24,
};

enum vio_queue_part {
	VIO_QUEUE_DESC = 0,
	VIO_QUEUE_AVAIL = 1,
	VIO_QUEUE_USED = 2,
	VIO_QUEUE_SIZE = 3, /* v2: arg is the number of entries, power of two <= vqs_size */
	/*
	 * v2: arg is the index from which both rings go on, where an earlier server left off: what is available
	 * from it on is in flight, and nothing else. Split rings without VIRTIO_F_IN_ORDER only.
	 */
	VIO_QUEUE_BASE = 4,
};

/* Why something was refused or stopped. Sentences: vio_status_text(). */
enum vio_status {
	VIO_ST_OK = 0,
	VIO_ST_BAD_MESSAGE, /* unknown op, bad field, or not allowed in this state */
	VIO_ST_BAD_VERSION, /* a message of another version than the negotiated one */
	VIO_ST_NO_DMA,      /* an RDMA call on an announced address failed */
	VIO_ST_FEATURES, /* guest_features not offered, or a needed one missing, or changed after FEATURES_OK */
	VIO_ST_LEVELS,        /* a level that the server does not offer */
	VIO_ST_QUEUE,         /* queue number, size, alignment or ring address */
	VIO_ST_WINDOW_COOKIE, /* grant not found, not for us, or rescinded */
	VIO_ST_WINDOW_RANGE, /* announced range is larger than the grant, wraps, or overlaps another window */
	VIO_ST_WINDOW_PERM, /* announced permission is not the grant's */
	VIO_ST_WINDOW_FULL, /* no room for another window */
	VIO_ST_WINDOW_ID,   /* no such window */
	VIO_ST_RESCINDED,   /* the grant was taken back by force */
	VIO_ST_SHUTDOWN,    /* the server ends */
	/* NEEDS_RESET: what the guest's driver did wrong on a queue. */
	VIO_ST_AVAIL_IDX,     /* avail index moved by more than the queue size */
	VIO_ST_DESC_HEAD,     /* head out of range or already in flight */
	VIO_ST_DESC_CHAIN,    /* loop, next out of range, too long */
	VIO_ST_DESC_ORDER,    /* device-readable descriptor after a device-writable one */
	VIO_ST_DESC_INDIRECT, /* indirect table malformed, nested or not negotiated */
	VIO_ST_DESC_RANGE,    /* address and length not inside a window, or no TCE */
	VIO_ST_DESC_PERM,     /* window or TCE does not permit this access */
	VIO_ST_REQUEST, /* the device's own request header is malformed (no room for header or status) */
	VIO_ST_STORE, /* the disk or port behind the device could not open a queue; arg: positive errno */
	VIO_ST_NO_ANSWER, /* never on the wire: the guest's own reason for a reset */
	VIO_ST_FROZEN, /* never on the wire: the hypervisor answered that the adapter is frozen, at this end or the other */
	VIO_N_STATUS,
};

/* struct vio_msg: one message in host order. */
struct vio_msg {
	uint8_t version;
	uint8_t op; /* enum vio_op, possibly | VIO_OP_REPLY */
	uint8_t status;
	uint8_t arg8;
	uint16_t arg16;
	uint64_t arg;
};

/*
 * To and from a CRQ entry's two doublewords (numbers, as for h_send_crq()). Decode: -EPROTO when
 * valid byte or format is not ours; it does not judge op, version or state (that is the state
 * machines' work).
 */
void vio_msg_encode(const struct vio_msg *m, uint64_t *hi, uint64_t *lo);
int vio_msg_decode(uint64_t hi, uint64_t lo, struct vio_msg *m);

const char *vio_op_name(uint8_t op); /* "PROBE", "PROBE reply", ...; "?" unknown */
const char *vio_status_text(
	uint8_t status); /* a sentence's middle: "the available index moved by more than ..." */

/*
 * Device header, version 1: the slides' fields in the slides' order, without padding, big-endian.
 * vqs_size is 8 bits there and queues have up to 32,768 entries, so it is the binary logarithm
 * [assumption]. config[] follows in the slides; the guest announces config space with ACKNOWLEDGE,
 * after config_len has told it how much.
 */
struct vio_dev_header_v1 {
	uint8_t type; /* virtio device id */
	uint8_t num_vqs;
	uint8_t vqs_size; /* log2 of the entries */
	struct be32 device_features;
	struct be32 guest_features;
	uint8_t config_len;
	uint8_t device_status; /* VIRTIO_CONFIG_S_* as the guest sees it; written by the guest, never read by the server */
} __attribute__((packed));
static_assert(sizeof(struct vio_dev_header_v1) == 13, "the slides' header is 13 bytes");

/* Device header, version 2. Server writes (s), guest writes (g). */
struct vio_dev_header_v2 {
	uint8_t type;                /* (s) virtio device id */
	uint8_t device_status;       /* (g) as in version 1 */
	struct be16 num_vqs;         /* (s) */
	struct be16 vqs_size;        /* (s) largest size; power of two */
	struct be16 config_len;      /* (s) */
	struct be64 device_features; /* (s) */
	struct be64 guest_features;  /* (g) */
	/* Levels the server offers, one bit each (1 << enum vio_ring_access ...): (s) */
	uint8_t ring_levels;
	uint8_t payload_levels;
	uint8_t notify_levels;
	uint8_t pad0;
	/* Levels the guest chose: (g) */
	uint8_t ring;
	uint8_t payload;
	uint8_t notify;
	uint8_t pad1;
};
static_assert(sizeof(struct vio_dev_header_v2) == 32, "no padding");

/*
 * Version 2, behind the header, when the guest has mapped room for it (PROBE's arg16): (s). A server
 * that does not write it leaves the guest's zeros, which mean "not known" and "fenced".
 */
struct vio_dev_header_tail {
	uint8_t identity
		[20];  /* which disk or card it is, for a guest that reconnects; 0: not known */
	uint8_t flags; /* VIO_HEADER_* */
	uint8_t pad[11];
};
#define VIO_HEADER_UNFENCED 1u /* what an earlier server had in flight may still be executed */
#define VIO_HEADER_BY_NAME  2u /* identity is a name's, under which there may be another disk */
static_assert(sizeof(struct vio_dev_header_v2) + sizeof(struct vio_dev_header_tail) == 64,
	      "fits VIO_DEV_HEADER_BYTES");

/* The bytes that the guest maps for the header, enough for both versions. */
#define VIO_DEV_HEADER_BYTES 64
#define VIO_MAX_CONFIG       256
#define VIO_MAX_QUEUES       64
#define VIO_MAX_QUEUE_SIZE   32768
#define VIO_MAX_WINDOWS      1024 /* of one adapter */

enum vio_window_role {
	VIO_WINDOW_RINGS = 1,
	VIO_WINDOW_BUFFERS = 2,
};

/* What WINDOW_ADD points to: read by the server with one H_READ_RDMA. */
struct vio_window_desc {
	struct be32 liobn;
	uint8_t perm; /* TCE_READ | TCE_WRITE, the device's view */
	uint8_t role; /* enum vio_window_role */
	struct be16 pad;
	struct be64 ioba;
	struct be64 len;
	struct be64 cookie; /* of H_GRANT_LOGICAL; covers exactly the pages of [ioba, ioba+len) */
};
static_assert(sizeof(struct vio_window_desc) == 32, "fits H_READ_RDMA");

/*
 * Print one message as a line of a sequence diagram, e.g.
 *   "guest  -> server  PROBE		v2 header=0x80000000 bytes=64"
 * to_server: direction. `buf` always terminated.
 */
void vio_msg_trace(char *buf, size_t len, const struct vio_msg *m, bool to_server);
/* The same for entries that are not ours: init, transport events, unknown. */
void vio_crq_trace(char *buf, size_t len, uint64_t hi, uint64_t lo, bool to_server);

#endif
