/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NBD backend, inside: nbd.c opens and asks what the server can, nbd_conn.c has connections and
 * their end, nbd_dial.c makes them, nbd_io.c has the data path. One connection a queue; libnbd's own state machine
 * does the protocol.
 *
 * A connection that is lost fails what it had, and is then tried again when the guest next asks for
 * something. With reconnect-delay= what it had waits as well, for so long after the loss, and is sent again where the fence
 * allows. What the guest asks meanwhile waits for that, for a bounded time. Writes that were
 * acknowledged and not yet flushed may be gone with the old server, so the first flush after a loss
 * fails: the guest is told, once. A new connection is not used while the server may still execute
 * what an earlier one asked for (nbd_fence.c, docs/decisions/0011).
 */
#ifndef VIO_SERVER_BACKENDS_NBD_H
#define VIO_SERVER_BACKENDS_NBD_H

#include <libnbd.h>
#include <pthread.h>

#include "server/store/priv.h"
#include "vio/atomics.h"

/* After so long a pause, look at the connection before using it, ns. */
#define VIO_NBD_IDLE_NS (100 * 1000000ull)
/* How long a connection may take, at start and again later; how long to wait before the next try, ns. */
#define VIO_NBD_CONNECT_NS (5 * 1000000000ull)
#define VIO_NBD_BACKOFF_NS (1 * 1000000000ull)
/* ... while requests wait for it, ns; reconnect-delay= at most, s. */
#define VIO_NBD_RETRY_NS  (100 * 1000000ull)
#define VIO_NBD_DELAY_MAX 86400
/* Between two looks whether the server has ended an earlier connection: each is three lists of all sockets, ns. */
#define VIO_NBD_FENCE_NS (20 * 1000000ull)
#define VIO_NBD_URI      1024 /* room for one, with its end */
/* Discard and zero go in pieces: NBD's length has 32 bits. A multiple of every block size. */
#define VIO_NBD_RANGE_MAX (1ull << 30)

/* fence=: what is done about requests of an earlier connection that the server may still execute. */
enum vio_nbd_rule {
	VIO_NBD_RULE_AUTO,   /* wait where their end can be told, else refuse */
	VIO_NBD_RULE_WAIT,   /* the disk is not served before their end */
	VIO_NBD_RULE_REFUSE, /* guests fail what was in flight (struct vio_backend, unfenced) */
	VIO_NBD_RULE_OFF,
};

enum vio_nbd_fence {
	VIO_NBD_FENCE_CLEAR,   /* no connection without a client is left in the server */
	VIO_NBD_FENCE_HELD,    /* one is */
	VIO_NBD_FENCE_UNKNOWN, /* TCP, another network namespace, no sock_diag */
};

struct vio_nbd {
	struct vio_backend be; /* first */
	unsigned fence;        /* enum vio_nbd_rule */
	uint64_t delay;        /* reconnect-delay=, ns */
	char uri[VIO_NBD_URI];
	char id[VIO_ID_LEN];  /* serial=; all 0: none */
	uint64_t told;        /* what the server says that the export is: vio_nbd_told() */
	uint32_t min_block;   /* the server takes multiples of it, bytes */
	uint32_t preferred;   /* what it likes best, bytes; 0: not said */
	uint32_t max_payload; /* of one read or write, bytes */
	bool multi_conn;      /* a flush on one connection covers writes completed on all */
	struct vio_nbd_dialer *dialer;
	/* Under lock; not the data path. */
	pthread_mutex_t lock;
	struct nbd_handle *spare; /* connected, no queue's: the first one, or a closed queue's */
	unsigned n_queues;
	/* Relaxed atomics, written rarely by any queue. */
	uint32_t unflushed;  /* a write was acknowledged since the last flush began */
	uint32_t flush_owed; /* ... and its connection lost: fail one flush */
};

enum vio_nbd_state { VIO_NBD_UP, VIO_NBD_CONNECTING, VIO_NBD_DOWN };

/* A connection that is wanted. Whoever asked for it owns it, but while the dialer has it. */
struct vio_nbd_call {
	struct vio_nbd_call *next; /* the dialer's */
	struct nbd_handle *h;      /* connected; NULL: it came to nothing */
	int rc;
	struct vio_err err; /* rc < 0: why */
	bool done;          /* pair ND: the dialer has done with it */
};

/* A request that is in the server. */
struct vio_nbd_slot {
	struct vio_nbd_queue *q;
	struct vio_io *r; /* NULL: not in use */
	void *buffer;     /* when the iov can't be used as it is, or NULL */
	uint64_t next;    /* discard and zero: bytes of it asked for so far */
	uint32_t pending; /* commands, and one while it is being issued */
	int error;        /* the first, 0 or a positive errno */
};

