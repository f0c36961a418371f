/* SPDX-License-Identifier: BSD-3-Clause */
/* An adapter's life, its CRQ, and what it does with each message. */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "server/head/adapter_priv.h"
#include "vio/atomics.h"
#include "vio/cycles.h"

/* ------------------------------------------------------------------- from the guest ---- */

/* False: enough for this turn. */
static bool dispatch(struct vio_adapter *a, const struct vio_msg *m)
{
	uint8_t why = VIO_ST_BAD_MESSAGE;
	struct vio_msg op;

	switch (vio_sfsm_rx(&a->fsm, m, &why)) {
	case VIO_TODO_KICK:
		vio_akick(a, m);
		return true;
	case VIO_TODO_NOTHING:
		why = VIO_ST_OK;
		break;
	case VIO_TODO_WRITE_HEADER:
		why = vio_aprobe(a, m);
		break;
	case VIO_TODO_WRITE_CONFIG:
		why = vio_aconfig(a, m);
		break;
	case VIO_TODO_READ_CHOICE:
		why = vio_achoice(a);
		break;
	case VIO_TODO_QUEUE:
		why = vio_aqueue_part(a, m);
		break;
	case VIO_TODO_CONFIG_SET:
		why = vio_aconfig_set(a, m);
		break;
	case VIO_TODO_START:
		why = vio_achoice_again(a);
		if (why == VIO_ST_OK)
			why = vio_astart(a);
		if (why != VIO_ST_OK)
			break;
		vio_aop_begin(a, VIO_AOP_START, m);
		return true;
	case VIO_TODO_WINDOW_ADD:
		/* An accept, a mapping, DPDK's table and its devices: a fraction of a millisecond. */
		if (vio_awindow_add(a, m, &op))
			vio_aop_begin(a, VIO_AOP_WINDOW_ADD, &op);
		return false;
	case VIO_TODO_WINDOW_DEL:
		if (vio_awindow_del(a, m))
			vio_aop_begin(a, VIO_AOP_WINDOW_DEL, m);
		return true;
	case VIO_TODO_RESET:
		vio_counter_add(&a->seen.resets, 1);
		vio_aop_begin(a, VIO_AOP_RESET, m);
		return true;
	case VIO_TODO_REFUSE:
		break;
	}
	vio_adone(a, m, why);
	return true;
}

/* What the transport event in byte 1 of an entry says about the partner. */
static const char *lost_text(uint64_t hi)
{
	switch (hi >> 48 & 0xff) {
	case CRQ_XPORT_PARTNER_FAILED:
		return "its partition has ended";
	case CRQ_XPORT_PARTNER_DEREGISTERED:
		return "it has closed its adapter";
	case CRQ_XPORT_SUSPENDED:
		return "it is suspended";
	default:
		return "the connection is closed";
	}
}

static void resume(struct vio_adapter *a)
{
	uint64_t hi, lo;
	int64_t rc;

	rc = PHYP_RETRY(VIO_ADAPTER_RETRIES, h_enable_crq(a->vcpu, a->u->unit));
	a->todo = phyp_rc_busy(rc) ? VIO_ATODO_ENABLE : VIO_ATODO_NOTHING;
	if (a->todo != VIO_ATODO_NOTHING)
		return;
	vio_link_hello(&a->link, &hi, &lo);
	vio_asend(a, hi, lo);
}

