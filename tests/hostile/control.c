/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control: a guest that changes what its messages point to (the header with its choice of features and levels, announcements of
 * windows, places of rings) while the server reads it, and sends messages that nobody expects between those of its way up; beside an
 * honest guest whose disk has to go on. What the adapter has accepted is judged here once more, after each message.
 *
 * -x: a server without snapshots (VIO_SNAPSHOTS=0), which has to accept something wrong.
 */
#include <stdio.h>
#include <unistd.h>

#include "server/head/adapter_priv.h"
#include "tests/fuzz/world.h"
#include "tests/hostile/attack.h"

#define LIFE 48u /* ways up of a guest, before it dies and another begins */

struct run {
	struct fw_world *w;
	struct fw_side *s;
	struct attack attack, inside;
	struct phyp_filter filter; /* before the server's calls */
	uint64_t rng, messages, up, violations, flips;
	char first[120];
};

static uint64_t below(struct run *r, uint64_t n)
{
	r->rng ^= r->rng << 13;
	r->rng ^= r->rng >> 7;
	r->rng ^= r->rng << 17;
	return r->rng % n;
}

static void must(struct run *r, bool ok, const char *what, uint64_t a, uint64_t b)
{
	if (!ok && r->violations++ == 0)
		snprintf(r->first, sizeof(r->first), "%s: 0x%llx, 0x%llx", what,
			 (unsigned long long)a, (unsigned long long)b);
}

static void check_choice(struct run *r, const struct vio_adapter *a)
{
	must(r, (a->features & ~a->offered) == 0, "features that were not offered", a->features,
	     a->offered);
	must(r, a->ring < VIO_N_RING && (a->cfg.ring_levels >> a->ring & 1), "ring access", a->ring,
	     a->cfg.ring_levels);
	must(r, a->payload < VIO_N_PAYLOAD && (a->cfg.payload_levels >> a->payload & 1),
	     "payload access", a->payload, a->cfg.payload_levels);
	must(r, a->notify < VIO_N_NOTIFY && (a->cfg.notify_levels >> a->notify & 1), "notification",
	     a->notify, a->cfg.notify_levels);
}

static void check_windows(struct run *r, const struct vio_adapter *a)
{
	for (unsigned i = 0; a->windows && i < a->windows->n; i++) {
		const struct vio_window *w = &a->windows->w[i];

		must(r, w->role == VIO_WINDOW_RINGS || w->role == VIO_WINDOW_BUFFERS,
		     "a window's role", w->role, 0);
		must(r, w->perm && !(w->perm & ~TCE_PERM), "a window's permission", w->perm, 0);
		must(r,
		     w->at.v >= a->u->remote_window.v &&
			     vio_range_ok(w->at.v - a->u->remote_window.v, w->len,
					  a->u->remote_window_bytes),
		     "a window's place", w->at.v, w->len);
		must(r, (w->at.v | w->len) % CRQ_PAGE_BYTES == 0 && w->len > 0, "part of a page",
		     w->at.v, w->len);
		must(r, phyp_mem(a->part, w->logical, w->len) == w->va, "a window's pages",
		     w->logical.v, w->len);
		must(r, i == 0 || a->windows->w[i - 1].at.v + a->windows->w[i - 1].len <= w->at.v,
		     "windows overlap", w->at.v, w->len);
	}
}

/* False: something wrong was accepted, and what would follow is not waited for. */
static bool check(struct run *r)
{
	const uint64_t before = r->violations;

	check_choice(r, r->s->adapter);
	check_windows(r, r->s->adapter);
	return r->violations == before;
}

#define ADD(name, at, size, ...)                                                                   \
	attack_add(&r->attack, name, at, size, false,                                              \
		   VIO_ARRAY_SIZE(((const uint64_t[]){__VA_ARGS__})),                              \
		   (const uint64_t[]){__VA_ARGS__})

