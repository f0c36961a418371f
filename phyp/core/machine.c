/* SPDX-License-Identifier: BSD-3-Clause */
/* The machine, as phypd and the in-process machine see it: partitions coming and going. */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "phyp/core/crq.h"
#include "phyp/core/grant.h"
#include "phyp/core/hv.h"
#include "phyp/core/irq.h"
#include "phyp/core/machine.h"
#include "phyp/core/pe.h"

static int evfds_create(struct phyp_machine *m, struct vio_err *err)
{
	for (uint32_t p = 0; p < m->seg->n_parts; p++) {
		for (unsigned i = 0; i < HV_EVFDS; i++) {
			m->evfd[p][i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
			if (m->evfd[p][i] < 0)
				return vio_err_set(err, -errno, "eventfds of %u partitions: %s",
						   m->seg->n_parts, strerror(errno));
		}
	}
	return 0;
}

int hv_machine_create(const struct phyp_profile *profile, struct phyp_machine **out,
		      struct vio_err *err)
{
	struct phyp_machine *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return vio_err_set(err, -ENOMEM, "no memory for a machine");
	m->profile = *profile;
	m->seg_fd = -1;
	memset(m->evfd, -1, sizeof(m->evfd));
	memset(m->lmb, -1, sizeof(m->lmb));
	pthread_mutex_init(&m->lock, NULL);
	rc = hv_profile_check(&m->profile, err);
	if (rc == 0)
		rc = hv_seg_create(&m->profile, &m->seg, &m->seg_fd, err);
	if (rc == 0)
		rc = evfds_create(m, err);
	if (rc) {
		hv_machine_destroy(m);
		return rc;
	}
	*out = m;
	return 0;
}

static void forget_memory(struct phyp_machine *m, uint32_t p)
{
	for (unsigned i = 0; i < PHYP_MAX_LMBS; i++) {
		if (m->lmb[p][i] >= 0)
			close(m->lmb[p][i]);
		m->lmb[p][i] = -1;
	}
}

void hv_machine_destroy(struct phyp_machine *m)
{
	for (uint32_t p = 0; p < PHYP_MAX_PARTS; p++) {
		forget_memory(m, p);
		for (unsigned i = 0; i < HV_EVFDS; i++) {
			if (m->evfd[p][i] >= 0)
				close(m->evfd[p][i]);
		}
	}
	if (m->seg)
		hv_seg_unmap(m->seg);
	if (m->seg_fd >= 0)
		close(m->seg_fd);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

int hv_machine_find(const struct phyp_machine *m, const char *name)
{
	for (uint32_t p = 0; p < m->seg->n_parts; p++) {
		if (!strcmp(m->seg->part[p].name, name))
			return (int)p;
	}
	return -1;
}

int hv_machine_activate(struct phyp_machine *m, uint32_t p, int near, struct vio_err *err)
{
	const struct phyp_part_profile *profile = &m->profile.part[p];
	struct hv_part *part = &m->seg->part[p];
	int node = profile->numa_node < 0 ? near : profile->numa_node;
	int fd[PHYP_MAX_LMBS], rc;
	uint64_t backing;

	if (part->active)
		return vio_err_set(err, -EBUSY, "partition %s is in use already", part->name);
	rc = hv_lmbs_create(profile, node, fd, &backing, err);
	if (rc)
		return rc;
	pthread_mutex_lock(&m->lock);
	memcpy(m->lmb[p], fd, part->n_lmbs * sizeof(fd[0]));
	pthread_mutex_unlock(&m->lock);
	part->backing = backing;
	for (unsigned i = 0; i < PHYP_MAX_VCPUS; i++) {
		vio_store_relaxed(&part->line[i].pending, 0u);
		vio_store_relaxed(&part->line[i].events, 0u);
		vio_store_relaxed(&part->line[i].waiting, 0u);
		memset(&part->ctr[i], 0, sizeof(part->ctr[i]));
	}
	for (uint32_t u = 0; u < m->seg->n_units; u++) {
		if (m->seg->unit[u].part == p) {
			vio_store_relaxed(&m->seg->unit[u].crq.route, 0u);
			hv_pe_new(m->seg, &m->seg->unit[u]);
		}
	}
	part->gen++;
	vio_store_release(&part->active, part->gen);
	return 0;
}

static void clear_tces(struct hv_seg *seg, const struct hv_unit *u)
{
	uint64_t *tce = hv_tces(seg, u);

	for (uint64_t i = 0; i < u->bytes >> u->page_shift; i++)
		vio_store_relaxed(&tce[i], 0u);
}

int hv_machine_close(struct phyp_machine *m, uint32_t i, uint32_t gen, uint8_t event)
{
	struct hv_seg *seg = m->seg;
	struct hv_unit *u = &seg->unit[i], *told;
	struct hv_slots s = {.slot = hv_slot_machine};
	int rc;

	if (u->partner != HV_NONE)
		s.fd = m->lmb[seg->unit[u->partner].part];
	rc = hv_crq_close(seg, u, gen, event, &s, &told);
	hv_tmap_put(&s.map);
	/* Also when there was nothing left to tell: whoever died may have told and not yet raised. */
	if (rc == 0 && !told && u->partner != HV_NONE &&
	    seg->unit[u->partner].crq.state != HV_CRQ_FREE)
		told = &seg->unit[u->partner];
	if (told)
		hv_irq_raise(seg, told, m->evfd[told->part]);
	return rc;
}

uint32_t hv_machine_deactivate(struct phyp_machine *m, uint32_t p, uint8_t event, uint64_t *late)
{
	struct hv_seg *seg = m->seg;
	uint32_t poke = 0, gen = seg->part[p].active;

	*late = 0;
	for (uint32_t i = 0; i < seg->n_units; i++) {
		struct hv_unit *u = &seg->unit[i];

		if (u->part != p)
			continue;
		if (u->partner != HV_NONE)
			poke |= 1u << seg->unit[u->partner].part;
		if (hv_machine_close(m, i, gen, event) < 0)
			*late |= 1ull << i;
		clear_tces(seg, u);
		hv_pe_clear(u);
	}
	hv_exposure_reset(&seg->part[p]);
	vio_store_release(&seg->part[p].active, 0u);
	poke |= hv_grants_orphan(seg, p);
	pthread_mutex_lock(&m->lock);
	forget_memory(m, p);
	pthread_mutex_unlock(&m->lock);
	return poke & ~(1u << p);
}

int hv_machine_event(struct phyp_machine *m, uint32_t unit, uint8_t event)
{
	uint32_t i = unit - HV_UNIT_BASE;
	struct hv_slots s = {.slot = hv_slot_machine};
	struct hv_unit *u;
	int rc;

	if (i >= m->seg->n_units)
		return -ENOENT;
	u = &m->seg->unit[i];
	s.fd = m->lmb[u->part];
	rc = hv_crq_event(m->seg, u, event, &s);
	hv_tmap_put(&s.map);
	if (rc == 0)
		hv_irq_raise(m->seg, u, m->evfd[u->part]);
	return rc;
}
