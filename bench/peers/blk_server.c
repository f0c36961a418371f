/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost-blk-server: a vhost-user-blk server on DPDK's vhost library, the one that SPDK's vhost target is built on, as a peer for
 * measurements. One disk of one queue, split or packed ring, polled by one lcore; a null store (requests complete, no byte moves)
 * or a memory store (one copy).
 *
 * As SPDK: descriptors are read once and checked, each address is translated through the guest's memory table, completions of a
 * burst are published together, guest notifications are off, the guest is interrupted only where it asks.
 * Left out, all to the peer's advantage: a block layer between ring and store, indirect descriptors, event indices, several
 * queues, FLUSH, DISCARD, live migration, resubmission of requests in flight after a crash.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <rte_eal.h>
#include <rte_pause.h>
#include <rte_vhost.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/option_rows.h"
#include "duet/score.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

#define BURST      32u
#define MAX_CHAIN  8u
#define P_CONFIG   (1ull << 9)
#define P_ACK      (1ull << 3)
#define GET_CONFIG 24u
#define MAX_CONFIG 256u
#define GAP_LOOK   8u /* empty turns between two looks for a gap, as server/dpdk/lcore.c */
#define AVAIL      (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED       (1u << VRING_PACKED_DESC_F_USED)

struct store {
	uint8_t *mem; /* NULL: null store */
	uint64_t bytes;
};

/* A connected guest. The vhost library's thread makes and ends it, the lcore works on it in between. */
struct guest {
	int vid;
	bool packed;
	struct rte_vhost_memory *mem;
	struct rte_vhost_vring ring;
	uint16_t next,
		used; /* split: indices; packed: position of the next chain, next == used between bursts */
	bool wrap;
	bool broken; /* the guest did wrong: left alone from then on */
};

struct segment {
	uint64_t addr;
	uint32_t len;
	bool write; /* by the device */
};

struct server {
	struct store store;
	struct guest guest;
	struct guest *live; /* release: vhost's thread; acquire: the lcore. NULL: none */
	struct vio_duet duet;
	uint64_t turns; /* of the lcore: who took the guest away waits until two have passed */
};

/* The vhost library's callbacks have no context; signals neither. */
static struct server server;
static volatile sig_atomic_t stop;

static void server_on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

/* ---------------------------------------------------------------------- one request ---- */

/* NULL: not all of it is the guest's memory, in one piece. */
static inline void *va(const struct guest *g, uint64_t addr, uint64_t len)
{
	uint64_t got = len;
	void *p = (void *)(uintptr_t)rte_vhost_va_from_guest_pa(g->mem, addr, &got);

	return got == len ? p : NULL;
}

static uint8_t transfer(const struct store *s, const struct guest *g,
			const struct virtio_blk_outhdr *h, const struct segment *seg, unsigned n,
			uint32_t *written)
{
	const bool read = h->type == VIRTIO_BLK_T_IN;
	uint64_t at = h->sector * 512;

	if (h->type != VIRTIO_BLK_T_IN && h->type != VIRTIO_BLK_T_OUT)
		return VIRTIO_BLK_S_UNSUPP;
	if (h->sector > s->bytes / 512)
		return VIRTIO_BLK_S_IOERR;
	for (unsigned i = 0; i < n; i++) {
		void *p = va(g, seg[i].addr, seg[i].len);

		if (!p || seg[i].write != read || seg[i].len > s->bytes - at)
			return VIRTIO_BLK_S_IOERR;
		if (s->mem && read)
			memcpy(p, s->mem + at, seg[i].len);
		else if (s->mem)
			memcpy(s->mem + at, p, seg[i].len);
		at += seg[i].len;
		*written += read ? seg[i].len : 0;
	}
	return VIRTIO_BLK_S_OK;
}

