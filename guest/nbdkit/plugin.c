/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbdkit plugin "vio": a guest partition whose virtual disk any NBD client can use.
 *
 * 	nbdkit client thread		  reactor thread (one a queue)		VIO server
 * 	copies data into a guest buffer -> submits, polls, sleeps	  <->	...
 * 	waits for its request	       <- marks it done
 *
 * A queue of the front end belongs to one thread, and nbdkit has many: each queue therefore has a
 * reactor that owns it. Requests go to it through a list under a mutex; none of this is the
 * measured data path (vio-blk is).
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "guest/blk.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define MAX_LEN (1u << 20) /* one virtio request's data; longer NBD requests are cut */
#define DEPTH   16         /* requests in flight a queue; nbdkit has 16 threads by default */
#define IDLE_NS 200000ull  /* level poll: spin this long after the last request, then sleep */
#define WAIT_NS 100000000ull

/* One request on its way: on the client thread's stack. */
struct io {
	struct vio_blk_req req; /* first: what comes back from poll is the io */
	bool done;
	pthread_cond_t cond;
	struct io *next;
};

struct reactor {
	pthread_t thread;
	pthread_mutex_t lock; /* everything below */
	pthread_cond_t buffer_free;
	struct io *head, **tail; /* to be submitted */
	struct gla buffer[DEPTH];
	unsigned n_buffers;
	bool stop, dead;
	unsigned index;
	struct vdisk *d;
};

struct vdisk {
	struct phyp_part *part;
	struct vio_mem mem;
	struct vio_blk *blk;
	struct reactor *reactor;
	unsigned n_reactors;
	unsigned next; /* round robin over queues */
	struct phyp_filter *trace;
};

/*
 * nbdkit gives a plugin no context pointer before open: its configuration is this program's one
 * global state.
 */
static struct {
	const char *socket, *partition;
	struct vio_arm arm;
	unsigned unit, queues;
	uint8_t proto;
	bool trace;
	struct vdisk disk;
} cfg = {.socket = "/tmp/vio-phyp.sock",
	 .partition = "guest0",
	 .queues = 1,
	 .proto = VIO_PROTO_LATEST};

static void plugin_load(void)
{
	vio_arm_parse("zero-copy", &cfg.arm, NULL);
}

static int plugin_config(const char *key, const char *value)
{
	struct vio_err err;
	int i;

	if (!strcmp(key, "phyp")) {
		cfg.socket = nbdkit_absolute_path(value);
		return cfg.socket ? 0 : -1;
	}
	if (!strcmp(key, "partition")) {
		cfg.partition = value;
		return 0;
	}
	if (!strcmp(key, "unit"))
		return nbdkit_parse_unsigned("unit", value, &cfg.unit);
	if (!strcmp(key, "queues"))
		return nbdkit_parse_unsigned("queues", value, &cfg.queues);
	if (!strcmp(key, "proto"))
		return nbdkit_parse_uint8_t("proto", value, &cfg.proto);
	if (!strcmp(key, "arm")) {
		if (vio_arm_parse(value, &cfg.arm, &err) == 0)
			return 0;
		nbdkit_error("%s", err.msg);
		return -1;
	}
	if (!strcmp(key, "trace")) {
		i = nbdkit_parse_bool(value);
		cfg.trace = i == 1;
		return i < 0 ? -1 : 0;
	}
	nbdkit_error(
		"unknown parameter %s; known: phyp, partition, unit, arm, queues, proto, trace",
		key);
	return -1;
}

static int plugin_config_complete(void)
{
	if (cfg.queues < 1 || cfg.queues > VIO_MAX_QUEUES || cfg.proto < 1 ||
	    cfg.proto > VIO_PROTO_LATEST) {
		nbdkit_error("queues must be 1 to %d, proto 1 or 2", VIO_MAX_QUEUES);
		return -1;
	}
	return 0;
}

#define plugin_config_help                                                                         \
	"phyp=<SOCKET>      phypd's control socket (/tmp/vio-phyp.sock)\n"                         \
	"partition=<NAME>   which guest partition to be (guest0)\n"                                \
	"unit=<N>           which of its virtual adapters (0)\n"                                   \
	"arm=<ARM>          copy, copy-tuned, premapped, zero-copy or factors (zero-copy)\n"       \
	"queues=<N>         queues, each with a thread (1)\n"                                      \
	"proto=<1|2>        highest protocol version (2)\n"                                        \
	"trace=<BOOL>       print each message to standard error"

