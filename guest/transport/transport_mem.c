/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The DMA window of the guest's unit: TCEs of what lives long, grants, windows, and room for the
 * queues' mapping levels. The layout is in transport_priv.h.
 */
#include <inttypes.h>
#include <string.h>

#include "guest/transport/transport_priv.h"
#include "vio/cycles.h"

/* Of a window whose announcement was not answered: no id that del() is ever asked for. */
#define NO_WINDOW 0xffffu

static uint64_t tce_page(const struct vio_transport *t)
{
	return 1ull << t->u->page_shift;
}

/* ---------------------------------------------------------------------------- TCEs ---- */

/* True: no device reaches anything at these IOBAs. Goes on after a call that failed. */
static bool window_unmap(struct vio_transport *t, struct ioba at, uint64_t len)
{
	uint64_t left = len >> t->u->page_shift;
	bool all = true;

	while (left > 0) {
		uint64_t n = left < TCE_MAX_MULTI ? left : TCE_MAX_MULTI, since = vio_now_ns();
		int64_t rc;

		do {
			rc = h_stuff_tce(t->vcpu, t->u->liobn, at, 0, n);
		} while (phyp_rc_busy(rc) && vio_t_again(t->vcpu, since, VIO_T_BUSY_NS));
		all &= rc == H_SUCCESS;
		at = ioba_add(at, n << t->u->page_shift);
		left -= n;
	}
	return all;
}

/* IOBAs from t->low on that could not be unmapped are left out, so that nothing else is put there; close tries again. */
static void take_out(struct vio_transport *t, uint64_t len)
{
	t->low = ioba_add(t->low, len);
}

/* One call's worth, n <= TCE_MAX_MULTI. */
static int64_t put_list(struct vio_transport *t, struct ioba at, struct gla from, uint64_t n,
			uint8_t perm)
{
	uint64_t *list = vio_t_page(t, VIO_T_LIST), since = vio_now_ns();
	int64_t rc;

	for (uint64_t i = 0; i < n; i++)
		list[i] = vio_to_be64((from.v + (i << t->u->page_shift)) | perm).raw;
	do {
		rc = h_put_tce_indirect(t->vcpu, t->u->liobn, at,
					gla_add(t->control.at, VIO_T_LIST * VIO_T_PAGE), n);
	} while (phyp_rc_busy(rc) && vio_t_again(t->vcpu, since, VIO_T_BUSY_NS));
	return rc;
}

/* All or nothing. The TCEs of a failed call may be set in part, so that call's range is unmapped too. */
static int window_map(struct vio_transport *t, struct ioba at, struct gla from, uint64_t len,
		      uint8_t perm, struct vio_err *err)
{
	uint64_t total = len >> t->u->page_shift, done = 0;

	while (done < total) {
		uint64_t n = total - done < TCE_MAX_MULTI ? total - done : TCE_MAX_MULTI;
		int64_t rc = put_list(t, ioba_add(at, done << t->u->page_shift),
				      gla_add(from, done << t->u->page_shift), n, perm);

		if (rc != H_SUCCESS) {
			if (!window_unmap(t, at, (done + n) << t->u->page_shift))
				take_out(t, len);
			return vio_err_set(err, rc == H_RESOURCE ? -ENOSPC : phyp_rc_errno(rc),
					   "mapping %" PRIu64 " bytes at IOBA 0x%" PRIx64
					   " failed: H_PUT_TCE_INDIRECT: %s",
					   len, at.v, phyp_rc_name(rc));
		}
		done += n;
	}
	return 0;
}

/* ------------------------------------------------------------------ control memory ---- */

static int map_control_page(struct vio_transport *t, uint64_t off, uint64_t perm,
			    struct vio_err *err)
{
	uint64_t since = vio_now_ns();
	int64_t rc;

