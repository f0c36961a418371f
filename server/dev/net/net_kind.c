/* SPDX-License-Identifier: BSD-3-Clause */
/* The network card as a kind of device: what it offers, its life, its queues' and its windows'. */
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "server/dev/net/net_priv.h"

#define F(name)   (1ull << VIRTIO_NET_F_##name)
#define HOST_GSO  (F(HOST_TSO4) | F(HOST_TSO6) | F(HOST_ECN) | F(HOST_USO))
#define GUEST_GSO (F(GUEST_TSO4) | F(GUEST_TSO6) | F(GUEST_ECN) | F(GUEST_USO4) | F(GUEST_USO6))
/* What takes commands. */
#define CONTROLLED                                                                                 \
	(F(CTRL_RX) | F(CTRL_RX_EXTRA) | F(CTRL_VLAN) | F(CTRL_MAC_ADDR) | F(GUEST_ANNOUNCE) |     \
	 F(CTRL_GUEST_OFFLOADS))

/* ---------------------------------------------------------------- features and config ---- */

static uint64_t features(const struct vio_device *dev)
{
	const struct vio_net *n = vio_container_of(dev, struct vio_net, dev);

	return F(MAC) | F(STATUS) | F(MTU) | F(MRG_RXBUF) | F(CSUM) | F(GUEST_CSUM) | HOST_GSO |
	       GUEST_GSO | CONTROLLED | F(CTRL_VQ) | F(SPEED_DUPLEX) |
	       (n->max_pairs > 1 ? F(MQ) | (n->env.toeplitz ? F(RSS) : 0) : 0);
}

/* VIRTIO 1.2, 5.1.3.1. */
static bool features_ok(const struct vio_device *dev, uint64_t f)
{
	(void)dev;
	if ((f & HOST_GSO) && !(f & F(CSUM)))
		return false;
	if ((f & GUEST_GSO) && !(f & F(GUEST_CSUM)))
		return false;
	if ((f & F(HOST_ECN)) && !(f & (F(HOST_TSO4) | F(HOST_TSO6))))
		return false;
	if ((f & F(GUEST_ECN)) && !(f & (F(GUEST_TSO4) | F(GUEST_TSO6))))
		return false;
	return !(f & (CONTROLLED | F(MQ) | F(RSS))) || (f & F(CTRL_VQ));
}

static uint16_t config(const struct vio_device *dev, uint16_t num_queues, uint8_t *out)
{
	const struct vio_net *n = vio_container_of(dev, struct vio_net, dev);
	const uint64_t mac = vio_load_relaxed(&n->shown_mac);
	const uint32_t speed = vio_load_relaxed(&n->shown_speed);
	struct virtio_net_config c;

	(void)num_queues;
	memset(&c, 0, sizeof(c));
	memcpy(c.mac, &mac, sizeof(c.mac));
	c.status = vio_le16((vio_load_relaxed(&n->port.up) ? VIRTIO_NET_S_LINK_UP : 0) |
			    (vio_load_relaxed(&n->announce) ? VIRTIO_NET_S_ANNOUNCE : 0));
	c.max_virtqueue_pairs = vio_le16(n->max_pairs);
	c.mtu = vio_le16(vio_load_relaxed(&n->shown_mtu));
	c.speed = vio_le32(speed ? speed : UINT32_MAX); /* 5.1.4: both, not known */
	c.duplex = speed ? 1 : 0xff;
	if (features(dev) & F(RSS)) {
		c.rss_max_key_size = VIO_RSS_KEY;
		c.rss_max_indirection_table_length = vio_le16(VIO_RSS_TABLE);
		c.supported_hash_types = vio_le32(VIO_RSS_TYPES);
	}
	static_assert(sizeof(c) == 24, "up to the hash types");
	memcpy(out, &c, sizeof(c));
	return sizeof(c);
}

/* What the guest may ask to have cut. */
static uint8_t may_send(uint64_t f)
{
	return (uint8_t)(VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_NONE) |
			 (f & F(HOST_TSO4) ? VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_TCPV4) : 0) |
			 (f & F(HOST_TSO6) ? VIO_GSO_BIT(VIRTIO_NET_HDR_GSO_TCPV6) : 0) |
			 (f & F(HOST_USO) ? VIO_GSO_BIT(VIO_GSO_UDP4) | VIO_GSO_BIT(VIO_GSO_UDP6)
					  : 0) |
			 (f & F(HOST_ECN) ? VIO_GSO_ECN : 0));
}

