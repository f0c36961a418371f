/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages as lines of a sequence diagram (--trace). Not the data path. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "proto/msg.h"

/* A line under construction in the caller's buffer; what does not fit is cut. */
struct line {
	char *buf;
	size_t len, used;
};

__attribute__((format(printf, 2, 3))) static void put(struct line *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (l->used >= l->len)
		return;
	va_start(ap, fmt);
	n = vsnprintf(l->buf + l->used, l->len - l->used, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->used += (size_t)n;
}

static void trace_begin(struct line *l, char *buf, size_t len, bool to_server)
{
	*l = (struct line){.buf = buf, .len = len};
	put(l, "%s", to_server ? "guest  -> server  " : "server -> guest   ");
}

static void put_queue_part(struct line *l, const struct vio_msg *m)
{
	static const char *const parts[] = {"desc", "avail", "used"};

	if (m->arg8 < VIO_ARRAY_SIZE(parts))
		put(l, " queue=%u %s ioba=0x%" PRIx64, m->arg16, parts[m->arg8], m->arg);
	else if (m->arg8 == VIO_QUEUE_SIZE)
		put(l, " queue=%u size entries=%" PRIu64, m->arg16, m->arg);
	else if (m->arg8 == VIO_QUEUE_BASE)
		put(l, " queue=%u base index=%" PRIu64, m->arg16, m->arg);
	else
		put(l, " queue=%u part=%u? arg=0x%" PRIx64, m->arg16, m->arg8, m->arg);
}

static void put_args(struct line *l, const struct vio_msg *m)
{
	switch (m->op) {
	case VIO_OP_PROBE:
		put(l, " header=0x%" PRIx64 " bytes=%u", m->arg, m->arg16);
		break;
	case VIO_OP_ACKNOWLEDGE:
		put(l, " config=0x%" PRIx64 " bytes=%u", m->arg, m->arg16);
		break;
	case VIO_OP_QUEUE:
		put_queue_part(l, m);
		break;
	case VIO_OP_WINDOW_ADD:
		put(l, " window_desc=0x%" PRIx64, m->arg);
		break;
	case VIO_OP_WINDOW_DEL:
		put(l, " id=%u", m->arg16);
		break;
	case VIO_OP_WINDOW_LOST:
		put(l, " id=%u: %s", m->arg16, vio_status_text(m->status));
		break;
	case VIO_OP_KICK:
	case VIO_OP_USED:
		put(l, " queue=%u", m->arg16);
		break;
	case VIO_OP_NEEDS_RESET:
		if (m->arg16 != 0xffff)
			put(l, " queue=%u", m->arg16);
		put(l, " detail=0x%" PRIx64 ": %s", m->arg, vio_status_text(m->status));
		break;
	default: /* no arguments, or a reply */
		break;
	}
}

static void put_reply(struct line *l, const struct vio_msg *m)
{
	if (m->status != VIO_ST_OK) {
		put(l, " refused (%u): %s", m->status, vio_status_text(m->status));
		return;
	}
	put(l, " ok");
	if (m->op == (VIO_OP_WINDOW_ADD | VIO_OP_REPLY) ||
	    m->op == (VIO_OP_WINDOW_DEL | VIO_OP_REPLY))
		put(l, " id=%u", m->arg16);
}

void vio_msg_trace(char *buf, size_t len, const struct vio_msg *m, bool to_server)
{
	const char *name = vio_op_name(m->op);
	struct line l;

	trace_begin(&l, buf, len, to_server);
	if (name[0] == '?') {
		put(&l,
		    "unknown op 0x%02x    v%u status=%u arg8=0x%02x arg16=0x%04x arg=0x%" PRIx64,
		    m->op, m->version, m->status, m->arg8, m->arg16, m->arg);
		return;
	}
	put(&l, "%-18s v%u", name, m->version);
	if (m->op & VIO_OP_REPLY)
		put_reply(&l, m);
	else
		put_args(&l, m);
}

static const char *transport_event_text(uint8_t event)
{
	switch (event) {
	case CRQ_XPORT_PARTNER_FAILED:
		return "partner failed";
	case CRQ_XPORT_PARTNER_DEREGISTERED:
		return "partner deregistered its CRQ";
	case CRQ_XPORT_SUSPENDED:
		return "partner suspended";
	case CRQ_XPORT_PREPARE_SUSPEND:
		return "prepare for suspend";
	case CRQ_XPORT_RESUMED:
		return "resumed";
	default:
		return "unknown";
	}
}

void vio_crq_trace(char *buf, size_t len, uint64_t hi, uint64_t lo, bool to_server)
{
	uint8_t valid = (uint8_t)(hi >> 56), format = (uint8_t)(hi >> 48);
	struct vio_msg m;
	struct line l;

	if (vio_msg_decode(hi, lo, &m) == 0) {
		vio_msg_trace(buf, len, &m, to_server);
		return;
	}
	if (valid == CRQ_TRANSPORT) {
		/* Nobody but the hypervisor can write these. */
		l = (struct line){.buf = buf, .len = len};
		put(&l, "phyp   -> %-6s  transport event 0x%02x: %s",
		    to_server ? "server" : "guest", format, transport_event_text(format));
		return;
	}
	trace_begin(&l, buf, len, to_server);
	if (valid == CRQ_INIT && format == CRQ_INIT_REQ)
		put(&l, "INIT");
	else if (valid == CRQ_INIT && format == CRQ_INIT_COMPLETE)
		put(&l, "INIT COMPLETE");
	else
		put(&l, "unknown entry %016" PRIx64 " %016" PRIx64, hi, lo);
}
