/* SPDX-License-Identifier: BSD-3-Clause */
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "guest/dev/rng/rng.h"

enum { REQUESTQ };

static const struct vio_buffered_kind kind = {
	.device = "random number generator",
	.type = VIRTIO_ID_RNG,
	.n_queues = 1,
	.queue = {[REQUESTQ] = {.to_guest = true, .buffers = 8, .len = 512}},
};

struct vio_rng {
	struct vio_buffered *d;
	struct vio_buf *now; /* being read, or NULL */
};

int vio_rng_open(struct phyp_part *part, struct vio_mem *mem, const struct vio_buffered_cfg *cfg,
		 struct vio_rng **out, struct vio_err *err)
{
	struct vio_rng *r = calloc(1, sizeof(*r));
	int rc = r ? vio_buffered_open(part, mem, &kind, cfg, &r->d, err)
		   : vio_err_set(err, -ENOMEM, "no memory for the %s", kind.device);

	if (rc) {
		free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void vio_rng_close(struct vio_rng *r)
{
	if (r)
		vio_buffered_close(r->d);
	free(r);
}

const struct vio_transport_info *vio_rng_get_info(const struct vio_rng *r)
{
	return &r->d->info;
}

/* All free buffers to the device. */
static void rng_ask(struct vio_rng *r)
{
	struct vio_buf *b;

	while ((b = vio_buffered_get(r->d, REQUESTQ)) != NULL) {
		b->len = kind.queue[REQUESTQ].len;
		if (vio_buffered_post(r->d, REQUESTQ, b)) {
			vio_buffered_put(r->d, REQUESTQ, b);
			return;
		}
	}
}

int vio_rng_read(struct vio_rng *r, void *to, uint32_t len)
{
	uint32_t done = 0;
	int rc = 0;

	while (done < len) {
		struct vio_buf *b = r->now;
		uint32_t n;

		if (!b) {
			rng_ask(r);
			b = r->now = vio_buffered_take(r->d, REQUESTQ, &rc);
			if (!b)
				break;
			b->at = 0;
		}
		n = b->len - b->at < len - done ? b->len - b->at : len - done;
		memcpy((uint8_t *)to + done, b->va + b->at, n);
		memset(b->va + b->at, 0, n); /* a random byte is used once */
		done += n;
		b->at += n;
		if (b->at == b->len) {
			vio_buffered_put(r->d, REQUESTQ, b);
			r->now = NULL;
		}
	}
	return done ? (int)done : rc;
}

void vio_rng_idle(struct vio_rng *r, uint64_t timeout_ns)
{
	vio_buffered_idle(r->d, NULL, 0, timeout_ns);
}
