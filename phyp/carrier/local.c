/* SPDX-License-Identifier: BSD-3-Clause */
/* The in-process machine: phypd's part played by function calls. The agents' sweeps run in the caller. */
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "phyp/carrier/carrier.h"
#include "phyp/core/grant.h"
#include "phyp/core/hcall.h"
#include "phyp/core/machine.h"

int phyp_local_create(const struct phyp_profile *profile, struct phyp_machine **out,
		      struct vio_err *err)
{
	return hv_machine_create(profile, out, err);
}

void phyp_local_destroy(struct phyp_machine *m)
{
	if (m)
		hv_machine_destroy(m);
}

static int local_lmbs(struct phyp_part *part, uint32_t p, uint32_t *gen, int fd[PHYP_MAX_LMBS],
		      unsigned *n)
{
	struct phyp_machine *m = part->at;
	int rc = 0;

	*n = 0;
	pthread_mutex_lock(&m->lock);
	*gen = vio_load_acquire(&m->seg->part[p].active);
	if (*gen == 0)
		rc = -ESRCH;
	while (rc == 0 && *n < m->seg->part[p].n_lmbs) {
		fd[*n] = fcntl(m->lmb[p][*n], F_DUPFD_CLOEXEC, 0);
		if (fd[*n] < 0)
			rc = -errno;
		else
			++*n;
	}
	pthread_mutex_unlock(&m->lock);
	while (rc && *n > 0)
		close(fd[--*n]);
	return rc;
}

/*
 * m->open[] stays as it is while its partition sweeps: closing and killing are not concurrent with
 * it (one test drives them), calls are.
 */
static void sweep(struct phyp_machine *m, uint32_t bits)
{
	for (uint32_t p = 0; p < PHYP_MAX_PARTS; p++) {
		struct phyp_part *part;

		pthread_mutex_lock(&m->lock);
		part = bits & 1u << p ? m->open[p] : NULL;
		pthread_mutex_unlock(&m->lock);
		/* What is drained is looked at when its owner asks again: it may be this thread that drains. */
		while (part && (hv_agent_sweep(part) & HV_AGAIN_LOCKED))
			sched_yield();
	}
}

static void local_poke(struct phyp_part *part, uint32_t sharer)
{
	sweep(part->at, 1u << sharer);
}

static int local_stats(struct phyp_part *part, struct phyp_part_stats *stats, unsigned *n,
		       struct vio_err *err)
{
	(void)err;
	hv_stats(part->seg, stats, n);
	return 0;
}

static void end(struct phyp_machine *m, uint32_t p, uint8_t event)
{
	uint32_t gen = m->seg->part[p].active, poke;
	uint64_t late;

	if (gen == 0)
		return;
	poke = hv_machine_deactivate(m, p, event, &late);
	/* Whoever holds a lock here is a thread of this process, and goes on. */
	for (; late; late &= late - 1)
		while (hv_machine_close(m, (uint32_t)__builtin_ctzll(late), gen, event) < 0)
			sched_yield();
	sweep(m, poke | hv_grants_force(m->seg, p, gen));
}

static void local_close(struct phyp_part *part)
{
	struct phyp_machine *m = part->at;

	pthread_mutex_lock(&m->lock);
	if (m->open[part->idx] == part)
		m->open[part->idx] = NULL;
	pthread_mutex_unlock(&m->lock);
	if (!vio_load_relaxed(&part->killed))
		end(m, part->idx, CRQ_XPORT_PARTNER_DEREGISTERED);
	hv_part_free(part);
}

const struct hv_carrier hv_carrier_local = {
	.name = "in-process",
	.call = hv_dispatch,
	.lmbs = local_lmbs,
	.poke = local_poke,
	.stats = local_stats,
	.close = local_close,
};

int phyp_local_open(struct phyp_machine *m, const char *partition, struct phyp_part **out,
		    struct vio_err *err)
{
	int p = hv_machine_find(m, partition), rc;
	struct phyp_part *part;

	if (p < 0)
		return vio_err_set(err, -ENOENT, "there is no partition %s in the profile",
				   partition);
	rc = hv_machine_activate(m, (uint32_t)p, -1, err);
	if (rc)
		return rc;
	rc = hv_part_new(m->seg, (uint32_t)p, m->lmb[p], &hv_carrier_local, &part, err);
	if (rc) {
		end(m, (uint32_t)p, CRQ_XPORT_PARTNER_DEREGISTERED);
		return rc;
	}
	part->at = m;
	for (uint32_t i = 0; i < m->seg->n_parts; i++)
		hv_part_set_evfds(part, i, m->evfd[i]);
	pthread_mutex_lock(&m->lock);
	m->open[p] = part;
	pthread_mutex_unlock(&m->lock);
	*out = part;
	return 0;
}

void phyp_local_kill(struct phyp_machine *m, const char *partition)
{
	int p = hv_machine_find(m, partition);
	struct phyp_part *part;

	if (p < 0)
		return;
	pthread_mutex_lock(&m->lock);
	part = m->open[p];
	m->open[p] = NULL;
	pthread_mutex_unlock(&m->lock);
	if (part) {
		/* A process that is no more makes no calls: the handle's answer H_HARDWARE from here on. */
		vio_store_relaxed(&part->killed, 1u);
		hv_part_set_detour(part);
		hv_part_lost(part);
	}
	end(m, (uint32_t)p, CRQ_XPORT_PARTNER_FAILED);
}
