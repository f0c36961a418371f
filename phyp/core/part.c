/* SPDX-License-Identifier: BSD-3-Clause */
/* One process's view of its partition: memory, adapters, windows; and the small questions about it. */
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "phyp/core/carrier_ops.h"
#include "phyp/core/crq.h"
#include "phyp/core/grant.h"
#include "phyp/core/hcall.h"
#include "phyp/core/over.h"
#include "phyp/core/peer.h"
#include "vio/cycles.h"

static int add_peer(struct phyp_part *part, uint32_t p)
{
	struct hv_peer *peer;

	if (part->peer[p])
		return 0;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return -ENOMEM;
	peer->part = p;
	pthread_mutex_init(&peer->lock, NULL);
	for (unsigned i = 0; i < HV_EVFDS; i++)
		peer->evfd[i] = -1;
	part->peer[p] = peer;
	return 0;
}

static void set_window(struct phyp_part *part, uint32_t index, enum hv_win_kind kind,
		       struct hv_lunit *lu)
{
	const struct hv_unit *u = &part->seg->unit[index];

	part->win[index] = (struct hv_win){
		.tce = hv_tces(part->seg, u),
		.base = u->base,
		.bytes = u->bytes,
		.shift = (uint8_t)u->page_shift,
		.kind = (uint8_t)kind,
		.lu = lu,
	};
}

static int add_unit(struct phyp_part *part, uint32_t index)
{
	struct hv_unit *u = &part->seg->unit[index];
	struct hv_lunit *lu = &part->unit[u->local];
	struct phyp_unit_info *info = &lu->info;

	lu->index = index;
	lu->u = u;
	info->unit = HV_UNIT_BASE + index;
	info->is_server = u->is_server;
	info->page_shift = (uint8_t)u->page_shift;
	info->liobn = HV_LIOBN_BASE + index;
	info->window.v = u->base;
	info->window_bytes = u->bytes;
	set_window(part, index, HV_WIN_LOCAL, lu);
	part->n_units++;
	if (u->partner == HV_NONE)
		return 0;
	lu->far = &part->seg->unit[u->partner];
	memcpy(info->partner, part->seg->part[lu->far->part].name, sizeof(info->partner));
	if (u->is_server) {
		info->remote_liobn = HV_LIOBN_BASE + u->partner;
		info->remote_window.v = lu->far->base;
		info->remote_window_bytes = lu->far->bytes;
		info->remote_page_shift = (uint8_t)lu->far->page_shift;
		set_window(part, u->partner, HV_WIN_REMOTE, lu);
	}
	if (add_peer(part, lu->far->part))
		return -ENOMEM;
	lu->peer = part->peer[lu->far->part];
	return 0;
}

/* Address space for a partner's memory, as large as its mappings are aligned. */
static uint64_t partner_room(const struct phyp_part *part, uint32_t p)
{
	return VIO_ALIGN_UP(part->seg->part[p].mem_bytes, 2ull << 20);
}

/* Room for what the partners can grant, all of their memory through each adapter, and for ranges granted twice. */
static uint64_t accept_room(const struct phyp_part *part)
{
	uint64_t n = 2ull << 20;

	for (unsigned p = 0; p < PHYP_MAX_PARTS; p++)
		n += part->peer[p] ? partner_room(part, p) : 0;
	for (unsigned i = 0; i < part->n_units; i++)
		n += part->unit[i].far ? partner_room(part, part->unit[i].far->part) : 0;
	return n;
}

static int map_all(struct phyp_part *part, const int *fd)
{
	const struct hv_part *p = &part->seg->part[part->idx];

	part->mem_bytes = p->mem_bytes;
	part->lmb_bytes = 1ull << p->lmb_shift;
	part->backing = p->backing;
	part->mem = hv_reserve(part->mem_bytes);
	part->acc_bytes = accept_room(part);
	part->acc_va = hv_reserve(part->acc_bytes);
	if (!part->mem || !part->acc_va)
		return -ENOMEM;
	return hv_lmbs_map(part->mem, fd, p->n_lmbs, part->lmb_bytes, PROT_READ | PROT_WRITE, 0);
}

static uint64_t ticks(const struct phyp_part *part, uint32_t ns)
{
	return vio_muldiv(part->seg->tick_hz, ns, 1000000000ull);
}

void hv_part_set_detour(struct phyp_part *part)
{
	bool detour = part->filters || part->hcall_ticks || vio_load_relaxed(&part->killed) ||
		      part->carrier->elsewhere;

	vio_store_relaxed(&part->detour, detour);
}

int hv_part_new(struct hv_seg *seg, uint32_t idx, const int *fd, const struct hv_carrier *carrier,
		struct phyp_part **out, struct vio_err *err)
{
	struct phyp_part *part = calloc(1, sizeof(*part));
	int rc = 0;

	if (!part)
		return vio_err_set(err, -ENOMEM, "partition %s: no memory", seg->part[idx].name);
	part->seg = seg;
	part->idx = idx;
	part->gen = vio_load_acquire(&seg->part[idx].active);
	part->alive = 1;
	part->carrier = carrier;
	pthread_mutex_init(&part->vcpu_lock, NULL);
	pthread_mutex_init(&part->acc_lock, NULL);
	pthread_mutex_init(&part->grant_lock, NULL);
	for (unsigned i = 0; i < HV_EVFDS; i++)
		part->evfd[i] = -1;
	part->asymmetric =
		syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
	part->exposure = seg->exposure != 0;
	part->hcall_ticks = ticks(part, seg->cost.hcall_ns);
	part->tce_ticks = ticks(part, seg->cost.tce_ns);
	part->rdma_ticks = ticks(part, seg->cost.rdma_ns);
	hv_part_set_detour(part);
	for (uint32_t i = 0; i < seg->n_units && rc == 0; i++) {
		if (seg->unit[i].part == idx)
			rc = add_unit(part, i);
	}
	if (rc == 0)
		rc = map_all(part, fd);
	if (rc) {
		hv_part_free(part);
		return vio_err_set(err, rc, "partition %s: cannot map its memory: %s",
				   seg->part[idx].name, strerror(-rc));
	}
	*out = part;
	return 0;
}

