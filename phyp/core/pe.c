/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Partitionable endpoints: a virtual adapter is frozen, looked at, reset, and thawed, as EEH does with a physical one. PAPR has
 * RTAS services for it (ibm,read-slot-reset-state2, ibm,set-slot-reset); that they are hypervisor calls here, with these
 * registers, is this model's own.
 *
 * Each call that reaches a partner's memory marks its vcpu, then looks at the state words of both ends beside the connection
 * (hv_dma_begin(), hv_stopped()); so a freeze is one store, needs no lock, and costs the data path these looks.
 *
 * That nothing passes any more is known when both ends' agents have said so: each waits for the calls of its own process that
 * had begun. A partition that is stopped inside a call says nothing, and the reset is not done until it has.
 */
#include "phyp/core/carrier_ops.h"
#include "phyp/core/grant.h"
#include "phyp/core/hcall.h"
#include "phyp/core/irq.h"
#include "phyp/core/over.h"
#include "phyp/core/pe.h"

/* Stop u, whatever its partner does. false: it was stopped already, for the reason that it has. */
static bool pe_stop(struct hv_unit *u, enum pe_reason reason, uint64_t ioba)
{
	uint64_t old;

	do {
		old = vio_load_acquire(&u->pe);
		if (hv_pe_state(old) != PE_NORMAL)
			return false;
	} while (!vio_cas(&u->pe, old,
			  hv_pe_word(PE_FROZEN, reason, hv_pe_times(old) + 1, ioba))); /* pair AA */
	return true;
}

/* Take back what stands open, and have both agents say that nothing passes. */
static void pe_close(struct phyp_vcpu *v, struct hv_lunit *lu)
{
	struct phyp_part *part = v->part;

	hv_grants_stop(part->seg, lu->u);
	part->carrier->poke(part, part->idx);
	if (lu->far)
		part->carrier->poke(part, lu->far->part);
}

/* An end finds its queue silent from here on: it is told why, and woken to look. */
static void pe_event(struct hv_seg *seg, struct hv_unit *u, const int *evfd)
{
	uint32_t slot = vio_load_relaxed(&u->crq.route);

	vio_fetch_or(&seg->part[u->part].line[slot].events,
		     1ull << u->local); /* pair PE: after the word */
	hv_irq_raise(seg, u, evfd);
}

static void pe_tell(struct phyp_vcpu *v, struct hv_lunit *lu)
{
	pe_event(v->part->seg, lu->u, v->part->evfd);
	if (lu->far)
		pe_event(v->part->seg, lu->far, lu->peer->evfd);
}

/* Has the process that is at this end now said that nothing of it passes? One that has gone needs not. */
static bool pe_said(const struct hv_seg *seg, const struct hv_unit *u, uint32_t end, bool far)
{
	return vio_load_acquire(&seg->part[end].active) == 0 ||
	       vio_load_acquire(&u->pe_over[far]) == vio_load_acquire(&u->pe); /* pair AA */
}

/* Nothing of either end reaches the other any more. Looked at in this order: an accept may have been under way. */
static bool pe_drained(struct hv_seg *seg, struct hv_unit *u)
{
	const struct hv_unit *far = u->partner == HV_NONE ? NULL : &seg->unit[u->partner];

	return pe_said(seg, u, u->part, false) && (!far || pe_said(seg, u, far->part, true)) &&
	       !hv_grants_stop(seg, u);
}

void hv_pe_error(struct phyp_vcpu *v, const struct hv_win *w, uint64_t ioba, enum pe_reason reason)
{
	struct hv_lunit *lu = w->lu;
	struct hv_unit *u = w->kind == HV_WIN_REMOTE ? lu->far : lu->u;

	/* Who is not connected has no DMA: the address may be from before. */
	if (!v->part->seg->freeze || vio_load_acquire(&lu->u->link) == 0)
		return;
	if (pe_stop(u, reason, ioba)) {
		pe_close(v, lu);
		pe_tell(v, lu);
	}
}

/* --------------------------------------------------------------------------------- calls ---- */

int64_t hv_read_pe_state(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct hv_lunit *lu = hv_own_unit(v->part, a[0]);
	uint64_t word;

	if (!lu)
		return H_PARAMETER;
	word = vio_load_acquire(&lu->u->pe);
	ret[0] = (uint64_t)hv_pe_state(word);
	ret[1] = (uint64_t)hv_pe_reason(word);
	ret[2] = hv_pe_ioba(word);
	ret[3] = hv_pe_state(word) == PE_FROZEN && !pe_drained(v->part->seg, lu->u);
	ret[4] = lu->far ? (uint64_t)hv_pe_state(vio_load_acquire(&lu->far->pe)) : PE_NORMAL;
	return H_SUCCESS;
}

/* Frozen, and nothing passes: else H_PARTIAL, and the same call goes on. */
static int64_t pe_freeze(struct phyp_vcpu *v, struct hv_lunit *lu)
{
	struct hv_seg *seg = v->part->seg;
	bool first = pe_stop(lu->u, PE_ASKED, 0);

	if (hv_pe_state(vio_load_acquire(&lu->u->pe)) != PE_FROZEN)
		return H_R_STATE;
	if (first)
		pe_tell(v, lu);
	if (first || !pe_drained(seg, lu->u))
		pe_close(v, lu);
	return pe_drained(seg, lu->u) ? H_SUCCESS : H_PARTIAL;
}

/* From frozen only, to `state`. */
static int64_t pe_move(struct hv_unit *u, enum pe_state from, enum pe_state to)
{
	uint64_t old = vio_load_acquire(&u->pe);

	if (hv_pe_state(old) != from)
		return H_R_STATE;
	/* Fails when another vcpu of the partition was faster. */
	return vio_cas(&u->pe, old,
		       hv_pe_word(to, to == PE_NORMAL ? PE_NO_REASON : hv_pe_reason(old),
				  hv_pe_times(old), to == PE_NORMAL ? 0 : hv_pe_ioba(old)))
		       ? H_SUCCESS
		       : H_R_STATE;
}

static int64_t pe_reset(struct phyp_vcpu *v, struct hv_lunit *lu)
{
	uint64_t unit[] = {lu->info.unit};
	int64_t rc;

	if (hv_pe_state(vio_load_acquire(&lu->u->pe)) == PE_RESET)
		return H_SUCCESS;
	rc = pe_freeze(v, lu);
	if (rc == H_SUCCESS)
		rc = hv_free_crq(v, unit, NULL); /* the partner's session ends with it */
	return rc == H_SUCCESS ? pe_move(lu->u, PE_FROZEN, PE_RESET) : rc;
}

int64_t hv_set_pe_state(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret)
{
	struct hv_lunit *lu = hv_own_unit(v->part, a[0]);

	(void)ret;
	if (!lu)
		return H_PARAMETER;
	switch (a[1]) {
	case PE_FROZEN:
		return pe_freeze(v, lu);
	case PE_RESET:
		return pe_reset(v, lu);
	case PE_NORMAL:
		return hv_pe_stopped(lu->u) ? pe_move(lu->u, PE_RESET, PE_NORMAL) : H_SUCCESS;
	default:
		return H_PARAMETER;
	}
}
