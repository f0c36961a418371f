/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest/payload/slots.h"

#include <stdlib.h>
#include <string.h>

#include "vio/atomics.h"

int vio_slots_create(const struct vio_gpayload_ops *ops, const struct vio_gpayload_cfg *cfg,
		     struct vio_gpayload **out, struct vio_err *err)
{
	const uint64_t bytes = (uint64_t)cfg->slot_len * cfg->n_slots;
	uint8_t *base = bytes > 0 ? phyp_mem(cfg->part, cfg->bounce, bytes) : NULL;
	struct vio_slots *s;

	if (!base || cfg->n_slots == VIO_SLOT_NONE)
		return vio_err_set(
			err, -EINVAL,
			"payload %s: %u bounce buffers of %u bytes at 0x%llx are not memory of this partition",
			ops->name, cfg->n_slots, cfg->slot_len, (unsigned long long)cfg->bounce.v);
	s = calloc(1, sizeof(*s));
	if (s)
		s->free = calloc(cfg->n_slots, sizeof(s->free[0]));
	if (!s || !s->free) {
		free(s);
		return vio_err_set(err, -ENOMEM, "payload %s: no memory for %u slots", ops->name,
				   cfg->n_slots);
	}
	s->p.ops = ops;
	s->p.cfg = *cfg;
	s->base = base;
	s->n_free = cfg->n_slots;
	for (uint32_t i = 0; i < s->n_free; i++)
		s->free[i] = s->n_free - 1 - i; /* slot 0 is on top */
	*out = &s->p;
	return 0;
}

void vio_slots_destroy(struct vio_gpayload *p)
{
	struct vio_slots *s = vio_slots_of(p);

	free(s->free);
	free(s);
}

int vio_slots_get(struct vio_slots *s, struct vio_gbuf *b)
{
	const struct vio_gpayload_cfg *c = &s->p.cfg;
	const void *app = phyp_mem(c->part, b->app, b->len);
	uint32_t slot;

	if (vio_unlikely(b->len > c->slot_len))
		return -EMSGSIZE;
	if (vio_unlikely(!app))
		return -EFAULT; /* found here, so that put needs no error */
	if (vio_unlikely(s->n_free == 0))
		return -EAGAIN;
	slot = s->free[--s->n_free];
	b->slot = slot;
	b->dev = gla_add(c->bounce, (uint64_t)slot * c->slot_len);
	if (!b->dev_writes) {
		memcpy(s->base + (size_t)slot * c->slot_len, app, b->len);
		vio_counter_add(&c->counters->cpu_bytes, b->len);
	}
	return 0;
}

void vio_slots_put(struct vio_slots *s, struct vio_gbuf *b)
{
	const struct vio_gpayload_cfg *c = &s->p.cfg;

	if (b->dev_writes) {
		memcpy(phyp_mem(c->part, b->app, b->len), s->base + (size_t)b->slot * c->slot_len,
		       b->len);
		vio_counter_add(&c->counters->cpu_bytes, b->len);
	}
	s->free[s->n_free++] = b->slot;
}