void hv_part_set_evfds(struct phyp_part *part, uint32_t p, const int evfd[HV_EVFDS])
{
	if (p == part->idx)
		memcpy(part->evfd, evfd, sizeof(part->evfd));
	else if (part->peer[p])
		memcpy(part->peer[p]->evfd, evfd, sizeof(part->evfd));
}

void hv_part_free(struct phyp_part *part)
{
	for (unsigned i = 0; i < part->n_units; i++)
		hv_crq_alias_drop(&part->unit[i].crq);
	for (unsigned p = 0; p < PHYP_MAX_PARTS; p++) {
		if (!part->peer[p])
			continue;
		hv_peer_drop(part, part->peer[p], HV_NONE);
		pthread_mutex_destroy(&part->peer[p]->lock);
		free(part->peer[p]);
	}
	for (unsigned i = 0; i < PHYP_MAX_VCPUS; i++)
		free(part->vcpu[i]);
	if (part->mem)
		munmap(part->mem, part->mem_bytes);
	if (part->acc_va)
		munmap(part->acc_va, part->acc_bytes);
	pthread_mutex_destroy(&part->vcpu_lock);
	pthread_mutex_destroy(&part->acc_lock);
	pthread_mutex_destroy(&part->grant_lock);
	free(part);
}

void hv_part_lost(struct phyp_part *part)
{
	vio_store_release(&part->alive, 0u);
	pthread_mutex_lock(&part->vcpu_lock);
	for (unsigned i = 0; i < PHYP_MAX_VCPUS; i++) {
		if (part->vcpu[i])
			phyp_vcpu_prod(part->vcpu[i]);
	}
	pthread_mutex_unlock(&part->vcpu_lock);
}

unsigned hv_agent_sweep(struct phyp_part *part)
{
	unsigned again = hv_grants_sweep(part);

	if (!hv_over_sweep(part))
		again |= HV_AGAIN_DRAINING;

	for (unsigned i = 0; i < part->n_units; i++) {
		struct hv_lunit *lu = &part->unit[i];

		if (!lu->far)
			continue;
		/* The lock of the queue is what orders this with this process's own sends. */
		if (!hv_lock(&lu->far->crq.lock, HV_LOOKS)) {
			again |= HV_AGAIN_LOCKED;
			continue;
		}
		if (vio_load_relaxed(&lu->kind) == PHYP_ALIAS_TRANSIENT ||
		    lu->crq.gen != vio_load_acquire(&part->seg->part[lu->peer->part].active))
			hv_crq_alias_drop(&lu->crq);
		hv_unlock(&lu->far->crq.lock);
	}
	for (unsigned p = 0; p < PHYP_MAX_PARTS; p++) {
		struct hv_peer *peer = part->peer[p];
		uint32_t active = vio_load_acquire(&part->seg->part[p].active);

		if (peer && vio_load_relaxed(&peer->gen) != 0 &&
		    vio_load_relaxed(&peer->gen) != active)
			hv_peer_drop(part, peer, HV_NONE);
	}
	return again;
}

void phyp_close(struct phyp_part *part)
{
	if (part)
		part->carrier->close(part);
}

bool phyp_alive(const struct phyp_part *part)
{
	return hv_alive(part);
}

bool phyp_partner_ended(struct phyp_part *part, uint32_t unit)
{
	struct hv_lunit *lu = hv_own_unit(part, unit);

	if (!lu || !part->carrier->ended)
		return true;
	return part->carrier->ended(part, lu->far ? lu->far->part : HV_NONE);
}

const char *phyp_name(const struct phyp_part *part)
{
	return part->seg->part[part->idx].name;
}

uint64_t phyp_mem_size(const struct phyp_part *part)
{
	return part->mem_bytes;
}

uint64_t phyp_lmb_size(const struct phyp_part *part)
{
	return part->lmb_bytes;
}

int phyp_lmb_fd(struct phyp_part *part, unsigned i)
{
	int fd[PHYP_MAX_LMBS], rc;
	uint32_t gen;
	unsigned n;

	rc = part->carrier->lmbs(part, part->idx, &gen, fd, &n);
	if (rc)
		return rc;
	rc = i < n ? fd[i] : -ENOENT;
	for (unsigned k = 0; k < n; k++) {
		if (k != i)
			close(fd[k]);
	}
	return rc;
}

uint64_t phyp_backing_page(const struct phyp_part *part)
{
	return part->backing;
}

uint64_t phyp_tick_hz(const struct phyp_part *part)
{
	return part->seg->tick_hz;
}

const struct phyp_cost *phyp_cost(const struct phyp_part *part)
{
	return &part->seg->cost;
}

bool phyp_counts_exposure(const struct phyp_part *part)
{
	return part->exposure;
}

unsigned phyp_n_units(const struct phyp_part *part)
{
	return part->n_units;
}

const struct phyp_unit_info *phyp_unit(const struct phyp_part *part, unsigned i)
{
	return &part->unit[i].info;
}

void phyp_part_counters(const struct phyp_part *part, struct phyp_counters *sum)
{
	hv_counters_sum(&part->seg->part[part->idx], sum);
}

int phyp_machine_stats(struct phyp_part *part, struct phyp_part_stats *stats, unsigned *n,
		       struct vio_err *err)
{
	return part->carrier->stats(part, stats, n, err);
}
