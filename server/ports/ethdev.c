/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* rte_dev_dma_map(), the only call that serves every driver, is not stable yet in DPDK 22.11. */
#define ALLOW_EXPERIMENTAL_API
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>

#include "server/ports/ethdev_priv.h"

#define POOL 2047u /* mbufs with room for a frame, for each direction */
#define RING 512u  /* descriptors asked for; the device adjusts */
#define PAGE 4096u
/* Of a frame in a guest's buffer: what is behind the header in one of 2,048 bytes. af_packet's driver wants 2,016. */
#define PLACE_ROOM 2036u
/* Empty or not, when a port is stopped: more than all that can be in it. */
#define DRAIN_TURNS (2u * (POOL + POOL_LENT) / VIO_FRAME_BURST)

static int may_change(const struct vio_port *p, const struct vio_port_change *to,
		      struct vio_err *err)
{
	(void)p;
	if (!to->set_up && !to->set_mtu)
		return 0;
	return vio_err_set(err, -EINVAL, "the link and the MTU of an uplink are its device's");
}

static const struct vio_port_ops ops = {.kind = "uplink",
					.outside = true,
					.deliver = vio_uplink_deliver,
					.poll = vio_uplink_poll,
					.tick = vio_uplink_tick,
					.may_change = may_change,
					.reap = vio_uplink_reap};

/* ------------------------------------------------------------------------------- memory ---- */

/* It can't have a window in place, and so no frame: it gets copies. */
static void give_up_lending(struct vio_uplink *u, int rc, struct vio_err *err)
{
	vio_store_relaxed(&u->in_place, false);
	vio_err_set(
		err, rc,
		"uplink %s: a window of a guest can't be made known to it (%s); frames are copied out from here on",
		u->name, strerror(-rc));
}

int vio_uplink_mem_add(struct vio_uplink *const u[], unsigned n, void *va, uint64_t len,
		       struct vio_err *err)
{
	int rc = rte_extmem_register(va, len, NULL, 0, PAGE) < 0 ? -rte_errno : 0;

	if (rc < 0)
		vio_err_set(
			err, rc,
			"DPDK takes no more windows of guests (%s); ports that reach memory by themselves would get copies from here on, but there are none",
			strerror(-rc));
	for (unsigned i = 0; i < n; i++) {
		if (rc < 0 && u[i]->n_dma > 0)
			give_up_lending(u[i], rc, err);
		for (unsigned k = 0; k < u[i]->n_dma && vio_load_relaxed(&u[i]->in_place); k++) {
			if (rte_dev_dma_map(u[i]->dma[k], va, (uint64_t)(uintptr_t)va, len) < 0)
				give_up_lending(u[i], -rte_errno, err);
		}
	}
	return rc;
}

void vio_uplink_mem_del(struct vio_uplink *const u[], unsigned n, void *va, uint64_t len)
{
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < u[i]->n_dma; k++)
			rte_dev_dma_unmap(u[i]->dma[k], va, (uint64_t)(uintptr_t)va, len);
	}
	rte_extmem_unregister(va, len);
}

/* --------------------------------------------------------------------------------- life ---- */

/* 1, or -EINVAL with a sentence. */
static int rx_option(struct vio_uplink *u, const char *value, struct vio_err *err)
{
	u->rx_place = !strcmp(value, "in-place");
	return u->rx_place || !strcmp(value, "copy")
		       ? 1
		       : vio_err_set(err, -EINVAL, "rx=%s: wants in-place or copy", value);
}

/* The switch's words and ours into the port, the others into devargs. */
static int split(struct vio_uplink *u, const char *spec, char *devargs, size_t len,
		 struct vio_err *err)
{
	char *copy = strdup(spec), *save = NULL;
	bool vlan = false;
	size_t at = 0;
	int rc = copy ? 0 : vio_err_set(err, -ENOMEM, "no memory");

	devargs[0] = '\0';
	for (char *w = copy ? strtok_r(copy, ",", &save) : NULL; w && rc >= 0;
	     w = strtok_r(NULL, ",", &save)) {
		char *value = strchr(w, '=');

		rc = 0;
		if (value) {
			*value = '\0';
			rc = !strcmp(w, "rx") ? rx_option(u, value + 1, err)
					      : vio_port_option(&u->port, w, value + 1, err);
			vlan |= rc > 0 && !strcmp(w, "vlan");
			*value = '=';
		}
		if (rc == 0 && at < len)
			at += (size_t)snprintf(devargs + at, len - at, "%s%s", at ? "," : "", w);
	}
	free(copy);
	if (rc < 0)
		return rc;
	if (at == 0 || at >= len)
		return vio_err_set(err, -EINVAL, "wants the arguments of a DPDK device");
	return vio_port_options_end(&u->port, vlan, err);
}

static struct rte_mempool *pool(const struct vio_uplink *u, const char *kind, unsigned n,
				uint16_t room)
{
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "vio_%s_%u", kind, u->id);
	return rte_pktmbuf_pool_create(name, n, 64, 0, room, SOCKET_ID_ANY);
}