/* ------------------------------------------------------------------------ reactor ---- */

/* Take the list of new requests; sets *stop when asked to end and nothing is left. */
static struct io *take_list(struct reactor *r, bool *stop)
{
	struct io *list;

	pthread_mutex_lock(&r->lock);
	list = r->head;
	r->head = NULL;
	r->tail = &r->head;
	*stop = r->stop;
	pthread_mutex_unlock(&r->lock);
	return list;
}

static void complete(struct reactor *r, struct vio_blk_req *const done[], int n)
{
	pthread_mutex_lock(&r->lock);
	for (int i = 0; i < n; i++) {
		struct io *io = (struct io *)done[i];

		io->done = true;
		pthread_cond_signal(&io->cond);
	}
	pthread_mutex_unlock(&r->lock);
}

/* The machine is gone: nobody may wait for ever. */
static void fail_all(struct reactor *r, struct io *list)
{
	pthread_mutex_lock(&r->lock);
	r->dead = true;
	*r->tail = list;
	for (struct io *io = r->head, *next; io; io = next) {
		next = io->next;
		io->req.result = -EIO;
		io->done = true;
		pthread_cond_signal(&io->cond);
	}
	r->head = NULL;
	r->tail = &r->head;
	pthread_mutex_unlock(&r->lock);
}

static void *reactor_main(void *arg)
{
	struct reactor *r = arg;
	struct vio_blk *b = r->d->blk;
	struct io *list = NULL;
	bool stop = false;

	while (!stop || list || vio_blk_outstanding(b, r->index)) {
		struct vio_blk_req *done[DEPTH], *one;
		int n;

		if (!list)
			list = take_list(r, &stop);
		while (list && (one = &list->req, vio_blk_submit(b, r->index, &one, 1) == 1))
			list = list->next;
		n = vio_blk_poll(b, r->index, done, DEPTH);
		if (n > 0)
			complete(r, done, n);
		if (n < 0) {
			fail_all(r, list);
			list = NULL;
			if (stop)
				break;
		}
		if (n <= 0)
			vio_blk_idle(b, r->index, WAIT_NS);
	}
	return NULL;
}

/* ------------------------------------------------------------------- start and end ---- */

static void say(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "nbdkit-vio: %s\n", line);
}

static int start_reactor(struct vdisk *d, unsigned i, struct vio_err *err)
{
	struct reactor *r = &d->reactor[i];

	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->buffer_free, NULL);
	r->tail = &r->head;
	r->index = i;
	r->d = d;
	for (; r->n_buffers < DEPTH; r->n_buffers++) {
		int rc = vio_blk_alloc(d->blk, MAX_LEN, &r->buffer[r->n_buffers], err);

		if (rc)
			return rc;
	}
	if (pthread_create(&r->thread, NULL, reactor_main, r))
		return vio_err_set(err, -EAGAIN, "can't start a thread for queue %u", i);
	d->n_reactors++;
	return 0;
}

static int start_disk(struct vdisk *d, struct vio_err *err)
{
	struct vio_blk_cfg b = {
		.transport = {.unit = cfg.unit,
			      .arm = cfg.arm,
			      .strict_arm = cfg.proto != VIO_PROTO_V1,
			      .proto = cfg.proto,
			      .num_queues = (uint16_t)cfg.queues,
			      .queue_size = 256,
			      .timeout_ms = 5000,
			      .say = say,
			      .trace = cfg.trace ? stderr : NULL},
		.max_len = MAX_LEN,
		.depth = DEPTH,
		.buffers_len = (uint64_t)MAX_LEN * DEPTH * cfg.queues,
		.spin_ns = 50000,
		.idle_ns = IDLE_NS,
		.give_way = vio_blk_one_core(),
	};
	unsigned n;
	int rc = phyp_connect(cfg.socket, cfg.partition, &d->part, err);

	if (rc)
		return rc;
	if (cfg.trace && (d->trace = phyp_trace_create(stderr, cfg.partition)))
		phyp_filter_push(d->part, d->trace);
	vio_mem_init(&d->mem, d->part);
	rc = vio_blk_open(d->part, &d->mem, &b, &d->blk, err);
	if (rc)
		return rc;
	n = vio_blk_get_info(d->blk)->num_queues;
	d->reactor = calloc(n, sizeof(*d->reactor));
	if (!d->reactor)
		return vio_err_set(err, -ENOMEM, "no memory for %u queues", n);
	for (unsigned i = 0; rc == 0 && i < n; i++)
		rc = start_reactor(d, i, err);
	return rc;
}

