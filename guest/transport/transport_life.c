/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest transport: from open to close, and PAPR's reset of a CRQ. */
#include <stdlib.h>
#include <string.h>

#include "guest/transport/transport_priv.h"
#include "vio/cycles.h"

/* Reset and thawed. False: something of before may still touch memory. */
static bool unfreeze(struct vio_transport *t)
{
	uint64_t since = vio_now_ns();
	int64_t rc;

	while ((rc = h_set_pe_state(t->vcpu, t->u->unit, PE_RESET)) == H_PARTIAL ||
	       phyp_rc_busy(rc))
		if (!vio_t_again(t->vcpu, since, VIO_T_THAW_NS))
			return false;
	return rc == H_SUCCESS && h_set_pe_state(t->vcpu, t->u->unit, PE_NORMAL) == H_SUCCESS;
}

static int crq_register(struct vio_transport *t, struct vio_err *err)
{
	uint64_t since = vio_now_ns();
	uint64_t *entry = vio_t_page(t, VIO_T_CRQ);
	int64_t rc;
	int rc_alias;

	for (unsigned i = 0; i < VIO_T_PAGE / sizeof(*entry); i++)
		vio_store_relaxed(&entry[i], 0);
	t->crq = (struct phyp_crq){.entry = entry, .n = VIO_T_PAGE / CRQ_ENTRY_BYTES};
	vio_store_relaxed(&t->slot, entry);
	/* Before the first entry can come: whoever drains the queue may take the partner's INIT at once. */
	vio_t_lock(t);
	vio_link_init(&t->link, vio_now_ns());
	vio_t_new_session(t, VIO_T_DOWN);
	vio_t_unlock(t);
	while (phyp_rc_busy(
		rc = h_reg_crq(t->vcpu, t->u->unit, vio_t_page_at(t, VIO_T_CRQ), VIO_T_PAGE)))
		if (!vio_t_again(t->vcpu, since, VIO_T_BUSY_NS))
			break;
	if (rc == H_R_STATE) /* frozen since it was last in use */
		rc = unfreeze(t) ? h_reg_crq(t->vcpu, t->u->unit, vio_t_page_at(t, VIO_T_CRQ),
					     VIO_T_PAGE)
				 : H_BUSY;
	if (rc == H_RESOURCE || phyp_rc_busy(rc))
		return vio_err_set(err, -EBUSY, "unit %u (0x%x): its CRQ is in use already (%s)",
				   t->cfg.unit, t->u->unit, phyp_rc_name(rc));
	if (rc != H_SUCCESS && rc != H_CLOSED)
		return vio_err_set(err, -EIO, "unit %u (0x%x): H_REG_CRQ: %s", t->cfg.unit,
				   t->u->unit, phyp_rc_name(rc));
	t->registered = true;
	phyp_irq_route(t->vcpu, t->u->unit);
	/*
	 * A kick costs what it does on the CPU in every arm: without this the hypervisor would map
	 * the server's queue anew, by system calls, for each.
	 */
	rc_alias = phyp_alias_set(t->part, t->u->unit, PHYP_ALIAS_CRQ, err);
	if (rc_alias)
		return rc_alias;
	h_vio_signal(t->vcpu, t->u->unit,
		     VIO_SIGNAL_ON); /* what arrived before is found by the first drain */
	vio_t_lock(t);
	if (rc == H_SUCCESS && t->link.state == VIO_LINK_DOWN)
		vio_t_hello(t, t->vcpu); /* else the server's INIT will come */
	vio_t_unlock(t);
	return 0;
}

/* True: it is free. Not while another partition keeps its lock. */
static bool crq_free(struct vio_transport *t)
{
	uint64_t since = vio_now_ns();

	while (t->registered && phyp_rc_busy(h_free_crq(t->vcpu, t->u->unit)))
		if (!vio_t_again(t->vcpu, since, VIO_T_BUSY_NS))
			return false;
	t->registered = false;
	return true;
}

static int ask_reset(struct vio_transport *t, struct vio_err *err)
{
	struct vio_msg m = {.op = VIO_OP_RESET};
	int rc;

	/* There is no second one before the answer to the first. */
	if (vio_t_gstate(t) == VIO_G_RESETTING)
		return vio_err_set(
			err, -ETIMEDOUT,
			"the VIO server (partition %s) has not answered RESET since it was asked first",
			t->u->partner);
	rc = vio_t_ask(t, t->vcpu, &m, err);
	if (rc)
		return rc;
	vio_t_lock(t);
	vio_t_new_session(t, t->link.state == VIO_LINK_UP ? VIO_T_RESTARTED : VIO_T_DOWN);
	vio_t_unlock(t);
	return 0;
}