/* One chain: header, data, status. Bytes written; -1: a chain without room for header or status. */
static int64_t server_serve(const struct store *s, const struct guest *g, const struct segment *seg,
			    unsigned n)
{
	struct virtio_blk_outhdr h, *from;
	uint32_t written = 0;
	uint8_t *status;

	if (n < 2 || seg[0].write || seg[0].len < sizeof(h) || !seg[n - 1].write ||
	    seg[n - 1].len < 1)
		return -1;
	from = va(g, seg[0].addr, sizeof(h));
	status = va(g, seg[n - 1].addr, 1);
	if (!from || !status)
		return -1;
	h = *(volatile struct virtio_blk_outhdr *)from;
	*status = transfer(s, g, &h, seg + 1, n - 2, &written);
	return (int64_t)written + 1;
}

/* ------------------------------------------------------------------------ split ring ---- */

static unsigned split_chain(const struct guest *g, uint16_t head, struct segment seg[])
{
	unsigned n = 0;

	for (uint16_t at = head; n < MAX_CHAIN && at < g->ring.size;) {
		const struct vring_desc d = *(volatile struct vring_desc *)&g->ring.desc[at];

		if (d.flags & VRING_DESC_F_INDIRECT)
			return 0;
		seg[n++] = (struct segment){d.addr, d.len, d.flags & VRING_DESC_F_WRITE};
		if (!(d.flags & VRING_DESC_F_NEXT))
			return n;
		at = d.next;
	}
	return 0;
}

static unsigned split_poll(const struct store *s, struct guest *g)
{
	const uint16_t mask = (uint16_t)(g->ring.size - 1),
		       idx = vio_load_acquire(&g->ring.avail->idx);
	unsigned n = (uint16_t)(idx - g->next);
	uint16_t head[BURST];

	if (n > g->ring.size) {
		g->broken = true;
		return 0;
	}
	if (n > BURST)
		n = BURST;
	for (unsigned i = 0; i < n; i++) {
		head[i] = g->ring.avail->ring[(uint16_t)(g->next + i) & mask];
		if (head[i] < g->ring.size)
			__builtin_prefetch(&g->ring.desc[head[i]]);
	}
	for (unsigned i = 0; i < n; i++) {
		struct segment seg[MAX_CHAIN];
		const unsigned len = split_chain(g, head[i], seg);
		const int64_t written = len ? server_serve(s, g, seg, len) : -1;

		if (written < 0) {
			g->broken = true;
			n = i;
			break;
		}
		g->ring.used->ring[g->used++ & mask] =
			(struct vring_used_elem){head[i], (uint32_t)written};
	}
	g->next = (uint16_t)(g->next + n);
	if (n)
		vio_store_release(&g->ring.used->idx, g->used);
	return n;
}

/* ----------------------------------------------------------------------- packed ring ---- */

static inline struct vring_packed_desc *slot(const struct guest *g, uint16_t at)
{
	return (struct vring_packed_desc *)g->ring.desc_packed + at;
}

/* The chain at *at into seg; its length, and *at behind it. 0: not allowed. */
static unsigned packed_chain(const struct guest *g, uint16_t *at, bool *wrap, struct segment seg[],
			     uint16_t *id)
{
	for (unsigned n = 0; n < MAX_CHAIN;) {
		const struct vring_packed_desc d =
			*(volatile struct vring_packed_desc *)slot(g, *at);

		if (d.flags & VRING_DESC_F_INDIRECT)
			return 0;
		seg[n++] = (struct segment){d.addr, d.len, d.flags & VRING_DESC_F_WRITE};
		*id = d.id;
		if (++*at == g->ring.size) {
			*at = 0;
			*wrap = !*wrap;
		}
		if (!(d.flags & VRING_DESC_F_NEXT))
			return n;
	}
	return 0;
}

