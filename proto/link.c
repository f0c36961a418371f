/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0 */
/* The CRQ connection, the same on both sides. docs/protocol.md, section 4. */
#include "proto/fsm.h"

static uint64_t init_entry(uint8_t format)
{
	return (uint64_t)CRQ_INIT << 56 | (uint64_t)format << 48;
}

/* One row an entry type; what happens while down and while up. */
static const struct rule {
	uint8_t valid, format;
	bool reply; /* INIT COMPLETE */
	struct {
		enum vio_link_state to;
		enum vio_link_event event;
	} when[2]; /* by enum vio_link_state */
} rules[] = {
	{CRQ_INIT,
	 CRQ_INIT_REQ,
	 true,
	 {{VIO_LINK_UP, VIO_LINK_CAME_UP}, {VIO_LINK_UP, VIO_LINK_RESTARTED}}},
	/* While up: both sides sent INIT and the two crossed; the partner's own INIT brought us up. */
	{CRQ_INIT,
	 CRQ_INIT_COMPLETE,
	 false,
	 {{VIO_LINK_UP, VIO_LINK_CAME_UP}, {VIO_LINK_UP, VIO_LINK_NOTHING}}},
	{CRQ_TRANSPORT,
	 CRQ_XPORT_PARTNER_FAILED,
	 false,
	 {{VIO_LINK_DOWN, VIO_LINK_NOTHING}, {VIO_LINK_DOWN, VIO_LINK_LOST}}},
	{CRQ_TRANSPORT,
	 CRQ_XPORT_PARTNER_DEREGISTERED,
	 false,
	 {{VIO_LINK_DOWN, VIO_LINK_NOTHING}, {VIO_LINK_DOWN, VIO_LINK_LOST}}},
	{CRQ_TRANSPORT,
	 CRQ_XPORT_SUSPENDED,
	 false,
	 {{VIO_LINK_DOWN, VIO_LINK_NOTHING}, {VIO_LINK_DOWN, VIO_LINK_LOST}}},
	/* A warning; the suspension itself follows as event 6. */
	{CRQ_TRANSPORT,
	 CRQ_XPORT_PREPARE_SUSPEND,
	 false,
	 {{VIO_LINK_DOWN, VIO_LINK_NOTHING}, {VIO_LINK_UP, VIO_LINK_NOTHING}}},
	/* A suspension has taken the link down before; without one there is nothing to resume. */
	{CRQ_TRANSPORT,
	 CRQ_XPORT_RESUMED,
	 false,
	 {{VIO_LINK_DOWN, VIO_LINK_RESUMED}, {VIO_LINK_UP, VIO_LINK_IGNORED}}},
};

void vio_link_init(struct vio_link *l, uint64_t era)
{
	l->state = VIO_LINK_DOWN;
	l->era = era;
}

void vio_link_hello(struct vio_link *l, uint64_t *hi, uint64_t *lo)
{
	l->era++;
	l->era += l->era == 0; /* 0 is of a partner that knows no era */
	*hi = init_entry(CRQ_INIT_REQ);
	*lo = l->era;
}

/* An answer to an INIT of before a restart, of this end or of the queue. */
static bool stale(const struct vio_link *l, uint8_t valid, uint8_t format, uint64_t lo)
{
	return valid == CRQ_INIT && format == CRQ_INIT_COMPLETE && lo != 0 && lo != l->era;
}

enum vio_link_event vio_link_rx(struct vio_link *l, uint64_t hi, uint64_t lo, bool *reply,
				uint64_t *rhi, uint64_t *rlo)
{
	uint8_t valid = (uint8_t)(hi >> 56), format = (uint8_t)(hi >> 48);
	enum vio_link_event event;

	*reply = false;
	if (stale(l, valid, format, lo))
		return VIO_LINK_IGNORED;
	if (valid == CRQ_CMD_RSP)
		return l->state == VIO_LINK_UP ? VIO_LINK_MESSAGE : VIO_LINK_IGNORED;
	for (const struct rule *r = rules; r < rules + VIO_ARRAY_SIZE(rules); r++) {
		if (r->valid != valid || r->format != format)
			continue;
		event = r->when[l->state].event;
		l->state = r->when[l->state].to;
		if (r->reply) {
			*reply = true;
			*rhi = init_entry(CRQ_INIT_COMPLETE);
			*rlo = lo; /* the partner's era */
		}
		return event;
	}
	return VIO_LINK_IGNORED;
}
