/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices: a *kind* (struct vio_dev_kind: a row of vio_dev_kinds[], dev/kinds.c) makes *devices* (struct vio_device,
 * one behind each adapter), and their *queues* do what a table for each sort of queue says (struct vio_dev_ops).
 * Program, options, adapters and telemetry go through these tables and know no kind: a new one is its own files and
 * one row.
 */
#ifndef VIO_SERVER_DEVICE_H
#define VIO_SERVER_DEVICE_H

#include "common/options.h"
#include "server/store/backend.h"
#include "server/core/req.h"

struct vio_dev_kind;
struct vio_port;

/* A device. Embedded in each kind's own struct; filled in by open. */
struct vio_device {
	const struct vio_dev_kind *kind;
	/* Which disk or card it is: another one of the same shape has another. Zero: not known. */
	uint8_t identity[20];
	/* What an earlier server had in flight may still be executed: guests must not send it again. */
	bool unfenced;
	bool by_name; /* identity is a name's, under which there may be another */
	/* Its queues are told of windows of buffers; and may be with others in flight (window_busy). */
	bool told_windows, live_windows;
	char what[160]; /* for messages and reports: "file /tmp/x.img, O_DIRECT" */
};

/* The device's part of one queue: embedded in each kind's own struct. */
struct vio_dev_queue {
	struct vio_device *dev;
};

/* What a device may have of the program. Valid as long as its devices are; functions may be NULL. */
struct vio_dev_env {
	/* As struct vio_backend_env has them. */
	int (*server_memory)(void *ctx, uint64_t len, void **mem, struct gla *at,
			     struct vio_err *err);
	/* A line for the person, without the newline. Any thread; does not wait. */
	void (*say)(void *ctx, const char *line);
	/*
	 * Tell uplinks of guest memory that frames may leave from in place, before any does; and that it goes, when
	 * none is under way. -errno only means that it leaves as copies.
	 */
	int (*mem_add)(void *ctx, void *va, uint64_t len);
	void (*mem_del)(void *ctx, void *va, uint64_t len);
	/*
	 * The Toeplitz hash of `words` words in the processor's order, the first one most significant, with a key of
	 * 40 bytes as it stands in memory. NULL: there is none, and no RSS. Data path.
	 */
	uint32_t (*toeplitz)(const uint32_t *word, unsigned words, const uint32_t *key);
	/* The config space of the adapter with this `number` is not what it was. */
	void (*config_changed)(void *ctx, unsigned number);
	void *ctx, *say_ctx;
	unsigned number;    /* of the device in this server */
	unsigned n_uplinks; /* of the switch */
	struct vio_device *const
		*others; /* those that are open already, n_others entries that may be NULL */
	unsigned n_others;
};

/* Where a device shows its numbers (telemetry). */
struct vio_show {
	void (*num)(struct vio_show *s, const char *name, uint64_t v);
	void (*text)(struct vio_show *s, const char *name, const char *v);
};

/* One sort of queue. All on the queue's owning lcore; data path. */
struct vio_dev_ops {
	const char *name;
	/* Its queues touch each other, across adapters too: one lcore has all queues of such devices. */
	bool one_lcore;
	uint32_t
		hdr_len; /* bytes of the request header for payload->fetch; 0: the device reads it itself */
	bool has_status; /* requests end in a status byte (r->status_at) */
	bool long_chains; /* wants those of VIO_SEGS_MORE segments too; without this or a status they stop the queue */
	/*
	 * Parse and check the headers of `n` fetched requests and begin with them. Those
	 * finished at once are put into done[] (room for n), in any order; returns their number.
	 * The rest come from complete().
	 */
	unsigned (*submit)(struct vio_squeue *q, struct vio_req *const r[], unsigned n,
			   struct vio_req *done[]);
	/*
	 * Optional: chains of one descriptor with exactly these flags, of plain_min to plain_max
	 * bytes, come as struct vio_plain, before those of the same turn that come to submit, unless
	 * requests wait for bounce room. Those finished at once are moved to the front of v[]
	 * (used length 0); their number. The others come from complete(), as q->req[head].
	 */
	unsigned (*plain)(struct vio_squeue *q, struct vio_plain v[], unsigned n);
	uint16_t plain_flags;
	uint32_t plain_min, plain_max;
	/*
	 * Of queues marked `pull` that the device serves itself, in each turn of theirs; submit, plain and complete are
	 * not called then. wants: has it use for chains now? turn: take and give them (vio_squeue_take(),
	 * vio_squeue_give()); what it moved, 0 = no chains were there.
	 */
	bool (*wants)(const struct vio_squeue *q);
	unsigned (*turn)(struct vio_squeue *q);
	/* Collect finished requests: at most `max` into done[]. */
	unsigned (*complete)(struct vio_squeue *q, struct vio_req *done[], unsigned max);
};

/* All uplinks together: any is up; the fastest of those, Mb/s, 0: not known. */
struct vio_dev_uplinks {
	bool up;
	uint32_t speed;
};