static void stop_disk(struct vdisk *d)
{
	for (unsigned i = 0; i < d->n_reactors; i++) {
		struct reactor *r = &d->reactor[i];

		pthread_mutex_lock(&r->lock);
		r->stop = true;
		pthread_mutex_unlock(&r->lock);
		vio_blk_prod(d->blk, i);
		pthread_join(r->thread, NULL);
	}
	if (d->blk)
		vio_blk_close(d->blk);
	if (d->part)
		phyp_close(d->part);
	phyp_trace_free(d->trace);
	free(d->reactor);
	memset(d, 0, sizeof(*d));
}

/* After nbdkit went to the background: threads and the connection to phypd don't survive a fork. */
static int plugin_after_fork(void)
{
	struct vio_err err = {{0}};

	if (start_disk(&cfg.disk, &err) == 0)
		return 0;
	nbdkit_error("%s", err.msg);
	stop_disk(&cfg.disk);
	return -1;
}

static void plugin_cleanup(void)
{
	stop_disk(&cfg.disk);
}

/* ------------------------------------------------------------------------ requests ---- */

static void *plugin_open(int readonly)
{
	(void)readonly;
	return &cfg.disk;
}

static struct reactor *pick_reactor(struct vdisk *d)
{
	return &d->reactor[__atomic_fetch_add(&d->next, 1, __ATOMIC_RELAXED) % d->n_reactors];
}

/* A guest buffer; waits until one is free. */
static struct gla get_buffer(struct reactor *r)
{
	struct gla b;

	pthread_mutex_lock(&r->lock);
	while (r->n_buffers == 0)
		pthread_cond_wait(&r->buffer_free, &r->lock);
	b = r->buffer[--r->n_buffers];
	pthread_mutex_unlock(&r->lock);
	return b;
}

static void put_buffer(struct reactor *r, struct gla b)
{
	pthread_mutex_lock(&r->lock);
	r->buffer[r->n_buffers++] = b;
	pthread_cond_signal(&r->buffer_free);
	pthread_mutex_unlock(&r->lock);
}

/* Hand the request to the queue's reactor and wait. The result as nbdkit wants it: 0, or -1 and errno. */
static int submit_and_wait(struct reactor *r, struct io *io)
{
	pthread_cond_init(&io->cond, NULL);
	pthread_mutex_lock(&r->lock);
	if (r->dead) {
		io->req.result = -EIO;
	} else {
		io->done = false;
		io->next = NULL;
		*r->tail = io;
		r->tail = &io->next;
		pthread_mutex_unlock(&r->lock);
		vio_blk_prod(r->d->blk, r->index);
		pthread_mutex_lock(&r->lock);
		while (!io->done)
			pthread_cond_wait(&io->cond, &r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	pthread_cond_destroy(&io->cond);
	if (io->req.result == 0)
		return 0;
	nbdkit_set_error(-io->req.result);
	nbdkit_error("virtual disk: request type %u at sector %llu failed: %s", io->req.type,
		     (unsigned long long)io->req.sector, strerror(-io->req.result));
	return -1;
}

static int transfer(struct vdisk *d, uint32_t type, void *in, const void *out, uint32_t count,
		    uint64_t offset)
{
	struct reactor *r = pick_reactor(d);
	struct gla buf = get_buffer(r);
	void *va = phyp_mem(d->part, buf, MAX_LEN);
	int rc = 0;

	for (uint32_t pos = 0, n; rc == 0 && pos < count; pos += n) {
		struct io io = {
			.req = {.type = type, .sector = (offset + pos) / VIO_SECTOR, .buf = buf}};

		n = count - pos < MAX_LEN ? count - pos : MAX_LEN;
		io.req.len = n;
		if (out)
			memcpy(va, (const char *)out + pos, n);
		rc = submit_and_wait(r, &io);
		if (rc == 0 && in)
			memcpy((char *)in + pos, va, n);
	}
	put_buffer(r, buf);
	return rc;
}

static int plugin_pread(void *h, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)flags;
	return transfer(h, VIRTIO_BLK_T_IN, buf, NULL, count, offset);
}

static int plugin_pwrite(void *h, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)flags;
	return transfer(h, VIRTIO_BLK_T_OUT, NULL, buf, count, offset);
}