static unsigned packed_poll(const struct store *s, struct guest *g)
{
	const uint16_t first = g->next;
	uint16_t first_flags = 0;
	unsigned n = 0;

	while (n < BURST) {
		const uint16_t at = g->next, flags = vio_load_acquire(&slot(g, at)->flags);
		const bool wrap = g->wrap;
		struct segment seg[MAX_CHAIN];
		uint16_t id, done;
		unsigned len;
		int64_t written;

		if (!!(flags & AVAIL) != wrap || !!(flags & USED) == wrap)
			break;
		len = packed_chain(g, &g->next, &g->wrap, seg, &id);
		written = len ? server_serve(s, g, seg, len) : -1;
		if (written < 0) {
			g->broken = true;
			break;
		}
		/* In the place of the chain's head; the burst's first flags last, so that it is seen together. */
		slot(g, at)->id = id;
		slot(g, at)->len = (uint32_t)written;
		done = (uint16_t)((wrap ? AVAIL | USED : 0u) |
				  (written > 1 ? VRING_DESC_F_WRITE : 0u));
		if (n++ == 0)
			first_flags = done;
		else
			vio_store_release(&slot(g, at)->flags, done);
	}
	if (n)
		vio_store_release(&slot(g, first)->flags, first_flags);
	return n;
}

/* ------------------------------------------------------------------------- the lcore ---- */

static void work(struct server *sv)
{
	unsigned turns = 0;

	while (!stop) {
		struct guest *g = vio_load_acquire(&sv->live);
		unsigned n = 0;

		if (vio_unlikely(vio_duet_called(&sv->duet)))
			(void)vio_duet_serve(&sv->duet);

		if (g && !g->broken)
			n = g->packed ? packed_poll(&sv->store, g) : split_poll(&sv->store, g);
		if (n)
			rte_vhost_vring_call(g->vid,
					     0); /* nothing where the guest wants no interrupt */
		else
			rte_pause();
		if (n || ++turns % GAP_LOOK == 0)
			vio_duet_look(&sv->duet, vio_ticks());
		vio_store_release(&sv->turns, sv->turns + 1);
	}
}

/* -------------------------------------------------- callbacks of the vhost library ---- */

static int new_device(int vid)
{
	struct guest *g = &server.guest;
	uint64_t features = 0;
	uint16_t next = 0, used = 0;

	if (vio_load_relaxed(&server.live)) {
		fprintf(stderr, "vhost-blk-server: a second guest is refused: there is one disk\n");
		return -1;
	}
	memset(g, 0, sizeof(*g));
	g->vid = vid;
	if (rte_vhost_get_negotiated_features(vid, &features) ||
	    rte_vhost_get_mem_table(vid, &g->mem) || rte_vhost_get_vhost_vring(vid, 0, &g->ring) ||
	    rte_vhost_get_vring_base(vid, 0, &next, &used)) {
		fprintf(stderr, "vhost-blk-server: the guest's ring or memory can't be had\n");
		free(g->mem);
		return -1;
	}
	g->packed = features >> VIRTIO_F_RING_PACKED & 1;
	/* A packed position has the wrap counter in bit 15. */
	g->wrap = next >> 15;
	g->next = g->packed ? next & 0x7fff : next;
	g->used = used;
	rte_vhost_enable_guest_notification(vid, 0, 0);
	vio_store_release(&server.live, g);
	return 0;
}

static void destroy_device(int vid)
{
	struct guest *g = vio_load_relaxed(&server.live);
	uint64_t turns;

	if (!g || g->vid != vid)
		return;
	vio_store_release(&server.live, NULL);
	turns = vio_load_acquire(&server.turns);
	while (!stop && vio_load_acquire(&server.turns) - turns < 2)
		usleep(100);
	free(g->mem);
	g->mem = NULL;
}

/* GET_CONFIG, which this library leaves to its user. The message as the protocol has it. */
struct config_message {
	uint32_t request, flags, size;
	uint32_t offset, len, config_flags;
	uint8_t region[MAX_CONFIG];
} __attribute__((packed));

static enum rte_vhost_msg_result on_message(int vid, void *msg)
{
	struct config_message *m = msg;
	struct virtio_blk_config c = {
		.capacity = server.store.bytes / 512, .blk_size = 512, .seg_max = MAX_CHAIN - 2};
	uint8_t all[MAX_CONFIG] = {0};

	(void)vid;
	if (m->request != GET_CONFIG)
		return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	if (m->offset > MAX_CONFIG || m->len > MAX_CONFIG - m->offset)
		return RTE_VHOST_MSG_RESULT_ERR;
	memcpy(all, &c, sizeof(c));
	memcpy(m->region, all + m->offset, m->len);
	return RTE_VHOST_MSG_RESULT_REPLY;
}