	do {
		rc = h_put_tce(t->vcpu, t->u->liobn, ioba_add(t->u->window, off),
			       (t->control.at.v + off) | perm);
	} while (phyp_rc_busy(rc) && vio_t_again(t->vcpu, since, VIO_T_BUSY_NS));
	if (rc == H_SUCCESS)
		return 0;
	return vio_err_set(err, rc == H_RESOURCE ? -ENOSPC : phyp_rc_errno(rc),
			   "unit %u: mapping its control memory failed: H_PUT_TCE: %s", t->cfg.unit,
			   phyp_rc_name(rc));
}

int vio_t_control_map(struct vio_transport *t, struct vio_mem *mem, struct vio_err *err)
{
	/*
	 * The server writes and reads the header, writes config space, reads the descriptor; the
	 * CRQ is the hypervisor's.
	 */
	static const uint64_t perm[] = {
		[VIO_T_HEADER] = TCE_READ | TCE_WRITE,
		[VIO_T_CONFIG] = TCE_WRITE,
		[VIO_T_WDESC] = TCE_READ,
		[VIO_T_CRQ] = TCE_READ | TCE_WRITE,
	};
	uint64_t page = tce_page(t);
	int rc = vio_mem_carve(mem, VIO_ALIGN_UP(VIO_T_PAGES * (uint64_t)VIO_T_PAGE, page), page,
			       false, "the adapter's control memory", &t->control, err);

	t->low = t->u->window;
	t->high = ioba_add(t->u->window, t->u->window_bytes & ~(page - 1));
	if (rc)
		return rc;
	t->control_len = page > VIO_T_PAGE ? page : VIO_ARRAY_SIZE(perm) * VIO_T_PAGE;
	if (t->control_len > t->u->window_bytes)
		return vio_err_set(err, -ENOSPC,
				   "unit %u: a DMA window of %" PRIu64
				   " bytes has no room for control memory",
				   t->cfg.unit, t->u->window_bytes);
	static_assert(VIO_T_PAGES * VIO_T_PAGE <= 1u << 16,
		      "control memory fits the smallest large TCE page");
	t->low = ioba_add(t->low, t->control_len);
	t->mapped = true;
	if (page > VIO_T_PAGE)
		return map_control_page(t, 0, TCE_READ | TCE_WRITE, err);
	for (unsigned i = 0; rc == 0 && i < VIO_ARRAY_SIZE(perm); i++)
		rc = map_control_page(t, (uint64_t)i * VIO_T_PAGE, perm[i], err);
	return rc;
}

uint64_t vio_transport_control_bytes(const struct vio_transport *t)
{
	return t->control_len;
}

void vio_t_unmap_all(struct vio_transport *t)
{
	if (t->mapped && !window_unmap(t, t->u->window, t->low.v - t->u->window.v))
		vio_t_say(
			t, "%s",
			"TCEs of the adapter can't be cleared: a device may still reach pages of what is closed");
	t->mapped = false;
}

/* -------------------------------------------------------------------------- grants ---- */

/* True: the pages are nobody else's, whatever the server does. With txn. */
static bool rescind(struct vio_transport *t, struct phyp_vcpu *vcpu, uint64_t cookie)
{
	/* One server that hangs is one wait, not one for each of its windows. */
	uint64_t limit = t->stuck ? VIO_T_STUCK_NS : t->cfg.timeout_ms * 1000000ull;
	uint64_t since = vio_now_ns();
	int64_t rc;

	/* Normal succeeds once the server has returned it. */
	do {
		rc = h_rescind_logical(vcpu, RESCIND_NORMAL, cookie);
	} while (phyp_rc_busy(rc) && vio_t_again(vcpu, since, VIO_T_BUSY_NS));
	if (rc != H_RESOURCE && !phyp_rc_busy(rc))
		return true; /* done, or there is nothing left to take back */
	since = vio_now_ns();
	do {
		rc = h_rescind_logical(vcpu, RESCIND_FORCED, cookie);
	} while ((rc == H_PARTIAL || phyp_rc_busy(rc)) && vio_t_again(vcpu, since, limit));
	if (rc != H_PARTIAL && !phyp_rc_busy(rc)) {
		t->stuck = false;
		return true;
	}
	/* Without the hypervisor nobody has anything of anybody, and others say that it has gone. */
	if (!t->stuck && phyp_alive(t->part))
		vio_t_say(
			t,
			"pages taken back by force are still in use by the VIO server after %u ms (cookie 0x%" PRIx64
			"): it hangs, or its store does; asked for again when the session is over",
			t->cfg.timeout_ms, cookie);
	t->stuck = true;
	return false;
}

