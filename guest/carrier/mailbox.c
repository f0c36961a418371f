/* SPDX-License-Identifier: BSD-3-Clause */
/* Calls from mailboxes. */
#include "guest/carrier/mailbox.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/msg.h"
#include "vio/cycles.h"

/* Taking all grants back may take this long; what is left is asked for again. */
#define MB_RESCIND_NS 200000000ull

static void mb_unit(struct vio_mb_unit *to, const struct phyp_unit_info *u)
{
	to->unit = htole32(u->unit);
	to->liobn = htole32(u->liobn);
	to->window = htole64(u->window.v);
	to->window_bytes = htole64(u->window_bytes);
	to->page_shift = htole32(u->page_shift);
	to->client = htole32(!u->is_server);
	memcpy(to->partner, u->partner, sizeof(to->partner));
}

int vio_mb_open(struct vio_mb_server *s, struct phyp_vcpu *vcpu, void *memory, struct vio_err *err)
{
	struct phyp_part *part = phyp_vcpu_part(vcpu);
	uint8_t *at = memory;
	struct vio_mb_unit *unit = (struct vio_mb_unit *)(void *)(at + VIO_MB_UNITS);

	static_assert(VIO_MB_UNITS + PHYP_MAX_UNITS * sizeof(*unit) <= VIO_MB_BOXES, "units fit");
	static_assert(VIO_MB_BOXES + VIO_MB_MAX_BOXES * sizeof(*s->box) <= VIO_MB_BYTES,
		      "mailboxes fit");
	*s = (struct vio_mb_server){.vcpu = vcpu,
				    .part = part,
				    .head = memory,
				    .box = (struct vio_mailbox *)(void *)(at + VIO_MB_BOXES)};
	s->room = PHYP_MAX_GRANTS;
	s->cookie = calloc(s->room, sizeof(*s->cookie));
	if (!s->cookie)
		return vio_err_set(err, -ENOMEM, "no memory for the partition's grants");
	for (unsigned i = 0; i < phyp_n_units(part); i++)
		mb_unit(&unit[i], phyp_unit(part, i));
	s->head->version = htole32(VIO_MB_VERSION);
	s->head->n_boxes = htole32(VIO_MB_MAX_BOXES);
	s->head->n_units = htole32(phyp_n_units(part));
	s->head->mem_bytes = htole64(phyp_mem_size(part));
	s->head->lmb_bytes = htole64(phyp_lmb_size(part));
	s->head->page_bytes = htole64(phyp_backing_page(part));
	vio_store_relaxed(&s->head->up, htole32(1));
	vio_store_release(&s->head->magic,
			  htole64(VIO_MB_MAGIC)); /* pair MB: all above before it */
	return 0;
}

void vio_mb_close(struct vio_mb_server *s)
{
	if (s->head)
		vio_store_release(&s->head->up, 0u);
	free(s->cookie);
	s->cookie = NULL;
}

/* --------------------------------------------------------------------------- anew ---- */

static void mb_clear_tces(struct vio_mb_server *s, const struct phyp_unit_info *u)
{
	uint64_t left = u->window_bytes >> u->page_shift;
	struct ioba at = u->window;

	while (left > 0) {
		uint64_t n = left < TCE_MAX_MULTI ? left : TCE_MAX_MULTI;

		h_stuff_tce(s->vcpu, u->liobn, at, 0, n);
		at = ioba_add(at, n << u->page_shift);
		left -= n;
	}
}

/* True: it is nobody's any more. */
static bool mb_rescind(struct vio_mb_server *s, uint64_t cookie, uint64_t until)
{
	int64_t rc;

	do {
		rc = h_rescind_logical(s->vcpu, RESCIND_FORCED, cookie);
	} while ((rc == H_PARTIAL || phyp_rc_busy(rc)) && vio_now_ns() < until);
	return rc != H_PARTIAL && !phyp_rc_busy(rc);
}

bool vio_mb_anew(struct vio_mb_server *s)
{
	uint64_t until = vio_now_ns() + MB_RESCIND_NS;
	unsigned left = 0;
	bool freed = true;

	s->anew++;
	/* CRQs first: without a connection no RDMA call reaches the partition, and no window is accepted. */
	for (unsigned i = 0; i < phyp_n_units(s->part); i++) {
		int64_t rc;

		do {
			rc = h_free_crq(s->vcpu, phyp_unit(s->part, i)->unit);
		} while (phyp_rc_busy(rc) && vio_now_ns() < until);
		freed &= rc == H_SUCCESS;
	}
	for (unsigned i = 0; i < s->n_cookies; i++) {
		if (!mb_rescind(s, s->cookie[i], until))
			s->cookie[left++] = s->cookie[i];
	}
	s->n_cookies = left;
	for (unsigned i = 0; i < phyp_n_units(s->part); i++)
		mb_clear_tces(s, phyp_unit(s->part, i));
	s->owed = !freed || left > 0;
	return !s->owed;
}