static struct rte_mempool *rx_pool(struct vio_uplink *u, uint32_t frame, uint16_t room)
{
	if (!u->places)
		return pool(u, "rx", POOL, room);
	u->room = frame <= PLACE_ROOM ? PLACE_ROOM : VIO_ALIGN_UP(frame, 64u);
	return vio_uplink_place_pool(u, POOL);
}

static int make_pools(struct vio_uplink *u, bool scatter, struct vio_err *err)
{
	uint32_t frame = u->port.mtu + VIO_ETH_LEN + VIO_TAG_LEN;
	bool small = scatter || frame <= RTE_MBUF_DEFAULT_DATAROOM;
	uint16_t room = small ? RTE_MBUF_DEFAULT_BUF_SIZE
			      : (uint16_t)(VIO_ALIGN_UP(frame, 64u) + RTE_PKTMBUF_HEADROOM);

	u->rx_pool = rx_pool(u, frame, room);
	u->tx_pool = pool(u, "tx", POOL, room);
	if (vio_uplink_lent_pools(u) && u->rx_pool && u->tx_pool)
		return 0;
	return vio_err_set(err, -ENOMEM,
			   "%s: no memory for its buffers (%s); give DPDK more hugepages", u->name,
			   rte_strerror(rte_errno));
}

/* ---- what DPDK says ---- */

/* While a port is made and started: what DPDK reports is kept, as the reason for what follows. */
struct heard {
	FILE *f;
	char *text;
	size_t len;
};

static void begin_listening(struct heard *h)
{
	*h = (struct heard){NULL, NULL, 0};
	h->f = open_memstream(&h->text, &h->len);
	if (h->f)
		rte_openlog_stream(h->f);
}

/* Bytes so far. */
static size_t heard(struct heard *h)
{
	if (h->f)
		fflush(h->f);
	return h->len;
}

/* Lines into one sentence's end, "; DPDK: a; b", in place of `len` bytes at most. */
static void reason(struct heard *h, char *to, size_t len)
{
	char *save = NULL;
	size_t at = 0;

	to[0] = '\0';
	heard(h);
	for (char *w = h->text ? strtok_r(h->text, "\n", &save) : NULL; w && at < len;
	     w = strtok_r(NULL, "\n", &save))
		at += (size_t)snprintf(to + at, len - at, "%s%s", at ? "; " : "; DPDK: ", w);
}

/* What was said without a failure is somebody's to read nevertheless. */
static void end_listening(struct heard *h, bool print)
{
	if (!h->f)
		return;
	rte_openlog_stream(NULL);
	fclose(h->f);
	if (print && h->len > 0)
		fputs(h->text, stderr);
	free(h->text);
}

static int start(struct vio_uplink *u, struct heard *h, struct vio_err *err)
{
	struct rte_eth_conf conf = {0};
	struct rte_eth_dev_info info;
	uint16_t rx = RING, tx = RING;
	const char *what = "configure it";
	size_t before = 0;
	int rc = rte_eth_dev_info_get(u->id, &info);

	/* A bond hears of its parts' links this way. */
	conf.intr_conf.lsc = rc == 0 && (*info.dev_flags & RTE_ETH_DEV_INTR_LSC) ? 1 : 0;
	conf.txmode.offloads = u->capa;
	conf.rxmode.mtu = u->port.mtu;
	conf.rxmode.offloads =
		info.rx_offload_capa & (RTE_ETH_RX_OFFLOAD_SCATTER | RTE_ETH_RX_OFFLOAD_TCP_CKSUM |
					RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
	if (rc == 0 && info.max_rx_pktlen >= RTE_ETHER_MIN_LEN &&
	    u->port.mtu + VIO_ETH_LEN + VIO_TAG_LEN > info.max_rx_pktlen)
		return vio_err_set(err, -EINVAL,
				   "%s: its largest frame of %u bytes allows an MTU of %u", u->name,
				   info.max_rx_pktlen,
				   info.max_rx_pktlen - VIO_ETH_LEN - VIO_TAG_LEN);
	if (rc == 0)
		rc = make_pools(u, info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER, err);
	if (rc < 0)
		return rc;
	rc = rte_eth_dev_configure(u->id, 1, 1, &conf);
	if (rc == 0)
		rc = rte_eth_dev_adjust_nb_rx_tx_desc(u->id, &rx, &tx);
	if (rc == 0) {
		what = "set its MTU";
		rc = rte_eth_dev_set_mtu(u->id, u->port.mtu);
		if (rc == -ENOTSUP)
			rc = 0; /* then it has none */
	}
	if (rc == 0) {
		what = "set up its queues";
		rc = rte_eth_rx_queue_setup(u->id, 0, rx, (unsigned)SOCKET_ID_ANY, NULL,
					    u->rx_pool);
	}
	if (rc == 0)
		rc = rte_eth_tx_queue_setup(u->id, 0, tx, (unsigned)SOCKET_ID_ANY, NULL);
	if (rc == 0) {
		what = "start it";
		before = heard(h);
		rc = rte_eth_dev_start(u->id);
		/* Not all drivers pass on that it failed (virtio_user does not); they say so. */
		if (rc == 0 && !u->known && heard(h) > before)
			rc = -EIO;
	}
	if (rc < 0)
		return vio_err_set(err, rc, "%s: can't %s: %s", u->name, what, strerror(-rc));
	u->started = true;
	rte_eth_promiscuous_enable(u->id); /* addresses behind the switch are not the port's */
	rte_eth_allmulticast_enable(u->id);
	return 0;
}

static uint64_t fresh_mbuf(void)
{
	struct rte_mbuf m = {.data_off = RTE_PKTMBUF_HEADROOM,
			     .refcnt = 1,
			     .nb_segs = 1,
			     .port = RTE_MBUF_PORT_INVALID};
	uint64_t word;

	memcpy(&word, &m.rearm_data, sizeof(word));
	return word;
}

int vio_uplink_create(const char *spec, struct vio_uplink **out, struct vio_err *err)
{
	struct vio_uplink *u =
		aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*u), (size_t)VIO_CACHE_LINE));
	char devargs[512], said[200];
	struct vio_err why;
	struct heard h;
	int rc;

	if (!u)
		return vio_err_set(err, -ENOMEM, "no memory for an uplink");
	memset(u, 0, sizeof(*u));
	u->id = RTE_MAX_ETHPORTS;
	u->home = LCORE_ID_ANY;
	u->active = -1;
	u->control = -1;
	u->fresh = fresh_mbuf();
	u->port.ops = &ops;
	vio_port_defaults(&u->port);
	rc = split(u, spec, devargs, sizeof(devargs), err);
	begin_listening(&h);
	if (rc == 0)
		rc = vio_uplink_probe(u, devargs, err);
	if (rc == 0)
		rc = start(u, &h, err);
	if (rc < 0) {
		why = *err;
		reason(&h, said, sizeof(said));
		vio_err_set(err, rc, "%s%s", why.msg, said);
	}
	end_listening(&h, rc == 0);
	if (rc < 0) {
		vio_uplink_destroy(u);
		return rc;
	}
	snprintf(u->port.name, sizeof(u->port.name), "%s", u->name);
	u->port.up = vio_uplink_link(u);
	*out = u;
	return 0;
}