static int grant(struct vio_transport *t, struct phyp_vcpu *vcpu, struct gla from, uint64_t len,
		 uint8_t perm, uint64_t *cookie, struct vio_err *err)
{
	uint64_t flags = GRANT_SYSTEM_MEMORY, page = phyp_backing_page(t->part),
		 since = vio_now_ns();
	int64_t rc;

	if (from.v % page || len % page || len == 0)
		return vio_err_set(err, -EINVAL,
				   "%" PRIu64 " bytes at 0x%" PRIx64
				   " can't be granted: the partition's memory has pages of %" PRIu64
				   " bytes, and only whole ones can be",
				   len, from.v, page);
	flags |= perm & TCE_READ ? 0 : GRANT_NO_READ;
	flags |= perm & TCE_WRITE ? 0 : GRANT_NO_WRITE;
	do {
		rc = h_grant_logical(vcpu, flags, from, len, t->u->unit, cookie);
	} while (phyp_rc_busy(rc) && vio_t_again(vcpu, since, VIO_T_BUSY_NS));
	if (rc == H_SUCCESS)
		return 0;
	return vio_err_set(err, phyp_rc_errno(rc),
			   "granting %" PRIu64 " bytes at 0x%" PRIx64
			   " to the VIO server failed: %s",
			   len, from.v, phyp_rc_name(rc));
}

static struct vio_twin *window_find(struct vio_transport *t, bool used, uint16_t id)
{
	/*
	 * Of whatever session: those in use are all of one, because a new one begins when those of the last have been taken back.
	 * One whose session has just ended is still the server's until then.
	 */
	for (unsigned i = 0; i < VIO_MAX_WINDOWS; i++) {
		struct vio_twin *w = &t->win[i];

		if (w->used == used && (!used || w->id == id))
			return w;
	}
	return NULL;
}

bool vio_t_void_windows(struct vio_transport *t, bool all)
{
	uint32_t session = vio_load_relaxed(&t->session);
	bool left = false;

	pthread_mutex_lock(&t->txn);
	if (!all)
		t->stuck = false; /* it has answered */
	for (unsigned i = 0; i < VIO_MAX_WINDOWS; i++) {
		struct vio_twin *w = &t->win[i];

		if (!w->used || (!all && w->session == session))
			continue;
		w->used = !rescind(t, t->vcpu, w->cookie);
		left |= w->used;
	}
	pthread_mutex_unlock(&t->txn);
	return !left;
}

/* ------------------------------------------------------------------------- windows ---- */

/* Grant [from, from+len), tell the server. The range is TCE-mapped at `at`. With txn. */
static int window_announce(struct vio_transport *t, struct phyp_vcpu *vcpu, struct ioba at,
			   struct gla from, uint64_t len, uint8_t perm, uint8_t role,
			   struct vio_twin *w, struct vio_err *err)
{
	struct vio_msg m = {.op = VIO_OP_WINDOW_ADD, .arg = vio_t_page_at(t, VIO_T_WDESC).v};
	struct vio_window_desc d = {.liobn = vio_to_be32(t->u->liobn),
				    .perm = perm,
				    .role = role,
				    .ioba = vio_to_be64(at.v),
				    .len = vio_to_be64(len)};
	int rc = grant(t, vcpu, from, len, perm, &w->cookie, err);