static int new_connection(int vid)
{
	static const struct rte_vhost_user_extern_ops ops = {.pre_msg_handle = on_message};

	return rte_vhost_extern_callback_register(vid, &ops, NULL);
}

static const struct rte_vhost_device_ops callbacks = {
	.new_device = new_device,
	.destroy_device = destroy_device,
	.new_connection = new_connection,
};

/* ------------------------------------------------------------------------------ main ---- */

static int listen_at(const char *path)
{
	const uint64_t features = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_RING_PACKED |
				  1ull << VHOST_USER_F_PROTOCOL_FEATURES |
				  1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE;

	unlink(path);
	return rte_vhost_driver_register(path, 0) ||
	       rte_vhost_driver_set_features(path, features) ||
	       rte_vhost_driver_set_protocol_features(path, P_CONFIG | P_ACK) ||
	       rte_vhost_driver_callback_register(path, &callbacks) || rte_vhost_driver_start(path);
}

static int open_store(struct store *s, bool memory, uint64_t mib, struct vio_err *err)
{
	s->bytes = mib << 20;
	if (!memory)
		return 0;
	s->mem = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->mem == MAP_FAILED)
		return vio_err_set(err, -ENOMEM, "--mib %llu: no memory for the disk",
				   (unsigned long long)mib);
	madvise(s->mem, s->bytes, MADV_HUGEPAGE);
	memset(s->mem, 0, s->bytes);
	return 0;
}

static int start_eal(const char *core)
{
	char *argv[] = {"vhost-blk-server",
			"-l",
			(char *)(uintptr_t)core,
			"--no-pci",
			"--no-huge",
			"-m",
			"64",
			"--no-shconf",
			"--no-telemetry",
			"--log-level",
			"4",
			NULL};

	return rte_eal_init((int)(sizeof(argv) / sizeof(argv[0])) - 1, argv) < 0 ? -1 : 0;
}

static const char *const stores[] = {"null", "memory", NULL};

struct opts {
	const char *path, *core, *score;
	bool memory;
	uint64_t mib;
};

static const struct vio_option rows[] = {
	{"socket", "PATH", "where it listens", VIO_TEXT(struct opts, path), .required = true},
	{"core", "N", "the CPU that it polls on", VIO_TEXT(struct opts, core), .def = "0"},
	{"store", "KIND", "what the disk is", VIO_WORD(struct opts, memory, stores), .def = "null"},
	{"mib", "N", "size of the disk", VIO_NUMBER(struct opts, mib, 1, 1u << 20), .def = "64"},
	VIO_ROW_DUET(struct opts, score),
	{0},
};

static const struct vio_program program = {
	.name = "vhost-blk-server",
	.about =
		"vhost-blk-server: one vhost-user-blk disk for measurements, polled on a core that it takes for itself\n",
	.rows = rows,
};

int main(int argc, char **argv)
{
	struct vio_err err = {""};
	struct opts o = {.score = NULL};
	int rc = vio_options_parse(&program, &o, argc, argv, &err);

	if (rc > 0)
		return 0;
	if (rc == 0)
		rc = open_store(&server.store, o.memory, o.mib, &err);
	if (rc) {
		fprintf(stderr, "vhost-blk-server: %s\n", err.msg);
		return 2;
	}
	signal(SIGINT, server_on_signal);
	signal(SIGTERM, server_on_signal);
	if (start_eal(o.core) || listen_at(o.path)) {
		fprintf(stderr,
			"vhost-blk-server: DPDK can't listen at %s; its messages are above\n",
			o.path);
		return 1;
	}
	vio_duet_none(&server.duet, UINT64_MAX);
	if (o.score && vio_duet_open(&server.duet, o.score, VIO_DUET_SERVER, &err)) {
		fprintf(stderr, "vhost-blk-server: %s\n", err.msg);
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	work(&server);
	rte_vhost_driver_unregister(o.path);
	unlink(o.path);
	vio_duet_close(&server.duet);
	rte_eal_cleanup();
	return 0;
}