/* Requests without data. `limit`: sectors in one request. */
static int ranged(struct vdisk *d, uint32_t type, bool unmap, uint32_t count, uint64_t offset,
		  uint32_t limit)
{
	uint64_t max = (uint64_t)limit * VIO_SECTOR;
	int rc = 0;

	if (max > UINT32_MAX / VIO_SECTOR * VIO_SECTOR)
		max = UINT32_MAX / VIO_SECTOR * VIO_SECTOR;
	for (uint64_t pos = 0, n; rc == 0 && pos < count; pos += n) {
		struct io io = {.req = {.type = type,
					.sector = (offset + pos) / VIO_SECTOR,
					.unmap = unmap}};

		n = count - pos < max ? count - pos : max;
		io.req.len = (uint32_t)n;
		rc = submit_and_wait(pick_reactor(d), &io);
	}
	return rc;
}

static int plugin_flush(void *h, uint32_t flags)
{
	struct io io = {.req = {.type = VIRTIO_BLK_T_FLUSH}};

	(void)flags;
	return submit_and_wait(pick_reactor(h), &io);
}

static int plugin_trim(void *h, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct vdisk *d = h;

	(void)flags;
	return ranged(d, VIRTIO_BLK_T_DISCARD, false, count, offset,
		      vio_blk_get_info(d->blk)->max_discard_sectors);
}

static int plugin_zero(void *h, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct vdisk *d = h;

	return ranged(d, VIRTIO_BLK_T_WRITE_ZEROES, flags & NBDKIT_FLAG_MAY_TRIM, count, offset,
		      vio_blk_get_info(d->blk)->max_zero_sectors);
}

/* ---------------------------------------------------------------------- properties ---- */

static int64_t plugin_get_size(void *h)
{
	const struct vdisk *d = h;

	return (int64_t)(vio_blk_get_info(d->blk)->sectors * VIO_SECTOR);
}

static int plugin_block_size(void *h, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
	const struct vdisk *d = h;

	*minimum = vio_blk_get_info(d->blk)->block_size;
	if (*minimum < VIO_SECTOR) /* short requests: their positions are still sectors */
		*minimum = VIO_SECTOR;
	*preferred = *minimum < 4096 ? 4096 : *minimum;
	*maximum = 32u << 20;
	return 0;
}

static int plugin_can_write(void *h)
{
	return !vio_blk_get_info(((struct vdisk *)h)->blk)->read_only;
}

static int plugin_can_flush(void *h)
{
	return vio_blk_get_info(((struct vdisk *)h)->blk)->can_flush;
}

static int plugin_can_trim(void *h)
{
	return vio_blk_get_info(((struct vdisk *)h)->blk)->can_discard;
}

static int plugin_can_zero(void *h)
{
	return vio_blk_get_info(((struct vdisk *)h)->blk)->can_zero;
}

static int plugin_can_fua(void *h)
{
	return plugin_can_flush(h) ? NBDKIT_FUA_EMULATE : NBDKIT_FUA_NONE;
}

/* A FLUSH covers what any connection wrote: they share one disk. */
static int plugin_can_multi_conn(void *h)
{
	(void)h;
	return 1;
}

static struct nbdkit_plugin plugin = {
	.name = "vio",
	.version = VIO_VERSION,
	.longname = "virtio disk over CRQ",
	.description =
		"A guest partition's virtual disk, carried over CRQ, TCE and RDMA or over long-lived windows.",
	.load = plugin_load,
	.config = plugin_config,
	.config_complete = plugin_config_complete,
	.config_help = plugin_config_help,
	.after_fork = plugin_after_fork,
	.cleanup = plugin_cleanup,
	.open = plugin_open,
	.get_size = plugin_get_size,
	.block_size = plugin_block_size,
	.can_write = plugin_can_write,
	.can_flush = plugin_can_flush,
	.can_trim = plugin_can_trim,
	.can_zero = plugin_can_zero,
	.can_fua = plugin_can_fua,
	.can_multi_conn = plugin_can_multi_conn,
	.pread = plugin_pread,
	.pwrite = plugin_pwrite,
	.flush = plugin_flush,
	.trim = plugin_trim,
	.zero = plugin_zero,
	.errno_is_preserved = 0,
};

NBDKIT_REGISTER_PLUGIN(plugin)
