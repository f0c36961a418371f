/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_server_priv.h"

/* ---------------------------------------------------------------------------- RDMA ---- */

struct ioba fs_local(const struct fake_server *s, uint64_t logical)
{
	return ioba_add(s->u->window, logical);
}

bool fs_rdma_read(struct fake_server *s, struct ioba at, void *dst, uint32_t len)
{
	uint64_t buf[PHYP_REGS];

	if (h_read_rdma(s->vcpu, len, s->u->remote_liobn, at, buf) != H_SUCCESS)
		return false;
	memcpy(dst, buf, len);
	return true;
}

bool fs_rdma_write(struct fake_server *s, struct ioba at, const void *src, uint32_t len)
{
	uint64_t buf[6] = {0};

	memcpy(buf, src, len);
	return h_write_rdma(s->vcpu, len, s->u->remote_liobn, at, buf) == H_SUCCESS;
}

bool fs_copy(struct fake_server *s, struct ioba guest, uint64_t logical, uint32_t len,
	     bool to_guest)
{
	if (to_guest)
		return h_copy_rdma(s->vcpu, len, s->u->liobn, fs_local(s, logical),
				   s->u->remote_liobn, guest) == H_SUCCESS;
	return h_copy_rdma(s->vcpu, len, s->u->remote_liobn, guest, s->u->liobn,
			   fs_local(s, logical)) == H_SUCCESS;
}

bool fs_rdma_copy(struct fake_server *s, struct ioba guest, uint32_t stage, uint32_t len,
		  bool to_guest)
{
	return fs_copy(s, guest, M_STAGE + stage, len, to_guest);
}

uint8_t *fs_stage(struct fake_server *s)
{
	return s->mem + M_STAGE;
}

/* --------------------------------------------------------------------------- world ---- */

void fw_setup(struct fs_world *w, uint32_t guest_mib)
{
	fw_setup_tce(w, guest_mib, 12);
}

void fw_setup_tce(struct fs_world *w, uint32_t guest_mib, uint8_t page_shift)
{
	struct phyp_profile p;
	struct vio_err err = {""};

	memset(w, 0, sizeof(*w));
	phyp_profile_default(&p, 1, 16, guest_mib);
	for (unsigned i = 0; i < p.n_parts; i++)
		p.part[i].pages = PHYP_PAGES_4K;
	p.adapter[0].page_shift = page_shift;
	if (phyp_local_create(&p, &w->m, &err) || phyp_local_open(w->m, "guest0", &w->gp, &err))
		fail_msg("%s", err.msg);
	vio_mem_init(&w->mem, w->gp);
	w->s.m = w->m;
}

unsigned fw_tces(struct fs_world *w, struct phyp_vcpu *v)
{
	const struct phyp_unit_info *u = phyp_unit(w->gp, 0);
	unsigned n = 0;
	uint64_t tce = 0;

	for (uint64_t off = 0; off < u->window_bytes; off += 1ull << u->page_shift) {
		assert_int_equal(h_get_tce(v, u->liobn, ioba_add(u->window, off), &tce), H_SUCCESS);
		n += tce != 0;
	}
	return n;
}

void fw_teardown(struct fs_world *w)
{
	struct phyp_vcpu *v;

	fs_stop(&w->s);
	if (phyp_alive(w->gp) && phyp_vcpu_create(w->gp, &v, NULL) == 0) {
		assert_int_equal(fw_tces(w, v), 0);
		phyp_vcpu_destroy(v);
	}
	phyp_close(w->gp);
	phyp_local_destroy(w->m);
	free(w->s.store);
}