/* All that messages point to. Numbers are big-endian there. */
static void add_fields(struct run *r)
{
	struct vio_dev_header_v2 *h = (void *)(r->s->mem + FW_HEADER);
	struct vio_window_desc *d = (void *)(r->s->mem + FW_WDESC);

	for (unsigned i = 0; i < 3; i++) {
		ADD("guest_features", &h->guest_features, 8, 0, UINT64_MAX,
		    vio_to_be64(1ull << 63).raw);
		ADD("ring", &h->ring, 1, 0, 3, 7, 0xff);
		ADD("payload", &h->payload, 1, 0, 4, 7, 0xff);
		ADD("notify", &h->notify, 1, 3, 7, 0xff);
	}
	ADD("ring_levels", &h->ring_levels, 1, 0, 0xff);
	ADD("device_features", &h->device_features, 8, 0, UINT64_MAX);
	ADD("window's liobn", &d->liobn, 4, 0, 1, UINT32_MAX);
	ADD("window's permission", &d->perm, 1, 0, 1, 2, 3, 0xff);
	ADD("window's role", &d->role, 1, 0, 1, 2, 3, 0xff);
	ADD("window's ioba", &d->ioba, 8, 0, UINT64_MAX, vio_to_be64(1ull << 40).raw,
	    vio_to_be64(0x1800).raw);
	ADD("window's length", &d->len, 8, 0, UINT64_MAX, vio_to_be64(1ull << 40).raw,
	    vio_to_be64(0x800).raw, vio_to_be64(0x1000).raw);
	ADD("window's cookie", &d->cookie, 8, 0, UINT64_MAX);
	for (unsigned i = 0; i < 4; i++) {
		ADD("descriptor's address", r->s->mem + FW_DESC + 16 * i, 8, 0, UINT64_MAX);
		ADD("descriptor's flags", r->s->mem + FW_DESC + 16 * i + 8, 8, UINT64_MAX, 0);
	}
	ADD("available index", r->s->mem + FW_AVAIL, 4, 0x50000, UINT32_MAX);
}

/* Any message; of those that end the session, fewer. */
static void stray_message(struct run *r)
{
	static const uint8_t op[] = {VIO_OP_PROBE,
				     VIO_OP_ACKNOWLEDGE,
				     VIO_OP_DRIVER,
				     VIO_OP_FEATURES_OK,
				     VIO_OP_QUEUE,
				     VIO_OP_WINDOW_ADD,
				     VIO_OP_WINDOW_DEL,
				     VIO_OP_KICK,
				     VIO_OP_CONFIG_SET,
				     VIO_OP_DRIVER_OK,
				     0x7e};
	const uint64_t places[] = {FW_HEADER,  FW_WDESC, FW_CONFIG, FW_DESC,
				   FW_PRIVATE, 0,        1ull << 45};

	fw_send(r->s, (struct vio_msg){
			      .version = below(r, 9) ? r->s->fsm.version : (uint8_t)below(r, 4),
			      .op = op[below(r, VIO_ARRAY_SIZE(op))],
			      .arg8 = (uint8_t)below(r, 5),
			      .arg16 = (uint16_t)(below(r, 4) ? below(r, 300) : 0xffff),
			      .arg = r->s->u->window.v + places[below(r, VIO_ARRAY_SIZE(places))]});
	r->messages++;
}