/*
 * The device is freed, and adapters may withdraw windows yet. A bond's parts stay, and so does what
 * is mapped for them.
 */
static void forget_device(struct vio_uplink *u)
{
	unsigned n = 0;

	for (unsigned k = 0; k < u->n_dma; k++) {
		if (u->dma[k] != u->dev)
			u->dma[n++] = u->dma[k];
	}
	u->n_dma = n;
	u->dev = NULL;
}

void vio_uplink_stop(struct vio_uplink *u)
{
	struct rte_mbuf *m[VIO_FRAME_BURST];

	if (!u || u->stopped)
		return;
	if (u->port.sw)
		vio_switch_link(&u->port, false); /* nothing leaves any more */
	if (u->id != RTE_MAX_ETHPORTS && rte_eth_dev_is_valid_port(u->id)) {
		/*
		 * Some loop back what has left (net_ring), and forget what is in them when they are
		 * closed.
		 */
		for (unsigned i = 0; u->started && i < DRAIN_TURNS; i++) {
			rte_eth_tx_done_cleanup(u->id, 0, 0);
			rte_pktmbuf_free_bulk(m, rte_eth_rx_burst(u->id, 0, m, VIO_FRAME_BURST));
		}
		rte_eth_dev_stop(u->id);
		rte_eth_dev_close(u->id);
		if (u->dev && rte_dev_remove(u->dev) == 0)
			forget_device(u);
	}
	vio_store_relaxed(&u->stopped, true);
	if (u->places && u->rx_pool)
		vio_uplink_place_end(u);
	if (vio_uplink_lent(u) > 0)
		vio_uplink_take_back(u);
}

void vio_uplink_destroy(struct vio_uplink *u)
{
	if (!u)
		return;
	u->port.sw = NULL; /* it may have gone already */
	vio_uplink_stop(u);
	if (u->control >= 0)
		close(u->control);
	if (!u->places || !u->rx_pool || rte_mempool_in_use_count(u->rx_pool) == 0)
		rte_mempool_free(u->rx_pool);
	/* Mbufs that the driver has forgotten may be remembered: they must stay what they are. */
	if (vio_uplink_all_back(u)) {
		rte_mempool_free(u->tx_pool);
		rte_mempool_free(u->ext_pool);
		rte_mempool_free(u->lent_pool);
	}
	free(u);
}

struct vio_port *vio_uplink_port(struct vio_uplink *u)
{
	return &u->port;
}

unsigned vio_uplink_lent(const struct vio_uplink *u)
{
	return (unsigned)vio_load_acquire(&u->port.stats.lent);
}

const char *vio_uplink_what(const struct vio_uplink *u)
{
	return u->what;
}

bool vio_uplink_has_no_guest(const struct vio_uplink *u)
{
	return u->places && !(u->port.only && u->port.only->ops->post);
}