struct vio_nbd_queue {
	struct vio_backend_queue bq; /* first */
	struct vio_nbd *n;
	struct nbd_handle *h; /* NULL when DOWN, and CONNECTING while the dialer has `call` */
	struct vio_nbd_call *call;
	bool dialing;  /* the dialer has it: also when this queue no longer waits for it */
	uint64_t size; /* of the disk, as this connection knows it, bytes */
	struct nbd_handle
		*old; /* CONNECTING for a larger size: the one that still serves if that fails */
	bool renew;   /* a request needs a larger size than this connection knows */
	uint64_t
		patience; /* lost: until when requests wait, ns; 0: it is up, or they no longer do */
	enum vio_nbd_state state;
	bool said;         /* that it is lost, or not there; until it is back */
	bool said_other;   /* that another disk answers; until this one is back */
	bool fenced_out;   /* CONNECTING: connected, and the fence is held; said */
	uint64_t fence_at; /* then: no look at it before, ns */
	bool suspect;      /* libnbd refused a command: look whether the connection is gone */
	uint64_t busy;     /* when the connection was last looked at, ns */
	uint64_t deadline; /* CONNECTING: wait no longer; DOWN: don't try before; ns */
	unsigned depth, n_free;
	unsigned n_long;           /* discards and zeroes that have another piece to ask for */
	struct vio_nbd_slot *slot; /* depth of them */
	uint16_t *free;
	struct vio_be_list ready;   /* finished */
	struct vio_be_list again;   /* lost with their connection */
	struct vio_be_list waiting; /* for a connection or a buffer */
	struct vio_be_buffers buffers;
};

static inline struct vio_nbd_queue *vio_nbd_queue_of(struct vio_backend_queue *bq)
{
	return vio_container_of(bq, struct vio_nbd_queue, bq);
}

/* Has the connection ended? */
static inline bool vio_nbd_gone(struct nbd_handle *h)
{
	return nbd_aio_is_dead(h) > 0 || nbd_aio_is_closed(h) > 0;
}
/* nbd_dial.c. A handle that is connected to uri within VIO_NBD_CONNECT_NS. Waits. -errno with a sentence. */
int vio_nbd_connect(const char *uri, struct nbd_handle **h, struct vio_err *err);
/* The end of one, without waiting; NULL is none. */
void vio_nbd_hang_up(struct nbd_handle *h);
/* nbd_conn.c. The disk's size in whole blocks, as this connection was told, bytes. */
uint64_t vio_nbd_size(const struct vio_nbd *n, struct nbd_handle *h);
/* A hash of the export's name and description as the server tells them; *described: it has a description. */
uint64_t vio_nbd_told(struct nbd_handle *h, bool *described);
/*
 * Is what answers there the disk that the guest has been told of? It may have grown, where more than its name says that it is
 * the same one: the server's description of it, serial=, or `vouched`: a connection to it stands and was looked at just now. Else
 * *larger says that this was all that is against it.
 */
bool vio_nbd_same_disk(const struct vio_nbd *n, struct nbd_handle *h, bool vouched, bool *larger);
/*
 * nbd_dial.c too. A thread for the disk's connections. -ENOMEM, -EAGAIN with a sentence. The end, when every call is done or
 * dropped; it does not wait for one that is under way. NULL is none.
 */
int vio_nbd_dialer_start(const char *uri, struct vio_nbd_dialer **out, struct vio_err *err);
void vio_nbd_dialer_stop(struct vio_nbd_dialer *d);
/* Have a connection made: c->done tells its end. Takes no time. */
void vio_nbd_dial(struct vio_nbd_dialer *d, struct vio_nbd_call *c);
/* Nobody waits for it, whether it is done or not: it, and what came of it, are freed. It is on the heap. */
void vio_nbd_drop_call(struct vio_nbd_dialer *d, struct vio_nbd_call *c);
/* Drive the queue's connection as far as it goes without waiting; notice that it is up or lost. */
void vio_nbd_drive(struct vio_nbd_queue *q);
/*
 * nbd_fence.c. Is there still a connection in the server of `h` whose client is gone? Three lists of
 * the kernel's sockets: not the data path.
 */
enum vio_nbd_fence vio_nbd_look_fence(struct nbd_handle *h);
/*
 * When the disk is opened: wait as n->fence says, and set be.unfenced. -EOPNOTSUPP, -ECONNRESET with
 * a sentence. The wait has no bound; a signal ends it with the program.
 */
int vio_nbd_fence_start(struct vio_nbd *n, struct nbd_handle *h, struct vio_err *err);
/* DOWN for long enough: have another connection made. */
void vio_nbd_revive(struct vio_nbd_queue *q);
/* nbd_io.c: the handle is closed; every request that it had waits to be sent again, or is finished with EIO. */
void vio_nbd_abandon(struct vio_nbd_queue *q);
/* A connection was lost that may have had writes which were acknowledged and not flushed: the next flush fails. */
void vio_nbd_owe_flush(struct vio_nbd *n);
/* Which of those that wait. */
enum vio_nbd_which {
	VIO_NBD_WAITING, /* all */
	VIO_NBD_UNSURE,  /* that an earlier connection may still execute */
	VIO_NBD_LARGER,  /* that need a larger disk than this connection knows */
};
/* They end with EIO; the others wait on. */
void vio_nbd_give_up(struct vio_nbd_queue *q, enum vio_nbd_which which);
/* May requests wait for the connection? */
static inline bool vio_nbd_patient(const struct vio_nbd_queue *q)
{
	return q->patience != 0;
}
/* The slots of struct vio_backend_ops with these names (backend.h). */
void vio_nbd_stop(struct vio_backend_queue *bq);
unsigned vio_nbd_submit(struct vio_backend_queue *bq, struct vio_io *const r[], unsigned n,
			struct vio_io *done[]);
unsigned vio_nbd_poll(struct vio_backend_queue *bq, struct vio_io *done[], unsigned max);

#endif