struct vio_dev_kind {
	struct vio_option row; /* --NAME SPEC makes one; set is vio_dev_option */
	const char *noun;      /* for messages: "disk" */
	bool repeats;          /* the last one stands for all adapters that are left, too */
	uint8_t type;          /* virtio device id (linux/virtio_ids.h) */
	uint8_t min_proto;     /* oldest protocol version that can carry it */
	const struct vio_dev_ops *queue; /* of its queues, unless queue_ready changes it */

	/* ---- life; the program's thread, before lcores run and after ---- */

	/* spec: the option's value. -errno with a sentence (-EINVAL: it is wrong). */
	int (*open)(const char *spec, const struct vio_dev_env *env, struct vio_device **out,
		    struct vio_err *err);
	/* Its queues are closed and nobody else looks at it. */
	void (*close)(struct vio_device *dev);
	/* Queues to offer; `most`: what --queues says, for those that have as many as one likes. */
	uint16_t (*queues)(const struct vio_device *dev, uint16_t most);
	/* Its port of the switch; NULL op: it has none. */
	struct vio_port *(*port)(struct vio_device *dev);
	/*
	 * Of those with a port. The uplinks are so, and announce: the guest is to say where it is. True: it
	 * should be told of a change of config space. The switch's lcore.
	 */
	bool (*follow)(struct vio_device *dev, struct vio_dev_uplinks is, bool announce);
	/*
	 * Optional; a person asks, and *said is the answer. resize: look whether it has grown; true: it has, and
	 * the guest is to be told. resume: go on after a stop at an error; true: its queues are to be woken.
	 * Telemetry's thread.
	 */
	bool (*resize)(struct vio_device *dev, const char **said);
	bool (*resume)(struct vio_device *dev, const char **said);
	/* Its numbers. Telemetry's thread: relaxed loads. */
	void (*show)(const struct vio_device *dev, struct vio_show *s);

	/* ---- configuration; adapter's lcore ---- */

	/* Device feature bits (transport bits are the adapter's). */
	uint64_t (*features)(const struct vio_device *dev);
	/* Fill config space (size VIO_MAX_CONFIG), little-endian; returns its bytes. */
	uint16_t (*config)(const struct vio_device *dev, uint16_t num_queues, uint8_t *config);
	/* From here on optional, but for queue_open and queue_close. Can these features be had together? */
	bool (*features_ok)(const struct vio_device *dev, uint64_t features);
	/*
	 * PROBE (all that is offered) and FEATURES_OK (what was agreed): config space is to be what
	 * these features make of it (5.2.5.2). No queue is polled.
	 */
	void (*negotiated)(struct vio_device *dev, uint64_t features);
	/*
	 * The driver writes `len` (1 to 8) bytes at `off` of config space. False: that is no field
	 * it may write with these features, or no value of it. Queues may be polled.
	 */
	bool (*config_set)(struct vio_device *dev, uint64_t features, uint16_t off, uint8_t len,
			   uint64_t value);
	uint64_t config_set_features; /* those that mean nothing where a driver can't write */
	/*
	 * DRIVER_OK: the device begins anew with these features and this mask of queues. An enum
	 * vio_status. No queue is polled.
	 */
	uint8_t (*start)(struct vio_device *dev, uint64_t features, uint64_t queues);

	/* ---- queues; adapter's lcore ---- */

	/* Room for `depth` requests at once: becomes q->dq. -errno with a sentence. */
	int (*queue_open)(struct vio_device *dev, unsigned depth, struct vio_dev_queue **out,
			  struct vio_err *err);
	void (*queue_close)(struct vio_dev_queue *dq); /* nothing in flight, nobody polls it */
	/* The queue's levels are attached; it is not polled yet. May change q->dev. */
	void (*queue_ready)(struct vio_squeue *q);
	/*
	 * It has been given to its lcore; it is being taken away, and its lcore may work on it
	 * until its next quiescent state. What others look at is changed with one atomic store.
	 */
	void (*queue_on)(struct vio_squeue *q);
	void (*queue_off)(struct vio_squeue *q);
	/* As of struct vio_backend_ops; called as dev->told_windows and live_windows say. */
	void (*window_add)(struct vio_dev_queue *dq, void *va, uint64_t len, bool writable);
	void (*window_del)(struct vio_dev_queue *dq, void *va, uint64_t len);
	bool (*window_busy)(struct vio_dev_queue *dq, const void *va, uint64_t len);
};

/* Devices that were asked for. */
struct vio_dev_list {
	unsigned n;
	struct {
		const struct vio_dev_kind *kind;
		const char *spec; /* the option's value */
	} d[PHYP_MAX_UNITS];
};
/* struct vio_option's set, of a kind's row: `to` is a struct vio_dev_list. -EINVAL: too many. */
int vio_dev_option(const struct vio_option *row, void *to, const char *text, struct vio_err *err);

extern const struct vio_dev_kind vio_kind_disk, vio_kind_net, vio_kind_rng, vio_kind_console,
	vio_kind_9p;
/* The rows, NULL past the last. */
extern const struct vio_dev_kind *const vio_dev_kinds[];

#endif
