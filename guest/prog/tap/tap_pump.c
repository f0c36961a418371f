/* SPDX-License-Identifier: BSD-3-Clause */
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guest/prog/tap/tap_pump.h"
#include "vio/atomics.h"

#define RX_BURST 4u
/* Buffers of a frame that arrived: 64 KiB in the smallest there are. The kernel takes 1,024. */
#define MOST_BUFS 320u

/* An Ethernet header and two tags, that of a VLAN and one inside of it. */
#define OVERHEAD 22u

int vio_pump_init(struct vio_pump *p, struct vio_net *n, unsigned pair, int fd, struct vio_err *err)
{
	const struct vio_net_info *i = vio_net_get_info(n);
	/* The card's MTU, not the tap's: anybody may change that one. */
	const uint32_t most = i->tso4 || i->tso6 || i->uso ? VIO_NET_MAX_FRAME : i->mtu + OVERHEAD;

	*p = (struct vio_pump){
		.n = n, .pair = pair, .fd = fd, .need = (most + i->room - 1) / i->room};
	if (p->need > VIO_NET_MAX_BUFS || p->need > i->queue_size)
		return vio_err_set(
			err, -EINVAL,
			"a frame of %u bytes takes %u buffers of %u bytes, more than a frame can have; use larger ones (--buf-len), or --no-offload",
			most, p->need, i->buf_len);
	return 0;
}

/* ------------------------------------------------------------------- card to tap ---- */

/*
 * Is this errno of read or write one that goes by itself? All others stay, EBADFD of a tap whose
 * interface was deleted among them.
 */
static bool passes(int e)
{
	return e == EAGAIN || e == EINTR || e == ENOMEM || e == ENOBUFS;
}

static void write_frame(struct vio_pump *p, const struct vio_net_buf *f)
{
	struct iovec v[MOST_BUFS];
	const struct vio_net_buf *b = f->next;
	unsigned n = 1;
	ssize_t done;

	v[0] = (struct iovec){f->hdr, VIO_NET_HDR + f->len};
	for (; b && n < VIO_ARRAY_SIZE(v); b = b->next)
		v[n++] = (struct iovec){b->data, b->len};
	if (b) { /* more buffers than a call takes: not all of the frame */
		p->s.refused++;
		return;
	}
	do
		done = writev(p->fd, v, (int)n);
	while (done < 0 && errno == EINTR);
	if (done < (ssize_t)(VIO_NET_HDR + f->total)) {
		/* EIO: the interface is down; EINVAL: the header makes no sense to the kernel. */
		if (done < 0 && !passes(errno) && errno != EIO && errno != EINVAL)
			p->tap_errno = errno;
		p->s.refused++;
		return;
	}
	p->s.to_tap++;
	p->s.to_tap_bytes += f->total;
}

static int card_to_tap(struct vio_pump *p)
{
	/* Few at a time: a frame may hold eight buffers or more, and the tap takes its time with each. */
	struct vio_net_buf *f[RX_BURST];
	int n = vio_net_rx_burst(p->n, p->pair, f, RX_BURST);

	for (int i = 0; i < n; i++)
		write_frame(p, f[i]);
	if (n > 0)
		vio_net_free(p->n, p->pair, f, (unsigned)n);
	vio_net_refill(p->n, p->pair);
	return n;
}

/* ------------------------------------------------------------------- tap to card ---- */

/* One frame into spare buffers. False: none there, or no buffers, or the tap is gone (tap_errno). */
static bool read_frame(struct vio_pump *p)
{
	const uint32_t room = vio_net_get_info(p->n)->room;
	struct iovec v[VIO_NET_MAX_BUFS + 1];
	unsigned used = 0;
	uint32_t left;
	ssize_t got;

	if (p->n_spare < p->need)
		p->n_spare += vio_net_tx_alloc(p->n, p->pair, p->spare + p->n_spare,
					       p->need - p->n_spare);
	if (p->n_spare < p->need)
		return false;
	for (unsigned i = 0; i < p->need; i++)
		v[i] = (struct iovec){p->spare[i]->data, room};
	v[0] = (struct iovec){p->spare[0]->hdr, room + VIO_NET_HDR};
	/* The tap cuts off what does not fit, and does not say so: a byte in here says it. */
	v[p->need] = (struct iovec){&p->beyond, 1};
	got = readv(p->fd, v, (int)p->need + 1);
	if (got < 0 && !passes(errno))
		p->tap_errno = errno;
	if (got <= (ssize_t)VIO_NET_HDR)
		return false;
	if (got > (ssize_t)(VIO_NET_HDR + p->need * room)) {
		vio_counter_add(&p->s.too_long, 1);
		return false; /* and not the next one: somebody may send nothing else */
	}
	left = (uint32_t)got - VIO_NET_HDR;
	p->s.from_tap++;
	p->s.from_tap_bytes += left;
	while (left > 0) {
		struct vio_net_buf *b = p->spare[used++];

		b->len = left < room ? left : room;
		left -= b->len;
		b->next = left > 0 ? p->spare[used] : NULL;
	}
	p->spare[0]->hdr->flags &=
		VIRTIO_NET_HDR_F_NEEDS_CSUM; /* the others are a receiver's to know */
	p->ready[p->n_ready++] = p->spare[0];
	p->n_spare -= used;
	memmove(p->spare, p->spare + used, p->n_spare * sizeof(p->spare[0]));
	return true;
}

/* How many frames moved. */
static unsigned tap_to_card(struct vio_pump *p)
{
	unsigned n;

	while (p->n_ready < VIO_PUMP_BURST && read_frame(p))
		;
	if (p->n_ready == 0)
		return 0;
	n = vio_net_tx_burst(p->n, p->pair, p->ready, p->n_ready);
	p->n_ready -= n;
	if (p->n_ready) {
		p->s.tx_full++;
		memmove(p->ready, p->ready + n, p->n_ready * sizeof(p->ready[0]));
	}
	return n;
}

/* --------------------------------------------------------------------------- turn ---- */

int vio_pump_turn(struct vio_pump *p, uint64_t timeout_ns)
{
	/* With a full card there is no use in hearing of the tap: wait for the card. */
	struct pollfd tap = {.fd = p->fd, .events = POLLIN};
	int got = card_to_tap(p);
	unsigned sent;
	bool stuck;

	if (got < 0)
		return got;
	sent = tap_to_card(p);
	if (vio_unlikely(p->tap_errno))
		return -EPIPE;
	if (got > 0 || sent > 0)
		return 0;
	stuck = p->n_ready > 0 || p->n_spare < p->need;
	p->s.sleeps++;
	vio_net_idle_fds(p->n, p->pair, stuck, &tap, stuck ? 0 : 1, timeout_ns);
	return 0;
}

void vio_pump_fini(struct vio_pump *p)
{
	for (unsigned i = 0; i < p->n_spare; i++)
		p->spare[i]->next = NULL;
	vio_net_free(p->n, p->pair, p->spare, p->n_spare);
	vio_net_free(p->n, p->pair, p->ready, p->n_ready);
	p->n_spare = p->n_ready = 0;
}