/* False: enough for this turn. */
static bool entry(struct vio_adapter *a, uint64_t hi, uint64_t lo)
{
	bool reply = false;
	uint64_t rhi = 0, rlo = 0;
	struct vio_msg m;

	vio_atrace(a, hi, lo, true);
	switch (vio_link_rx(&a->link, hi, lo, &reply, &rhi, &rlo)) {
	case VIO_LINK_MESSAGE:
		return vio_msg_decode(hi, lo, &m) < 0 || dispatch(a, &m);
	case VIO_LINK_RESTARTED:
		vio_asay(a, "%s: it has started anew; its device begins from the beginning",
			 a->u->partner);
		a->has_reply = reply;
		a->reply_hi = rhi;
		a->reply_lo = rlo;
		vio_aop_begin(a, VIO_AOP_RESTART, NULL);
		return true;
	case VIO_LINK_LOST:
		vio_counter_add(&a->seen.link_losses, 1);
		vio_asay(a, "%s: gone: %s; its device waits for its return", a->u->partner,
			 lost_text(hi));
		vio_aop_begin(a, VIO_AOP_LOST, NULL);
		return true;
	case VIO_LINK_RESUMED:
		resume(a);
		break;
	case VIO_LINK_CAME_UP:
	case VIO_LINK_NOTHING:
	case VIO_LINK_IGNORED:
		break;
	}
	if (reply)
		vio_asend(a, rhi, rlo);
	return true;
}

unsigned vio_adapter_crq(struct vio_adapter *a)
{
	uint64_t hi, lo;
	unsigned n = 0;

	if (vio_unlikely(phyp_event_take(a->vcpu, a->u->unit))) {
		a->event = true;
		vio_aattend(a);
	}
	/* What is left behind here is taken up again by vio_adapter_service(): no interrupt announces it. */
	while (a->op == VIO_AOP_NONE && a->out_n == 0 && !a->stopping && !a->event &&
	       phyp_crq_pop(&a->crq, &hi, &lo)) {
		bool on = entry(a, hi, lo);

		if (++n == VIO_ADAPTER_CRQ_BURST || !on) {
			vio_aattend(a);
			break;
		}
	}
	return n;
}

/* ----------------------------------------------------------------------------- turns ---- */

bool vio_adapter_busy(const struct vio_adapter *a)
{
	return vio_load_relaxed(&a->attention);
}

void vio_adapter_config_changed(struct vio_adapter *a)
{
	vio_store_release(&a->config_changed, true);
	vio_aattend(a); /* pair Q */
	phyp_vcpu_prod(a->vcpu);
}

void vio_adapter_wake(struct vio_adapter *a)
{
	vio_store_release(&a->wake, true);
	vio_aattend(a); /* pair Q */
	phyp_vcpu_prod(a->vcpu);
}

static void wake_queues(struct vio_adapter *a)
{
	struct vio_squeue *q;

	vio_aqueues(a, i, q) vio_awake(a, q);
}

static int register_crq(struct vio_adapter *a, struct vio_err *err)
{
	uint64_t hi, lo;
	int64_t rc;

	memset(a->cfg.mem, 0, VIO_ADAPTER_CRQ_BYTES);
	a->crq = (struct phyp_crq){.entry = a->cfg.mem,
				   .n = VIO_ADAPTER_CRQ_BYTES / CRQ_ENTRY_BYTES};
	rc = PHYP_RETRY(VIO_ADAPTER_RETRIES,
			h_reg_crq(a->vcpu, a->u->unit, ioba_add(a->u->window, a->cfg.mem_gla.v),
				  VIO_ADAPTER_CRQ_BYTES));
	/* A partition that is stopped inside a call keeps the queue: the others don't wait for it. */
	if (phyp_rc_busy(rc) && a->todo != VIO_ATODO_REGISTER)
		vio_asay(
			a,
			"%s: its queue is held by a partition that stands still; it is registered as soon as that goes on",
			a->u->partner);
	a->todo = phyp_rc_busy(rc) ? VIO_ATODO_REGISTER : VIO_ATODO_NOTHING;
	if (phyp_rc_busy(rc))
		return 0;
	/* Closed: registered, the partner is not there yet. */
	if (rc != H_SUCCESS && rc != H_CLOSED)
		return vio_err_set(err, rc == H_RESOURCE ? -EBUSY : phyp_rc_errno(rc),
				   "unit 0x%x: H_REG_CRQ: %s%s", a->u->unit, phyp_rc_name(rc),
				   rc == H_RESOURCE ? " (this adapter's queue is in use)" : "");
	phyp_irq_route(a->vcpu, a->u->unit);
	h_vio_signal(a->vcpu, a->u->unit, VIO_SIGNAL_ON);
	vio_link_hello(&a->link, &hi, &lo);
	vio_asend(a, hi, lo);
	return 0;
}

