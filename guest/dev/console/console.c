/* SPDX-License-Identifier: BSD-3-Clause */
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "guest/dev/console/console.h"

enum { RECEIVEQ, TRANSMITQ };

static const struct vio_buffered_kind kind = {
	.device = "console",
	.type = VIRTIO_ID_CONSOLE,
	.features = 1ull << VIRTIO_CONSOLE_F_SIZE,
	.n_queues = 2,
	.queue = {[RECEIVEQ] = {.to_guest = true, .buffers = 16, .len = 1024},
		  [TRANSMITQ] = {.buffers = 16, .len = 1024}},
};

struct vio_console {
	struct vio_buffered *d;
	struct vio_buf *now;   /* being read, or NULL */
	struct vio_buf *spare; /* to be written, or NULL */
	int why;               /* 0, or -EIO */
};

int vio_console_open(struct phyp_part *part, struct vio_mem *mem,
		     const struct vio_buffered_cfg *cfg, struct vio_console **out,
		     struct vio_err *err)
{
	struct vio_console *c = calloc(1, sizeof(*c));
	int rc = c ? vio_buffered_open(part, mem, &kind, cfg, &c->d, err)
		   : vio_err_set(err, -ENOMEM, "no memory for the %s", kind.device);

	if (rc) {
		free(c);
		return rc;
	}
	*out = c;
	return 0;
}

void vio_console_close(struct vio_console *c)
{
	if (c)
		vio_buffered_close(c->d);
	free(c);
}

const struct vio_transport_info *vio_console_get_info(const struct vio_console *c)
{
	return &c->d->info;
}

bool vio_console_size(const struct vio_console *c, uint16_t *cols, uint16_t *rows)
{
	struct virtio_console_config cfg = {0};
	const struct vio_transport_info *i = &c->d->info;

	if (!(i->features >> VIRTIO_CONSOLE_F_SIZE & 1))
		return false;
	memcpy(&cfg, i->config, i->config_len < sizeof(cfg) ? i->config_len : sizeof(cfg));
	*cols = vio_le16(cfg.cols);
	*rows = vio_le16(cfg.rows);
	return true;
}

/* Free buffers to the device, to be filled. */
static void console_ask(struct vio_console *c)
{
	struct vio_buf *b;

	while ((b = vio_buffered_get(c->d, RECEIVEQ)) != NULL) {
		b->len = kind.queue[RECEIVEQ].len;
		if (vio_buffered_post(c->d, RECEIVEQ, b)) {
			vio_buffered_put(c->d, RECEIVEQ, b);
			return;
		}
	}
}

int vio_console_read(struct vio_console *c, void *to, uint32_t len)
{
	uint32_t done = 0;

	while (done < len) {
		struct vio_buf *b = c->now;
		uint32_t n;

		if (!b) {
			console_ask(c);
			b = c->now = vio_buffered_take(c->d, RECEIVEQ, &c->why);
			if (!b)
				break;
			b->at = 0;
		}
		n = b->len - b->at < len - done ? b->len - b->at : len - done;
		memcpy((uint8_t *)to + done, b->va + b->at, n);
		done += n;
		b->at += n;
		if (b->at == b->len) {
			vio_buffered_put(c->d, RECEIVEQ, b);
			c->now = NULL;
		}
	}
	return done ? (int)done : c->why;
}

/* What the device has sent is free again. */
static void console_reclaim(struct vio_console *c)
{
	struct vio_buf *b;

	while ((b = vio_buffered_take(c->d, TRANSMITQ, &c->why)) != NULL)
		vio_buffered_put(c->d, TRANSMITQ, b);
}

bool vio_console_room(struct vio_console *c)
{
	console_reclaim(c);
	if (!c->spare)
		c->spare = vio_buffered_get(c->d, TRANSMITQ);
	return c->spare != NULL;
}

int vio_console_write(struct vio_console *c, const void *from, uint32_t len)
{
	uint32_t done = 0;

	while (done < len && vio_console_room(c)) {
		struct vio_buf *b = c->spare;
		uint32_t n = len - done, most = kind.queue[TRANSMITQ].len;

		b->len = n < most ? n : most;
		memcpy(b->va, (const uint8_t *)from + done, b->len);
		n = b->len;
		if (vio_buffered_post(c->d, TRANSMITQ, b))
			break;
		c->spare = NULL;
		done += n;
	}
	return done ? (int)done : c->why;
}

unsigned vio_console_unsent(struct vio_console *c)
{
	console_reclaim(c);
	return vio_buffered_posted(c->d, TRANSMITQ);
}

void vio_console_idle(struct vio_console *c, struct pollfd *fds, unsigned n_fds,
		      uint64_t timeout_ns)
{
	vio_buffered_idle(c->d, fds, n_fds, timeout_ns);
}