int vio_transport_reset(struct vio_transport *t, struct vio_err *err)
{
	struct vio_err again;
	int rc = ask_reset(t, err), rc2;

	if (rc == 0 || rc == -ENOTCONN || rc == -EPIPE)
		return rc;
	/* No answer: PAPR's own reset. The server gets the transport event. */
	if (!crq_free(t)) {
		vio_t_lock(t);
		vio_t_set_state(t, VIO_T_NEEDS_RESET); /* to be tried again */
		vio_t_unlock(t);
		return vio_err_set(
			err, -EALREADY,
			"unit %u (0x%x): its CRQ can't be freed yet, a copy of the server's may be under way",
			t->cfg.unit, t->u->unit);
	}
	rc2 = crq_register(t, &again);
	if (rc2)
		return vio_err_set(err, rc2, "after a reset without an answer: %s", again.msg);
	return rc == -ETIMEDOUT ? rc : -ETIMEDOUT;
}

int vio_transport_thaw(struct vio_transport *t, struct vio_err *err)
{
	int rc;

	if (!unfreeze(t))
		return vio_err_set(err, -EBUSY,
				   "unit %u (0x%x): frozen, and what began before is not over",
				   t->cfg.unit, t->u->unit);
	t->registered = false; /* the reset has freed it */
	rc = crq_register(t, err);
	if (rc == -EBUSY) { /* thawed, and not there yet: the next step tries again */
		vio_t_lock(t);
		vio_t_set_state(t, VIO_T_FROZEN);
		vio_t_unlock(t);
	}
	return rc;
}

bool vio_transport_abandon(struct vio_transport *t)
{
	/*
	 * The CRQ first: without a connection no RDMA call of the server reaches this partition, and
	 * no window is accepted any more.
	 */
	bool freed = crq_free(t);

	return vio_t_void_windows(t, true) && freed;
}

int vio_transport_park(struct vio_transport *t, struct vio_err *err)
{
	int rc = vio_transport_reset(t, err);

	vio_t_lock(t);
	if (rc == 0 && t->state == VIO_T_RESTARTED)
		vio_t_set_state(t, VIO_T_DOWN); /* the link stays up: its loss is heard of */
	vio_t_unlock(t);
	return rc;
}

int vio_transport_open(struct phyp_vcpu *vcpu, struct vio_mem *mem,
		       const struct vio_transport_cfg *cfg, struct vio_transport **out,
		       struct vio_err *err)
{
	struct phyp_part *part = phyp_vcpu_part(vcpu);
	const struct phyp_unit_info *u =
		cfg->unit < phyp_n_units(part) ? phyp_unit(part, cfg->unit) : NULL;
	struct vio_transport *t;
	int rc = vio_arm_check(&cfg->arm, err);

	if (rc)
		return rc;
	if (!u)
		return vio_err_set(
			err, -ENODEV,
			"unit %u: partition %s has %u virtual adapter(s), counted from 0",
			cfg->unit, phyp_name(part), phyp_n_units(part));
	if (u->is_server)
		return vio_err_set(
			err, -ENODEV,
			"unit %u of partition %s is a server end; a guest needs a client end",
			cfg->unit, phyp_name(part));
	t = aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*t), VIO_CACHE_LINE));
	if (!t)
		return vio_err_set(err, -ENOMEM, "no memory for the transport of unit %u",
				   cfg->unit);
	memset(t, 0, sizeof(*t));
	t->vcpu = vcpu;
	t->part = part;
	t->u = u;
	t->cfg = *cfg;
	t->cfg.timeout_ms = cfg->timeout_ms ? cfg->timeout_ms : VIO_T_TIMEOUT_MS;
	t->cfg.proto = cfg->proto ? cfg->proto : VIO_PROTO_LATEST;
	pthread_mutex_init(&t->txn, NULL);
	rc = vio_t_control_map(t, mem, err);
	if (rc == 0)
		rc = crq_register(t, err);
	if (rc) {
		vio_transport_close(t);
		return rc;
	}
	*out = t;
	return 0;
}

void vio_transport_quiesce(struct vio_transport *t)
{
	unsigned timeout = t->cfg.timeout_ms;
	enum vio_gstate s = vio_t_gstate(t);

	if (!t->registered || t->link.state != VIO_LINK_UP || s == VIO_G_IDLE ||
	    s == VIO_G_RESETTING)
		return;
	if (timeout > 1000)
		t->cfg.timeout_ms = 1000; /* nobody needs the answer */
	ask_reset(t, NULL);
	t->cfg.timeout_ms = timeout;
}

void vio_transport_close(struct vio_transport *t)
{
	if (!t)
		return;
	if (phyp_alive(t->part)) {
		vio_transport_quiesce(t);
		vio_t_void_windows(t, true);
		crq_free(t);
		vio_t_unmap_all(t);
	}
	pthread_mutex_destroy(&t->txn);
	free(t);
}