/* This end was frozen, and its device is at rest: reset, thaw, and register as at the start. */
static void adapter_thaw(struct vio_adapter *a)
{
	int64_t rc = h_set_pe_state(a->vcpu, a->u->unit, PE_RESET);

	if (rc == H_SUCCESS && h_set_pe_state(a->vcpu, a->u->unit, PE_NORMAL) == H_SUCCESS)
		a->todo = VIO_ATODO_REGISTER; /* else in a later turn */
}

/* A call on the queue that was answered H_BUSY, once more. */
static void crq_again(struct vio_adapter *a)
{
	struct vio_err err = {""};

	if (a->todo == VIO_ATODO_THAW && a->op == VIO_AOP_NONE)
		adapter_thaw(a);
	if (a->todo == VIO_ATODO_THAW)
		return;
	if (a->todo == VIO_ATODO_ENABLE)
		resume(a);
	else if (register_crq(a, &err) < 0)
		vio_asay(a, "%s: %s", a->u->partner, err.msg);
}

bool vio_adapter_service(struct vio_adapter *a)
{
	bool more;

	/* Taken before looking: a queue that faults from here on sets it again (pair Q). */
	(void)vio_xchg_acq_rel(&a->attention, false);
	if (vio_unlikely(a->todo != VIO_ATODO_NOTHING))
		crq_again(a);
	vio_aflush(a);
	vio_adrain_begin(a);
	vio_afaults(a);
	vio_adrain_step(a);
	if (vio_xchg_acq_rel(&a->config_changed, false)) /* pair Q */
		vio_aconfig_again(a);
	if (vio_xchg_acq_rel(&a->wake, false)) /* pair Q */
		wake_queues(a);
	if (a->retired)
		vio_areap(a, false);
	if (a->op != VIO_AOP_NONE)
		vio_aop_step(a);
	if (vio_unlikely(a->event) && a->op == VIO_AOP_NONE && !a->stopping)
		vio_afrozen(a);
	if (a->op == VIO_AOP_NONE && a->stopping && !a->stopped)
		vio_aop_begin(a, VIO_AOP_STOP, NULL);
	vio_adapter_crq(a);
	more = a->todo != VIO_ATODO_NOTHING || a->event || a->op != VIO_AOP_NONE || a->out_n > 0 ||
	       a->retired || vio_adrain_due(a) || vio_load_relaxed(&a->attention);
	if (a->stopped)
		more = false;
	if (more)
		vio_aattend(a);
	return more;
}

/* ------------------------------------------------------------------------ life ---- */

/*
 * TCEs for all of the partition's memory, IOBA = window + logical address. `list`: a page of ours
 * to hand them over.
 */
static int map_local(struct vio_adapter *a, struct vio_err *err)
{
	const struct phyp_unit_info *u = a->u;
	uint64_t size = phyp_mem_size(a->part), page = 1ull << u->page_shift;
	uint64_t *list = a->cfg.mem;
	int64_t rc = H_SUCCESS;

	if (size > u->window_bytes)
		return vio_err_set(err, -ENOSPC,
				   "unit 0x%x: its DMA window of %" PRIu64
				   " MiB is smaller than the partition's %" PRIu64
				   " MiB; give the adapter a larger window_mib",
				   u->unit, u->window_bytes >> 20, size >> 20);
	for (uint64_t at = 0; at < size;) {
		uint64_t n = 0;

		for (; n < TCE_MAX_MULTI && at + n * page < size; n++)
			list[n] = htobe64((at + n * page) | TCE_READ | TCE_WRITE);
		rc = PHYP_RETRY(VIO_ADAPTER_RETRIES,
				h_put_tce_indirect(a->vcpu, u->liobn, ioba_add(u->window, at),
						   a->cfg.mem_gla, n));
		if (rc != H_SUCCESS)
			return vio_err_set(err, phyp_rc_errno(rc),
					   "unit 0x%x: H_PUT_TCE_INDIRECT at 0x%" PRIx64 ": %s",
					   u->unit, u->window.v + at, phyp_rc_name(rc));
		at += n * page;
	}
	return 0;
}