/* The control queue comes after as many pairs as were agreed on (5.1.2). */
static uint8_t start(struct vio_device *dev, uint64_t f, uint64_t queues)
{
	struct vio_net *n = vio_container_of(dev, struct vio_net, dev);
	unsigned pairs = f & (F(MQ) | F(RSS)) ? n->max_pairs : 1;
	uint64_t allowed = (1ull << 2 * pairs) - 1;

	n->ctrl = UINT16_MAX;
	if (f & F(CTRL_VQ)) {
		n->ctrl = (uint16_t)(2 * pairs);
		allowed |= 1ull << n->ctrl;
	}
	if ((queues & 3) != 3 || (queues & ~allowed))
		return VIO_ST_QUEUE;
	n->features = f;
	n->queues = queues;
	n->pairs = 1;
	memset(n->steer, 0, sizeof(n->steer));
	n->mrg = vio_net_has(n, VIRTIO_NET_F_MRG_RXBUF);
	n->rss.on = false;
	n->sends = may_send(f);
	vio_net_take(n, f);
	vio_net_filter_reset(n);
	return VIO_ST_OK;
}

/* ------------------------------------------------------------------------ queues, windows ---- */

static int net_queue_open(struct vio_device *dev, unsigned depth, struct vio_dev_queue **out,
			  struct vio_err *err)
{
	struct vio_net_queue *nq = calloc(1, sizeof(*nq));

	if (nq)
		nq->hold = calloc(depth, sizeof(nq->hold[0]));
	if (!nq || !nq->hold) {
		free(nq);
		return vio_err_set(err, -ENOMEM, "no memory for a queue of %u frames", depth);
	}
	nq->dq.dev = dev;
	nq->depth = depth;
	*out = &nq->dq;
	return 0;
}

static void net_queue_close(struct vio_dev_queue *dq)
{
	struct vio_net_queue *nq = vio_container_of(dq, struct vio_net_queue, dq);
	struct vio_net *n = vio_container_of(dq->dev, struct vio_net, dev);

	for (unsigned i = 0; i < VIO_NET_MAX_PAIRS; i++) {
		if (nq->q && n->rx[i] == nq->q)
			vio_store_release(&n->rx[i],
					  NULL); /* the program is ending: nobody turned it off */
	}
	free(nq->hold);
	free(nq);
}

/* Told once for each queue; the uplinks hear of it once. */
static void window_add(struct vio_dev_queue *dq, void *va, uint64_t len, bool writable)
{
	struct vio_net *n = vio_container_of(dq->dev, struct vio_net, dev);
	struct vio_net_region *r = n->region;

	(void)writable;
	while (r < n->region + n->n_regions && r->va != va)
		r++;
	if (r == n->region + n->n_regions) {
		if (n->n_regions == VIO_NET_REGIONS)
			return;
		*r = (struct vio_net_region){.va = va, .len = len};
		n->n_regions++;
		r->known = n->env.mem_add && n->env.mem_add(n->env.ctx, va, len) == 0;
	}
	r->users++;
}

static void window_del(struct vio_dev_queue *dq, void *va, uint64_t len)
{
	struct vio_net *n = vio_container_of(dq->dev, struct vio_net, dev);

	for (unsigned i = 0; i < n->n_regions; i++) {
		struct vio_net_region *r = &n->region[i];

		if (r->va != va || --r->users > 0)
			continue;
		if (r->known)
			n->env.mem_del(n->env.ctx, va, len);
		*r = n->region[--n->n_regions];
		return;
	}
}

static bool window_busy(struct vio_dev_queue *dq, const void *va, uint64_t len)
{
	const struct vio_net_queue *nq = vio_container_of(dq, struct vio_net_queue, dq);
	uintptr_t at = (uintptr_t)va;

	for (unsigned i = 0; i < nq->depth; i++) {
		uintptr_t to = vio_load_acquire(&nq->hold[i].to); /* pair Y */

		if (vio_unlikely(to > at && vio_load_relaxed(&nq->hold[i].from) < at + len))
			return true;
	}
	return false;
}

static const struct vio_port_ops port_ops = {.kind = "guest",
					     .addresses = VIO_FDB_GUEST,
					     .deliver = vio_net_deliver,
					     .post = vio_net_post,
					     .unpost = vio_net_unpost,
					     .may_change = vio_net_may_change,
					     .changed = vio_net_changed};

/* --------------------------------------------------------------------------------- life ---- */

int vio_net_create(const char *spec, unsigned number, const struct vio_dev_env *env,
		   struct vio_net **out, struct vio_err *err)
{
	const uint8_t mac[6] = {0x02, 'V', 'I', 'O', (uint8_t)(number >> 8), (uint8_t)number};
	struct vio_net *n =
		aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*n), (size_t)VIO_CACHE_LINE));
	char *copy = strdup(spec);
	int rc;

	if (!n || !copy) {
		free(n);
		free(copy);
		return vio_err_set(err, -ENOMEM, "no memory for a network port");
	}
	memset(n, 0, sizeof(*n));
	memcpy(n->mac, mac, sizeof(mac));
	if (env)
		n->env = *env;
	n->max_pairs = n->pairs = 1;
	n->port.ops = &port_ops;
	vio_port_defaults(&n->port);
	snprintf(n->port.name, sizeof(n->port.name), "net%u", number);
	rc = vio_net_parse(n, copy, err);
	free(copy);
	if (rc < 0) {
		free(n);
		return rc;
	}
	if (n->locked)
		vio_port_lock(&n->port, n->mac);
	n->dev = (struct vio_device){
		.kind = &vio_kind_net, .told_windows = true, .live_windows = true};
	snprintf(n->dev.what, sizeof(n->dev.what),
		 "%02x:%02x:%02x:%02x:%02x:%02x, %s VLAN %u, MTU %u, %u queue pair(s)", n->mac[0],
		 n->mac[1], n->mac[2], n->mac[3], n->mac[4], n->mac[5],
		 n->port.vlan.trunk ? "trunk, native" : "access,", n->port.vlan.pvid, n->port.mtu,
		 n->max_pairs);
	n->number = number;
	n->shown_mtu = n->port.mtu;
	vio_net_take(n, 0);
	vio_net_show_mac(n, n->mac);
	vio_net_filter_reset(n);
	*out = n;
	return 0;
}

