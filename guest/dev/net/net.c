/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening, closing and asking the network front end. The data path is in net_rx.c and net_tx.c. */
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "guest/dev/net/net_priv.h"

static int start(struct vio_net *n, struct vio_err *err)
{
	struct vio_transport_cfg *tc = &n->cfg.transport;
	const struct vio_transport_info *ti;
	int rc = phyp_vcpu_create(n->f.part, &n->p[0].rx.vcpu, err);

	net_want_features(n);
	tc->num_queues = 0; /* the control queue is behind all pairs of the device */
	if (rc == 0)
		rc = vio_transport_open(n->p[0].rx.vcpu, n->f.mem, tc, &n->f.t, err);
	if (rc == 0)
		rc = vio_transport_start(n->f.t, err);
	if (rc)
		return rc;
	ti = vio_transport_get_info(n->f.t);
	if (ti->type != VIRTIO_ID_NET)
		return vio_err_set(
			err, -ENODEV,
			"unit %u is not a network card: virtio device type %u, expected %u",
			tc->unit, ti->type, VIRTIO_ID_NET);
	rc = net_read_config(n, &n->info, err);
	n->card_up = n->info.link_up;
	if (rc == 0)
		rc = net_setup(n, err);
	if (rc == 0)
		rc = vio_front_go(&n->f, err);
	return rc ? rc : net_tell(n, err);
}

static int check_cfg(const struct vio_net_cfg *c, struct vio_err *err)
{
	if (c->buf_len & (c->buf_len - 1) ||
	    (c->buf_len && (c->buf_len < 256 || c->buf_len > 131072)))
		return vio_err_set(err, -EINVAL,
				   "buffers of %u bytes: must be a power of two from 256 to 131072",
				   c->buf_len);
	if (c->pairs > VIO_NET_MAX_PAIRS)
		return vio_err_set(err, -EINVAL, "%u pairs of queues: at most %u", c->pairs,
				   VIO_NET_MAX_PAIRS);
	return 0;
}

int vio_net_open(struct phyp_part *part, struct vio_mem *mem, const struct vio_net_cfg *cfg,
		 struct vio_net **out, struct vio_err *err)
{
	const size_t pairs = VIO_NET_MAX_PAIRS * sizeof(struct net_pair);
	struct vio_net *n;
	int rc = check_cfg(cfg, err);

	if (rc)
		return rc;
	n = aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*n), VIO_CACHE_LINE));
	if (!n)
		return vio_err_set(err, -ENOMEM, "no memory for the network card");
	memset(n, 0, sizeof(*n));
	n->p = aligned_alloc(VIO_CACHE_LINE, pairs);
	if (!n->p) {
		free(n);
		return vio_err_set(err, -ENOMEM, "no memory for the network card's queues");
	}
	memset(n->p, 0, pairs);
	n->cfg = *cfg;
	n->cfg.pairs = cfg->pairs ? cfg->pairs : 1;
	n->cfg.buf_len = cfg->buf_len ? cfg->buf_len : 2048;
	vio_front_init(&n->f, &net_front_ops, part, mem, &cfg->transport);
	rc = start(n, err);
	if (rc) {
		vio_net_close(n);
		return rc;
	}
	*out = n;
	return 0;
}

void vio_net_close(struct vio_net *n)
{
	if (!n)
		return;
	/*
	 * First of all the server must not touch what is about to be unmapped; no answer is no
	 * reason to stay.
	 */
	if (n->f.t && phyp_alive(n->f.part))
		vio_transport_quiesce(n->f.t);
	net_teardown(n);
	vio_transport_close(n->f.t);
	for (unsigned i = 0; i < VIO_NET_MAX_PAIRS; i++)
		phyp_vcpu_destroy(n->p[i].rx.vcpu);
	free(n->p);
	free(n);
}

const struct vio_net_info *vio_net_get_info(const struct vio_net *n)
{
	return &n->info;
}

struct phyp_counters *vio_net_counters(struct vio_net *n, unsigned pair)
{
	return n->p[pair].rx.cnt;
}

void vio_net_get_stats(const struct vio_net *n, unsigned pair, struct vio_net_stats *s)
{
	*s = n->p[pair].s;
}

void vio_net_get_count(const struct vio_net *n, unsigned pair, struct vio_net_count *c)
{
	const struct net_pair *p = &n->p[pair];

	*c = (struct vio_net_count){0};
	for (uint32_t i = 0; i < n->info.buffers; i++)
		switch (p->buf[i].state) {
		case NET_FREE:
			c->free++;
			break;
		case NET_POSTED:
			c->posted++;
			break;
		case NET_SENDING:
			c->sending++;
			break;
		default:
			c->held++;
		}
}

bool vio_net_look_at_config(struct vio_net *n)
{
	const uint32_t changes = vio_transport_config_changes(n->f.t);
	struct virtio_net_config c = {0};
	struct vio_net_info *i = &n->info;
	uint16_t mtu = i->mtu;
	uint32_t speed = i->speed;
	bool up, announce = i->announce;

	if (vio_unlikely(changes != n->config_changes)) {
		n->config_changes = vio_transport_config(n->f.t, &c, sizeof(c));
		vio_store_relaxed(&n->card_up, !(n->info.features >> VIRTIO_NET_F_STATUS & 1) ||
						       vio_le16(c.status) & VIRTIO_NET_S_LINK_UP);
		if (n->info.features >> VIRTIO_NET_F_MTU & 1)
			mtu = vio_le16(c.mtu);
		speed = net_speed(i->features, &c);
		announce = i->features >> VIRTIO_NET_F_GUEST_ANNOUNCE & 1 &&
			   vio_le16(c.status) & VIRTIO_NET_S_ANNOUNCE;
	}
	/* A card without a server has no cable: whoever has another way must learn of it. */
	up = vio_load_relaxed(&n->card_up) && !vio_load_relaxed(&n->f.waiting);
	if (vio_likely(up == i->link_up && mtu == i->mtu && speed == i->speed &&
		       announce == i->announce))
		return false;
	i->link_up = up;
	i->mtu = mtu;
	i->speed = speed;
	i->announce = announce;
	return true;
}

void vio_net_idle(struct vio_net *n, unsigned pair, bool wait_tx, uint64_t timeout_ns)
{
	struct vio_fq *const q[] = {&n->p[pair].rx, &n->p[pair].tx};

	vio_fq_idle(q, wait_tx ? 2 : 1, false, timeout_ns);
}

void vio_net_idle_fds(struct vio_net *n, unsigned pair, bool wait_tx, struct pollfd *fds,
		      unsigned n_fds, uint64_t timeout_ns)
{
	struct vio_fq *const q[] = {&n->p[pair].rx, &n->p[pair].tx};

	vio_fq_idle_fds(q, wait_tx ? 2 : 1, false, fds, n_fds, timeout_ns);
}

void vio_net_prod(struct vio_net *n, unsigned pair)
{
	vio_fq_prod(&n->p[pair].rx);
}