	if (rc)
		return rc;
	d.cookie = vio_to_be64(w->cookie);
	vio_t_put(vio_t_page(t, VIO_T_WDESC), &d, sizeof(d));
	w->session = vio_load_relaxed(&t->session);
	rc = vio_t_ask(t, vcpu, &m, err);
	if (rc == -ETIMEDOUT) {
		/* It may have been accepted. Taken back with all windows of this session, after the reset. */
		w->id = NO_WINDOW;
		w->used = true;
		return rc;
	}
	if (rc) {
		/* The session may have broken after it was accepted. */
		w->id = NO_WINDOW;
		w->used = !rescind(t, vcpu, w->cookie);
		return rc;
	}
	w->id = t->answer_id;
	w->used = true;
	return 0;
}

static int transport_window_add(struct vio_transport *t, struct phyp_vcpu *vcpu, struct ioba at,
				struct gla from, uint64_t len, uint8_t perm, uint8_t role,
				uint16_t *id, uint64_t *cookie, struct vio_err *err)
{
	struct vio_twin *w;
	int rc;

	if (t->info.version == VIO_PROTO_V1)
		return vio_err_set(err, -ENOTSUP, "protocol 1 knows no windows");
	pthread_mutex_lock(&t->txn);
	w = window_find(t, false, 0);
	rc = w ? window_announce(t, vcpu, at, from, len, perm, role, w, err)
	       : vio_err_set(err, -ENOSPC, "all %u windows of the adapter are in use",
			     VIO_MAX_WINDOWS);
	if (rc == 0) {
		*id = w->id;
		*cookie = w->cookie;
	}
	pthread_mutex_unlock(&t->txn);
	return rc;
}

/* Withdraw: asked, then by force. *held: neither helped, its pages may still be used. One that was taken back with its session is gone already: 0. */
static int del(struct vio_transport *t, struct phyp_vcpu *vcpu, uint16_t id, bool *held,
	       struct vio_err *err)
{
	struct vio_msg m = {.op = VIO_OP_WINDOW_DEL, .arg16 = id};
	struct vio_twin *w;
	int rc = 0;

	*held = false;
	pthread_mutex_lock(&t->txn);
	w = window_find(t, true, id);
	if (w) {
		enum vio_gstate s = vio_t_gstate(t);

		/* After a reset, or with the server gone, there is nobody to ask. */
		if (s == VIO_G_FEATURES || s == VIO_G_RUNNING)
			rc = vio_t_ask(t, vcpu, &m, err);
		/* What can't be taken back now is tried again when the session is over. */
		w->used = !rescind(t, vcpu, w->cookie);
		*held = w->used;
	}
	pthread_mutex_unlock(&t->txn);
	return rc;
}

int vio_transport_window(struct vio_transport *t, const struct vio_mem_piece *mem, uint8_t perm,
			 uint8_t role, bool grant_too, struct vio_gwindow *out, struct vio_err *err)
{
	uint64_t page = tce_page(t), lmb = phyp_lmb_size(t->part);
	struct ioba at = t->low;
	int rc;

	*out = (struct vio_gwindow){.mem = *mem, .at = at, .perm = perm, .role = role};
	if (mem->len == 0 || mem->at.v % page || mem->len % page)
		return vio_err_set(err, -EINVAL,
				   "a window of %" PRIu64 " bytes at 0x%" PRIx64
				   " is not made of TCE pages of %" PRIu64 " bytes",
				   mem->len, mem->at.v, page);
	if (grant_too && mem->at.v / lmb != (mem->at.v + mem->len - 1) / lmb)
		return vio_err_set(err, -EINVAL,
				   "a window of %" PRIu64 " bytes at 0x%" PRIx64
				   " crosses a logical memory block",
				   mem->len, mem->at.v);
	if (mem->len > vio_transport_room(t))
		return vio_err_set(err, -ENOSPC,
				   "a window of %" PRIu64
				   " bytes does not fit the unit's DMA window (%" PRIu64
				   " bytes left); give the adapter a larger one",
				   mem->len, vio_transport_room(t));
	rc = window_map(t, at, mem->at, mem->len, perm, err);
	if (rc)
		return rc;
	if (grant_too) {
		rc = transport_window_add(t, t->vcpu, at, mem->at, mem->len, perm, role, &out->id,
					  &out->cookie, err);
		if (rc) {
			if (!window_unmap(t, at, mem->len))
				take_out(t, mem->len);
			return rc;
		}
		out->granted = true;
	}
	t->low = ioba_add(t->low, mem->len);
	return 0;
}