void vio_net_destroy(struct vio_net *n)
{
	free(n);
}

struct vio_device *vio_net_device(struct vio_net *n)
{
	return &n->dev;
}

struct vio_port *vio_net_port(struct vio_net *n)
{
	return &n->port;
}

/* ---------------------------------------------------------------------------- as a kind ---- */

static struct vio_net *net_of(struct vio_device *dev)
{
	return vio_container_of(dev, struct vio_net, dev);
}

static int net_open(const char *spec, const struct vio_dev_env *env, struct vio_device **out,
		    struct vio_err *err)
{
	struct vio_net *n;
	int rc = vio_net_create(spec, env->number, env, &n, err);

	if (rc < 0)
		return rc;
	if (n->follows && env->n_uplinks == 0) {
		vio_net_destroy(n);
		return vio_err_set(err, -EINVAL,
				   "link=uplink: there is no --uplink whose link it could follow");
	}
	*out = &n->dev;
	return 0;
}

static void net_close(struct vio_device *dev)
{
	vio_net_destroy(net_of(dev));
}

static struct vio_port *net_port(struct vio_device *dev)
{
	return &net_of(dev)->port;
}

static uint16_t net_queues(const struct vio_device *dev, uint16_t most)
{
	(void)most;
	return (uint16_t)(2 * vio_container_of(dev, struct vio_net, dev)->max_pairs + 1);
}

/* Until the first queue runs, nothing else of the session is there to be looked at (pair L). */
static bool announces(const struct vio_net *n)
{
	return vio_load_acquire(&n->rx[0]) && vio_net_has(n, VIRTIO_NET_F_GUEST_ANNOUNCE);
}

static bool net_follow(struct vio_device *dev, struct vio_dev_uplinks is, bool announce)
{
	struct vio_net *n = net_of(dev);
	bool changed = n->follows && n->port.up != is.up;

	if (changed)
		vio_switch_link(&n->port, is.up);
	if (n->follows && !n->fixed_speed && n->shown_speed != is.speed) {
		vio_store_relaxed(&n->shown_speed, is.speed);
		changed = true;
	}
	if (!announce || !announces(n))
		return changed;
	vio_store_relaxed(&n->announce, true);
	return true;
}

static void net_show(const struct vio_device *dev, struct vio_show *s)
{
	const struct vio_net *n = vio_container_of(dev, struct vio_net, dev);

	s->text(s, "kind", "net");
	s->text(s, "what", dev->what);
	s->text(s, "port", n->port.name);
}

static const char *net_usage(unsigned line)
{
	static const char *const lines[] = {
		"[MAC=AA:BB:CC:DD:EE:FF][,vlan=N][,trunk=LIST][,mtu=N][,queues=N][,storm=N|off]",
		"[,link=up|down|uplink][,speed=N][,lock-mac=on|off]",
		"vlan: of untagged frames (1); trunk: VLANs with tags, e.g. 10+20-30 or all; mtu: 68 to 9000 (1500);",
		"queues: receive and transmit pairs, 1 to 31 (1); lock-mac: drop what comes from another address than MAC (off)",
		"speed: what the guest is told of its link, Mb/s (with link=uplink the uplink's, else unknown)",
	};

	return line < VIO_ARRAY_SIZE(lines) ? lines[line] : NULL;
}

const struct vio_dev_kind vio_kind_net = {
	.row = {"net", "[KEY=VALUE,...]", "a port of the switch; --net= for all defaults",
		VIO_OPTION_CALL, .set = vio_dev_option, .lines = net_usage},
	.noun = "network",
	.type = VIRTIO_ID_NET,
	.min_proto = VIO_PROTO_V2,
	.queue = &vio_net_tx_ops, /* queue_ready knows better */
	.open = net_open,
	.close = net_close,
	.queues = net_queues,
	.port = net_port,
	.follow = net_follow,
	.show = net_show,
	.features = features,
	.config = config,
	.features_ok = features_ok,
	.start = start,
	.queue_open = net_queue_open,
	.queue_close = net_queue_close,
	.queue_ready = vio_net_queue_ready,
	.queue_on = vio_net_queue_on,
	.queue_off = vio_net_queue_off,
	.window_add = window_add,
	.window_del = window_del,
	.window_busy = window_busy,
};