uint64_t vio_mb_tces(struct vio_mb_server *s)
{
	uint64_t n = 0, tce;

	for (unsigned i = 0; i < phyp_n_units(s->part); i++) {
		const struct phyp_unit_info *u = phyp_unit(s->part, i);

		for (uint64_t off = 0; off < u->window_bytes; off += 1ull << u->page_shift)
			n += h_get_tce(s->vcpu, u->liobn, ioba_add(u->window, off), &tce) ==
				     H_SUCCESS &&
			     (tce & TCE_PERM);
	}
	return n;
}

/* -------------------------------------------------------------------------- calls ---- */

/* What the partition was given, and has given back. */
static void mb_note(struct vio_mb_server *s, uint64_t op, const uint64_t *args, const uint64_t *ret,
		    int64_t rc)
{
	if (op == H_GRANT_LOGICAL && rc == H_SUCCESS && s->n_cookies < s->room)
		s->cookie[s->n_cookies++] = ret[0];
	if (op != H_RESCIND_LOGICAL || rc != H_SUCCESS)
		return;
	for (unsigned i = 0; i < s->n_cookies; i++) {
		if (s->cookie[i] == args[1]) {
			s->cookie[i] = s->cookie[--s->n_cookies];
			return;
		}
	}
}

static int64_t mb_call(struct vio_mb_server *s, uint64_t op, const uint64_t *args, uint64_t *ret)
{
	int64_t rc;

	if (op == VIO_MB_OP_ANEW)
		return vio_mb_anew(s) ? H_SUCCESS : H_PARTIAL;
	if (op == H_GRANT_LOGICAL && s->n_cookies == s->room)
		return H_NO_MEM; /* one that could not be taken back */
	if (phyp_op_index(op) < 0)
		s->unknown++;
	rc = phyp_hcall(s->vcpu, op, args, ret);
	if (s->trace && op == H_SEND_CRQ && rc == H_SUCCESS) {
		char line[200];

		vio_crq_trace(line, sizeof(line), args[1], args[2], true);
		fprintf(s->trace, "%" PRIx64 ": %s\n", args[0], line);
	}
	mb_note(s, op, args, ret, rc);
	return rc;
}

static void mb_answer(struct vio_mb_server *s, struct vio_mailbox *b, uint32_t request)
{
	uint64_t args[PHYP_REGS], ret[PHYP_REGS] = {0};
	uint64_t op = le64toh(vio_load_relaxed(&b->op));
	int64_t rc;

	for (unsigned i = 0; i < PHYP_REGS; i++)
		args[i] = le64toh(vio_load_relaxed(&b->args[i]));
	rc = mb_call(s, op, args, ret);
	s->calls++;
	s->refused += rc < 0;
	for (unsigned i = 0; i < PHYP_REGS; i++)
		vio_store_relaxed(&b->ret[i], htole64(ret[i]));
	vio_store_relaxed(&b->rc, (int64_t)htole64((uint64_t)rc));
	vio_store_release(&b->answer, htole32(request)); /* pair MA: the answer before its number */
}

unsigned vio_mb_serve(struct vio_mb_server *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < VIO_MB_MAX_BOXES; i++) {
		struct vio_mailbox *b = &s->box[i];
		/* Pair MA: the number before the call that it is for. */
		uint32_t request = le32toh(vio_load_acquire(&b->request));

		/* `answer` could have been overwritten: then the virtual machine calls itself once more. */
		if (request == le32toh(vio_load_relaxed(&b->answer)))
			continue;
		mb_answer(s, b, request);
		n++;
	}
	return n;
}

bool vio_mb_sleep(struct vio_mb_server *s)
{
	vio_store_relaxed(&s->head->asleep, htole32(1));
	vio_fence_full(); /* pair MD: asleep before the look at the mailboxes */
	for (unsigned i = 0; i < VIO_MB_MAX_BOXES; i++) {
		if (vio_load_relaxed(&s->box[i].request) != vio_load_relaxed(&s->box[i].answer))
			return true;
	}
	return false;
}

void vio_mb_wake(struct vio_mb_server *s)
{
	vio_store_relaxed(&s->head->asleep, 0u);
}