int vio_transport_window_again(struct vio_transport *t, struct vio_gwindow *w, struct vio_err *err)
{
	if (!w->granted)
		return 0; /* its TCEs never went away */
	return transport_window_add(t, t->vcpu, w->at, w->mem.at, w->mem.len, w->perm, w->role,
				    &w->id, &w->cookie, err);
}

int vio_transport_window_del(struct vio_transport *t, struct vio_gwindow *w, struct vio_err *err)
{
	bool held = false;
	int rc = w->granted ? del(t, t->vcpu, w->id, &held, err) : 0;

	w->granted = false;
	if (held)
		rc = vio_err_set(err, -EBUSY,
				 "the VIO server still uses the pages of a window of %" PRIu64
				 " bytes that was withdrawn",
				 w->mem.len);
	if (!window_unmap(t, w->at, w->mem.len))
		return vio_err_set(err, rc ? rc : -EIO,
				   "a window of %" PRIu64 " bytes at IOBA 0x%" PRIx64
				   " can't be unmapped",
				   w->mem.len, w->at.v);
	/* The last one's IOBAs are free again; a hole stays until close. */
	if (!held && w->at.v + w->mem.len == t->low.v)
		t->low = w->at;
	return rc;
}

/* ------------------------------------------------------------------------ exposures ---- */

/* The mapping level only learns that it failed; the person learns why, once for each session. */
static int expose_add(void *ctx, struct ioba at, struct gla addr, uint64_t len, uint8_t perm,
		      uint16_t *id)
{
	struct vio_texpose *x = ctx;
	struct vio_err err = {""};
	uint64_t cookie;
	int rc = transport_window_add(x->t, x->vcpu, at, addr, len, perm, VIO_WINDOW_BUFFERS, id,
				      &cookie, &err);

	if (rc && rc != -ENOTCONN && x->said != vio_load_relaxed(&x->t->session)) {
		x->said = vio_load_relaxed(&x->t->session);
		vio_t_say(x->t, "a page can't be given to the VIO server: %s", err.msg);
	}
	return rc;
}

static int expose_del(void *ctx, uint16_t id)
{
	struct vio_texpose *x = ctx;

	bool held;

	/* However the server answered: what counts is whether it has the page. */
	(void)del(x->t, x->vcpu, id, &held, NULL);
	return held ? -EBUSY : 0;
}

int vio_transport_expose(struct vio_transport *t, struct phyp_vcpu *vcpu,
			 struct vio_dma_expose *out)
{
	struct vio_texpose *x;

	if (t->n_expose == VIO_MAX_QUEUES)
		return -ENOSPC;
	x = &t->expose[t->n_expose++];
	*x = (struct vio_texpose){.t = t, .vcpu = vcpu};
	*out = (struct vio_dma_expose){expose_add, expose_del, x};
	return 0;
}

/* --------------------------------------------------------------------------- slices ---- */

uint64_t vio_transport_room(const struct vio_transport *t)
{
	return t->high.v - t->low.v;
}

int vio_transport_slice(struct vio_transport *t, uint64_t len, struct ioba *at, struct vio_err *err)
{
	len = VIO_ALIGN_UP(len, tce_page(t));
	if (len == 0 || len > vio_transport_room(t))
		return vio_err_set(err, -ENOSPC,
				   "a slice of %" PRIu64
				   " bytes does not fit the unit's DMA window (%" PRIu64
				   " bytes left); give the adapter a larger one",
				   len, vio_transport_room(t));
	t->high.v -= len;
	*at = t->high;
	return 0;
}
