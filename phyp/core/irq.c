/* SPDX-License-Identifier: BSD-3-Clause */
/* Virtual processors: creation, interrupts, sleeping and waking. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "phyp/core/hv.h"
#include "phyp/core/irq.h"
#include "vio/cycles.h"
#include "vio/gaps.h"

static void drain(int evfd)
{
	uint64_t n;

	/* Non-blocking: empty is fine. */
	while (read(evfd, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

int phyp_vcpu_create(struct phyp_part *part, struct phyp_vcpu **out, struct vio_err *err)
{
	struct hv_part *p = &part->seg->part[part->idx];
	struct phyp_vcpu *v = aligned_alloc(VIO_APART, sizeof(*v));
	unsigned slot = 0;

	if (!v)
		return vio_err_set(err, -ENOMEM, "partition %s: no memory for a vcpu", p->name);
	pthread_mutex_lock(&part->vcpu_lock);
	while (slot < PHYP_MAX_VCPUS && part->vcpu[slot])
		slot++;
	if (slot < PHYP_MAX_VCPUS) {
		memset(v, 0, sizeof(*v));
		v->part = part;
		v->slot = slot;
		v->c = &p->ctr[slot].c;
		v->line = &p->line[slot];
		v->evfd = part->evfd[slot];
		vio_store_relaxed(&v->line->waiting, 0u);
		drain(v->evfd);
		vio_store_release(&part->vcpu[slot], v);
	}
	pthread_mutex_unlock(&part->vcpu_lock);
	if (slot == PHYP_MAX_VCPUS) {
		free(v);
		return vio_err_set(err, -ENOSPC, "partition %s has its %d vcpus already", p->name,
				   PHYP_MAX_VCPUS);
	}
	*out = v;
	return 0;
}

void phyp_vcpu_destroy(struct phyp_vcpu *vcpu)
{
	struct phyp_part *part;

	if (!vcpu)
		return;
	part = vcpu->part;
	pthread_mutex_lock(&part->vcpu_lock);
	vio_store_release(&part->vcpu[vcpu->slot], NULL);
	pthread_mutex_unlock(&part->vcpu_lock);
	free(vcpu);
}

struct phyp_part *phyp_vcpu_part(const struct phyp_vcpu *vcpu)
{
	return vcpu->part;
}

struct phyp_counters *phyp_vcpu_counters(struct phyp_vcpu *vcpu)
{
	return vcpu->c;
}

int phyp_irq_route(struct phyp_vcpu *vcpu, uint32_t unit)
{
	struct hv_lunit *lu = hv_own_unit(vcpu->part, unit);
	struct hv_part *p = &vcpu->part->seg->part[vcpu->part->idx];
	uint64_t bit;
	uint32_t old;

	if (!lu)
		return -ENOENT;
	bit = 1ull << lu->u->local;
	old = vio_xchg_acq_rel(&lu->u->crq.route, vcpu->slot);
	/* One that is pending at the old vcpu moves along. */
	if (old != vcpu->slot && vio_fetch_and(&p->line[old].pending, ~bit) & bit) {
		vio_fetch_or(&vcpu->line->pending, bit);
		hv_line_wake(vcpu->line, vcpu->evfd);
	}
	if (old != vcpu->slot && vio_fetch_and(&p->line[old].events, ~bit) & bit)
		vio_fetch_or(&vcpu->line->events, bit);
	return 0;
}

uint64_t phyp_irq_take(struct phyp_vcpu *vcpu)
{
	uint64_t bits;

	if (!(vio_load_relaxed(&vcpu->line->pending) & ~HV_PROD))
		return 0;
	bits = vio_fetch_and(&vcpu->line->pending, HV_PROD) & ~HV_PROD;
	/*
	 * Pair I: the bit is clear before the queue is looked at. A sender that still saw it set
	 * has stored its entry, so we see the entry; one that came later raises again.
	 */
	vio_fence_full();
	vio_counter_add(&vcpu->c->irq_taken, (uint64_t)__builtin_popcountll(bits));
	return bits;
}

bool phyp_event_take(struct phyp_vcpu *vcpu, uint32_t unit)
{
	const struct hv_lunit *lu;
	uint64_t bit;

	if (vio_likely(!vio_load_relaxed(&vcpu->line->events)))
		return false;
	lu = hv_own_unit(vcpu->part, unit);
	bit = lu ? 1ull << lu->u->local : 0;
	return vio_fetch_and(&vcpu->line->events, ~bit) & bit; /* pair PE */
}

bool hv_line_wake(struct hv_line *line, int evfd)
{
	const uint64_t one = 1;

	vio_fence_full(); /* pair W: pending bit before the load of waiting */
	if (!vio_load_relaxed(&line->waiting) || !vio_xchg_acq_rel(&line->waiting, 0u))
		return false;
	/* A full eventfd wakes as well; a closed one has nobody to wake. */
	return write(evfd, &one, sizeof(one)) == (ssize_t)sizeof(one) || errno == EAGAIN;
}

unsigned hv_irq_raise(struct hv_seg *seg, struct hv_unit *u, const int *evfd)
{
	struct hv_line *line;
	uint64_t bit = 1ull << u->local;
	uint32_t slot;

	vio_fence_full(); /* pair I: entry before the load of signal and pending */
	if (!vio_load_relaxed(&u->crq.signal))
		return 0;
	slot = vio_load_relaxed(&u->crq.route);
	line = &seg->part[u->part].line[slot];
	if (vio_load_relaxed(&line->pending) & bit)
		return 0; /* one is outstanding: whoever takes it looks at the queue after that */
	if (vio_fetch_or(&line->pending, bit) & bit)
		return 0;
	return hv_line_wake(line, evfd[slot]) ? 3 : 1;
}

void phyp_vcpu_prod(struct phyp_vcpu *vcpu)
{
	int saved = errno;

	vio_fetch_or(&vcpu->line->pending, HV_PROD);
	hv_line_wake(vcpu->line, vcpu->evfd);
	errno = saved;
}

/* An interrupt or a prod is there; the prod is used up. */
static bool look(struct phyp_vcpu *v)
{
	uint64_t pending = vio_load_acquire(&v->line->pending);

	if (!pending)
		return false;
	if (pending & HV_PROD)
		vio_fetch_and(&v->line->pending, ~HV_PROD);
	return true;
}

/* Descriptors that are waited for besides the interrupt. */
struct others {
	struct pollfd *fds;
	unsigned n;
};

/* The vcpu's eventfd and the others; how many are ready, 1: one of the others is. */
static int poll_all(struct phyp_vcpu *v, struct others *o, const struct timespec *limit, bool *mine)
{
	struct pollfd p[1 + PHYP_WAIT_FDS] = {{.fd = v->evfd, .events = POLLIN}};
	int n;

	for (unsigned i = 0; i < o->n; i++)
		p[1 + i] = o->fds[i];
	n = ppoll(p, 1 + o->n, limit, NULL);
	for (unsigned i = 0; n > 0 && i < o->n; i++)
		o->fds[i].revents = p[1 + i].revents;
	*mine = n > 0 && p[0].revents;
	return n;
}

/*
 * Block once, at most until `end` on CLOCK_MONOTONIC. 0: look again; 1: one of the others is ready;
 * -ETIMEDOUT, -EINTR.
 */
static int block(struct phyp_vcpu *v, uint64_t end, struct others *o)
{
	struct timespec ts, *limit = NULL;
	bool mine = false;
	int n;

	vio_store_relaxed(&v->line->waiting, 1u);
	vio_fence_full(); /* pair W: waiting before the load of pending */
	if (vio_load_acquire(&v->line->pending) || !hv_alive(v->part)) {
		vio_store_relaxed(&v->line->waiting, 0u);
		return 0;
	}
	if (end != UINT64_MAX) {
		uint64_t now = vio_now_ns(), left = end > now ? end - now : 0;

		ts = (struct timespec){.tv_sec = (time_t)(left / 1000000000ull),
				       .tv_nsec = (long)(left % 1000000000ull)};
		limit = &ts;
	}
	vio_counter_add(&v->c->sleeps, 1u);
	n = poll_all(v, o, limit, &mine);
	if (n < 0 && errno != EINTR)
		n = 0;
	vio_store_relaxed(&v->line->waiting, 0u);
	if (mine)
		drain(v->evfd);
	if (n > (mine ? 1 : 0))
		return 1;
	return n < 0 ? -EINTR : n == 0 && limit && vio_now_ns() >= end ? -ETIMEDOUT : 0;
}

void phyp_watch_gaps(struct phyp_part *part, struct vio_gaps *gaps)
{
	part->gaps = gaps;
}

int phyp_vcpu_wait(struct phyp_vcpu *vcpu, uint64_t spin_ns, uint64_t timeout_ns)
{
	return phyp_vcpu_wait_fds(vcpu, spin_ns, timeout_ns, NULL, 0);
}

int phyp_vcpu_wait_fds(struct phyp_vcpu *vcpu, uint64_t spin_ns, uint64_t timeout_ns,
		       struct pollfd *fds, unsigned n)
{
	struct others others = {fds, n < PHYP_WAIT_FDS ? n : PHYP_WAIT_FDS};
	struct vio_gaps *gaps = vcpu->part->gaps;
	uint64_t spin, start_ticks, now, end = UINT64_MAX;
	int rc = 0;

	for (unsigned i = 0; i < n; i++)
		fds[i].revents = 0;

	/* Nothing on the way that is not needed when the interrupt is there. */
	if (look(vcpu))
		return hv_alive(vcpu->part) ? 0 : -EPIPE;
	if (timeout_ns != UINT64_MAX) {
		now = vio_now_ns();
		end = timeout_ns < UINT64_MAX - 1 - now ? now + timeout_ns : UINT64_MAX - 1;
	}
	spin = vio_muldiv(spin_ns < timeout_ns ? spin_ns : timeout_ns, vcpu->part->seg->tick_hz,
			  1000000000ull);
	start_ticks = vio_ticks();
	while ((now = vio_ticks()) - start_ticks < spin) {
		if (gaps)
			vio_gaps_look(gaps, now);
		if (look(vcpu) || !hv_alive(vcpu->part))
			return hv_alive(vcpu->part) ? 0 : -EPIPE;
		vio_cpu_relax();
	}
	for (;;) {
		if (!hv_alive(vcpu->part))
			return -EPIPE;
		if (look(vcpu))
			return 0;
		if (rc)
			return rc < 0 ? rc : 0;
		rc = block(vcpu, end, &others);
		if (gaps)
			vio_gaps_skip(gaps, vio_ticks());
	}
}