static void unmap_local(struct vio_adapter *a)
{
	uint64_t size = phyp_mem_size(a->part), page = 1ull << a->u->page_shift;

	for (uint64_t at = 0; at < size; at += TCE_MAX_MULTI * page) {
		uint64_t left = (size - at + page - 1) / page;

		h_stuff_tce(a->vcpu, a->u->liobn, ioba_add(a->u->window, at), 0,
			    left < TCE_MAX_MULTI ? left : TCE_MAX_MULTI);
	}
}

static int check_cfg(const struct vio_adapter_cfg *c, const struct phyp_unit_info *u,
		     struct vio_err *err)
{
	if (!u || !u->is_server)
		return vio_err_set(err, -ENODEV, "unit %u: %s", c->unit,
				   u ? "is a client's end; a VIO server needs the server's end"
				     : "no such virtual adapter");
	if (c->num_queues < 1 || c->num_queues > VIO_MAX_QUEUES)
		return vio_err_set(err, -EINVAL, "%u queues: 1 to %u are possible", c->num_queues,
				   VIO_MAX_QUEUES);
	if (c->queue_size < 2 || c->queue_size > VIO_MAX_QUEUE_SIZE ||
	    (c->queue_size & (c->queue_size - 1)))
		return vio_err_set(err, -EINVAL, "queue size %u: a power of two from 2 to %u",
				   c->queue_size, VIO_MAX_QUEUE_SIZE);
	if (c->proto < VIO_PROTO_V1 || c->proto > VIO_PROTO_LATEST)
		return vio_err_set(err, -EINVAL, "protocol version %u: 1 to %u are known", c->proto,
				   VIO_PROTO_LATEST);
	if (!c->mem || c->mem_len < VIO_ADAPTER_CRQ_BYTES || c->mem_gla.v % CRQ_PAGE_BYTES)
		return vio_err_set(
			err, -ENOMEM,
			"unit 0x%x: no memory of the server partition is left for its queues; give the partition more",
			u->unit);
	return 0;
}

static void free_all(struct vio_adapter *a)
{
	for (unsigned i = 0; a->q && i < a->cfg.num_queues; i++)
		free(a->q[i]);
	free(a->q);
	free(a->op_table); /* of a withdrawal that the end of the process cut short */
	free(a->place);
	free(a);
}

/* The queues' structs live as long as the adapter, because telemetry looks at them from another thread. */
static int allocate(struct vio_adapter *a, struct vio_err *err)
{
	uint16_t n = a->cfg.num_queues;

	a->place = calloc(n, sizeof(a->place[0]));
	a->q = calloc(n, sizeof(a->q[0]));
	for (unsigned i = 0; a->q && i < n; i++) {
		size_t bytes = VIO_ALIGN_UP(sizeof(*a->q[i]), VIO_CACHE_LINE);

		a->q[i] = aligned_alloc(VIO_CACHE_LINE, bytes);
		if (!a->q[i])
			return vio_err_set(err, -ENOMEM, "no memory for %u queues", n);
		memset(a->q[i], 0, bytes);
	}
	return a->place && a->q ? 0 : vio_err_set(err, -ENOMEM, "no memory for %u queues", n);
}