static void way_up(struct run *r)
{
	struct fw_side *s = r->s;
	struct vio_msg reset = {.op = VIO_OP_RESET};
	const bool calm = below(r, 3) > 0;

	s->ring = (uint8_t)below(r, VIO_N_RING);
	s->payload = below(r, 2) ? VIO_PAYLOAD_DIRECT : VIO_PAYLOAD_RDMA;
	s->notify = (uint8_t)below(r, VIO_N_NOTIFY);
	s->packed = below(r, 2);
	s->in_order = below(r, 2);
	for (unsigned i = 0; i < 12; i++) {
		/* Calm: one step in ten is attacked; else all are, and hardly anybody comes up. */
		vio_store_relaxed(&r->attack.pause, calm && below(r, 10));
		if (!fw_step(s))
			break;
		r->messages++;
		if (below(r, calm ? 100 : 20) == 0)
			stray_message(r);
		fw_settle(r->w);
		if (!check(r))
			break;
	}
	r->up += fw_up(s);
	vio_store_relaxed(&r->attack.pause, calm);
	if (fw_up(s) && below(r, 2) && vio_gfsm_tx(&s->fsm, &reset) == 0) {
		fw_send(s, reset);
		s->step = 1;
	} else { /* whatever state it is in */
		h_free_crq(s->vcpu, s->u->unit);
		s->crq.entry = NULL;
		s->step = 0;
	}
	fw_settle(r->w);
}

/* Also with one processor for all: the guest's turn comes while the server reads its memory, at one call in four. */
static int64_t before_call(struct phyp_filter *self, struct phyp_vcpu *v, uint64_t op,
			   const uint64_t args[PHYP_REGS], uint64_t ret[PHYP_REGS])
{
	struct run *r = vio_container_of(self, struct run, filter);
	const bool change = op == H_READ_RDMA && r->inside.n > 0 && below(r, 4) == 0;
	int64_t rc;

	if (change)
		attack_put(&r->inside);
	rc = phyp_filter_next(self, v, op, args, ret);
	if (change)
		attack_back(&r->inside);
	return rc;
}

static void life(struct run *r, uint64_t seed)
{
	memset(&r->attack, 0, sizeof(r->attack));
	add_fields(r);
	r->attack.rest = 100; /* else nobody ever comes up */
	r->inside = r->attack;
	r->inside.rng = ~seed;
	attack_begin(&r->attack, seed);
	for (unsigned i = 0; i < LIFE; i++)
		way_up(r);
	attack_end(&r->attack);
	r->flips += r->attack.flips + r->inside.flips;
	r->inside.n = 0; /* the next guest's memory is elsewhere */
	fw_verify(&r->w->side[FW_HONEST], (uint8_t)seed);
	fw_guest_die(r->s);
}

int main(int argc, char **argv)
{
	static struct run r = {.rng = 0x9e3779b97f4a7c15u, .filter = {.hcall = before_call}};
	const bool expect = argc == 3 && strcmp(argv[2], "-x") == 0;
	const double seconds = argc > 1 ? strtod(argv[1], NULL) : 0;
	uint64_t end, lives = 0;
	bool ok;

	if (argc < 2 || seconds <= 0 || (argc == 3 && !expect) || argc > 3) {
		fprintf(stderr, "usage: %s SECONDS [-x (violations are expected)]\n", argv[0]);
		return 2;
	}
	end = vio_now_ns() + (uint64_t)(seconds * 1e9);
	r.w = fw_open();
	r.s = &r.w->side[FW_HOSTILE];
	r.w->side[FW_HONEST].ring = VIO_RING_DIRECT;
	r.w->side[FW_HONEST].payload = VIO_PAYLOAD_DIRECT;
	while (fw_step(&r.w->side[FW_HONEST]))
		fw_settle(r.w);
	phyp_filter_push(r.w->server, &r.filter);
	while (vio_now_ns() < end && !(expect && r.violations))
		life(&r, ++lives);
	phyp_filter_pop(r.w->server);
	fw_close(r.w);
	printf("%llu messages, %llu times up, %llu guests, %llu words changed, %llu violations %s\n",
	       (unsigned long long)r.messages, (unsigned long long)r.up, (unsigned long long)lives,
	       (unsigned long long)r.flips, (unsigned long long)r.violations, r.first);
	ok = expect == (r.violations > 0) && (expect || r.up > 0);
	if (!ok)
		printf("FAILED: %s\n", expect ? "without snapshots nothing wrong was accepted"
					      : "something wrong was accepted, or nobody came up");
	return ok ? 0 : 1;
}