int vio_adapter_create(struct phyp_vcpu *vcpu, const struct vio_adapter_cfg *cfg,
		       const struct vio_env *env, struct vio_adapter **out, struct vio_err *err)
{
	struct phyp_part *part = phyp_vcpu_part(vcpu);
	const struct phyp_unit_info *u =
		cfg->unit < phyp_n_units(part) ? phyp_unit(part, cfg->unit) : NULL;
	struct vio_adapter *a;
	int rc = check_cfg(cfg, u, err);

	if (rc < 0)
		return rc;
	a = aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*a), VIO_CACHE_LINE));
	if (!a)
		return vio_err_set(err, -ENOMEM, "no memory for an adapter");
	memset(a, 0, sizeof(*a));
	a->vcpu = vcpu;
	a->part = part;
	a->u = u;
	a->cfg = *cfg;
	a->env = *env;
	vio_link_init(&a->link, vio_now_ns());
	vio_sfsm_init(&a->fsm, cfg->proto);
	a->offered = vio_aoffer(a);
	rc = allocate(a, err);
	if (rc == 0)
		rc = map_local(a, err);
	if (rc == 0)
		rc = register_crq(a, err);
	if (rc < 0) {
		free_all(a);
		return rc;
	}
	vio_adrain_watch(a);
	vio_aseen_update(a);
	if (a->todo != VIO_ATODO_NOTHING)
		vio_aattend(a);
	*out = a;
	return 0;
}

void vio_adapter_stop(struct vio_adapter *a)
{
	if (a->stopping)
		return;
	a->stopping = true;
	vio_awindows_lost(a, VIO_ST_SHUTDOWN);
	vio_aattend(a);
}

void vio_adapter_destroy(struct vio_adapter *a)
{

	if (!a)
		return;
	/* Still busy: phypd closes it when the process has ended, and so does who registers it next. */
	(void)PHYP_RETRY(VIO_ADAPTER_RETRIES, h_free_crq(a->vcpu, a->u->unit));
	/* With requests still at the backend (the process is ending), their memory must stay where it is. */
	if (a->active && !vio_adrained(a)) {
		vio_adrain_never(a);
		return;
	}
	vio_afree_queues(a);
	vio_awindows_return(a, UINT_MAX);
	phyp_on_rescind(a->part, a->u->unit, NULL);
	vio_areap(a, true);
	unmap_local(a);
	free_all(a);
}

/* ---------------------------------------------------------------------- telemetry ---- */

void vio_adapter_get_info(const struct vio_adapter *a, struct vio_adapter_info *info)
{
	const struct vio_aseen *s = &a->seen;

	memset(info, 0, sizeof(*info));
	info->unit = a->u->unit;
	memcpy(info->partner, a->u->partner, sizeof(info->partner));
	info->state = vio_load_relaxed(&s->state);
	info->version = vio_load_relaxed(&s->version);
	info->last_fault = vio_load_relaxed(&s->last_fault);
	snprintf(info->arm.name, sizeof(info->arm.name), "custom");
	info->arm.ring = vio_load_relaxed(&s->ring);
	info->arm.payload = vio_load_relaxed(&s->payload);
	info->arm.notify = vio_load_relaxed(&s->notify);
	info->features = vio_load_relaxed(&s->features);
	info->queues = vio_load_relaxed(&s->queues);
	info->windows = vio_load_relaxed(&s->windows);
	info->window_bytes = vio_load_relaxed(&s->window_bytes);
	info->resets = vio_load_relaxed(&s->resets);
	info->needs_resets = vio_load_relaxed(&s->needs_resets);
	info->link_losses = vio_load_relaxed(&s->link_losses);
}

const struct vio_squeue *vio_adapter_queue(const struct vio_adapter *a, unsigned i)
{
	uint64_t active = vio_load_acquire(&a->active); /* pair T */

	for (unsigned at = 0; at < a->cfg.num_queues; at++) {
		if ((active >> at & 1) && i-- == 0)
			return a->q[at];
	}
	return NULL;
}
