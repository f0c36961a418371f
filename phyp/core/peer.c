/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How this process reaches a partner's memory: descriptors of its LMBs by generation, transient
 * mappings, standing aliases. A partner that died and came back has other memory; whatever was made
 * for the older generation is compared with the connection's generation before each use and never
 * used again.
 */
#include <linux/membarrier.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "phyp/core/carrier_ops.h"
#include "phyp/core/hcall.h"
#include "phyp/core/peer.h"

static void close_fds(struct hv_peer *peer)
{
	for (unsigned i = 0; i < peer->n_fds; i++)
		close(peer->fd[i]);
	peer->n_fds = 0;
	vio_store_relaxed(&peer->gen, 0u);
}

/*
 * No thread of this partition uses what it read from peer->alias before the call. The caller is not
 * busy itself.
 */
static void wait_for_calls(struct phyp_part *part)
{
	/* Pair P: whoever was not seen busy after this reads the alias pointer that we stored before. */
	if (part->asymmetric)
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	else
		vio_fence_full();
	for (unsigned i = 0; i < PHYP_MAX_VCPUS; i++) {
		struct phyp_vcpu *v = vio_load_acquire(&part->vcpu[i]);

		while (v && vio_load_acquire(
				    &v->busy)) /* pair P; a call's copy is at most 128 KiB long */
			sched_yield();
	}
}

/*
 * Not used from here on; unmapped later. peer->lock and part->vcpu_lock are held: no vcpu is freed under our
 * eyes.
 */
static void drop_alias(struct phyp_part *part, struct hv_peer *peer)
{
	struct hv_alias *a = peer->alias;

	if (!a)
		return;
	vio_store_release(&peer->alias, NULL);
	wait_for_calls(part);
	a->next = peer->gone;
	peer->gone = a;
}

/* Unmap `bytes` of it from its end on, and forget it when nothing is left. */
static uint64_t unmap_some(struct hv_alias *a, uint64_t bytes)
{
	uint64_t n = bytes < a->len ? bytes : a->len;

	munmap(a->base + a->len - n, n);
	a->len -= n;
	return n;
}

void hv_peer_drop(struct phyp_part *part, struct hv_peer *peer, uint32_t keep_gen)
{
	struct hv_alias *gone;

	pthread_mutex_lock(&part->vcpu_lock);
	pthread_mutex_lock(&peer->lock);
	drop_alias(part, peer);
	if (peer->gen != keep_gen)
		close_fds(peer);
	gone = peer->gone;
	peer->gone = NULL;
	pthread_mutex_unlock(&peer->lock);
	pthread_mutex_unlock(&part->vcpu_lock);
	/* Long: an lcore may want the locks. */
	while (gone) {
		struct hv_alias *a = gone;

		gone = a->next;
		unmap_some(a, a->len);
		free(a);
	}
}

static int make_alias(struct phyp_part *part, struct hv_peer *peer)
{
	const struct hv_part *p = &part->seg->part[peer->part];
	struct hv_alias *a = calloc(1, sizeof(*a));
	int rc;

	if (!a)
		return -ENOMEM;
	a->len = p->mem_bytes;
	a->gen = peer->gen;
	a->base = hv_reserve(a->len);
	rc = a->base ? 0 : -ENOMEM;
	/* The pages come in phyp_alias_step(), or with the first calls. */
	if (rc == 0)
		rc = hv_lmbs_map(a->base, peer->fd, peer->n_fds, 1ull << p->lmb_shift,
				 PROT_READ | PROT_WRITE, 0);
	if (rc) {
		if (a->base)
			munmap(a->base, a->len);
		free(a);
		return rc;
	}
	vio_store_release(&peer->alias, a);
	return 0;
}

/* Descriptors of generation gen, asked for without a lock held. */
static int fetch(struct phyp_part *part, struct hv_peer *peer, uint32_t gen)
{
	int fd[PHYP_MAX_LMBS];
	unsigned n;
	uint32_t got;
	int rc = part->carrier->lmbs(part, peer->part, &got, fd, &n);

	if (rc)
		return rc;
	pthread_mutex_lock(&part->vcpu_lock);
	pthread_mutex_lock(&peer->lock);
	if (got == gen && peer->gen != gen) {
		drop_alias(part, peer);
		close_fds(peer);
		memcpy(peer->fd, fd, n * sizeof(fd[0]));
		peer->n_fds = n;
		vio_store_relaxed(&peer->gen, gen);
		n = 0;
	}
	rc = peer->gen == gen ? 0 : -ESTALE;
	pthread_mutex_unlock(&peer->lock);
	pthread_mutex_unlock(&part->vcpu_lock);
	while (n-- > 0)
		close(fd[n]);
	return rc;
}

int hv_peer_ready(struct phyp_part *part, struct hv_peer *peer, uint32_t gen, bool alias)
{
	int rc = 0;

	if (gen == 0)
		return -ESRCH;
	if (vio_load_relaxed(&peer->gen) != gen)
		rc = fetch(part, peer, gen);
	if (rc || !alias)
		return rc;
	pthread_mutex_lock(&part->vcpu_lock);
	pthread_mutex_lock(&peer->lock);
	if (peer->gen != gen)
		rc = -ESTALE;
	else if (!peer->alias || peer->alias->gen != gen) {
		drop_alias(part, peer);
		rc = make_alias(part, peer);
	}
	pthread_mutex_unlock(&peer->lock);
	pthread_mutex_unlock(&part->vcpu_lock);
	return rc;
}

uint8_t *hv_peer_map(struct phyp_part *part, struct hv_peer *peer, uint32_t gen,
		     struct hv_tmap *map, uint64_t gla, uint64_t *len)
{
	uint8_t *va = NULL;

	/* The lock keeps the descriptor open until the mapping is made. */
	pthread_mutex_lock(&peer->lock);
	if (gen != 0 && peer->gen == gen)
		va = hv_tmap_get(map, &part->seg->part[peer->part], peer->fd, gla, len);
	pthread_mutex_unlock(&peer->lock);
	return va;
}

void hv_crq_alias_drop(struct hv_crq_alias *a)
{
	for (unsigned i = 0; i < a->n_maps; i++)
		hv_tmap_put(&a->map[i]);
	free(a->map);
	free(a->page);
	memset(a, 0, sizeof(*a));
}

int phyp_alias_set(struct phyp_part *part, uint32_t unit, enum phyp_alias kind, struct vio_err *err)
{
	struct hv_lunit *lu = hv_own_unit(part, unit);
	bool wanted = false;

	/* A hypervisor elsewhere reaches memory itself. */
	if (lu && part->carrier->elsewhere)
		return 0;
	if (!lu || !lu->far)
		return vio_err_set(
			err, -ENOENT,
			"partition %s has no adapter with unit address 0x%x and a partner",
			part->seg->part[part->idx].name, unit);
	if (kind == PHYP_ALIAS_RDMA && !lu->info.is_server)
		return vio_err_set(
			err, -EPERM,
			"unit 0x%x: a client end makes no RDMA calls into its server's memory",
			unit);
	vio_store_relaxed(&lu->kind, kind); /* the agent looks too */
	if (kind != PHYP_ALIAS_TRANSIENT) {
		/*
		 * Made now when the partner is there, so that the first call pays nothing; else by
		 * the first call after it came.
		 */
		hv_peer_ready(part, lu->peer,
			      vio_load_acquire(&part->seg->part[lu->peer->part].active),
			      kind == PHYP_ALIAS_RDMA);
		return 0;
	}
	/* Else the agent's next sweep drops it. */
	if (hv_lock(&lu->far->crq.lock, HV_LOOKS)) {
		hv_crq_alias_drop(&lu->crq);
		hv_unlock(&lu->far->crq.lock);
	}
	for (unsigned i = 0; i < part->n_units; i++)
		wanted |= part->unit[i].peer == lu->peer && part->unit[i].kind == PHYP_ALIAS_RDMA;
	if (wanted)
		return 0;
	pthread_mutex_lock(&part->vcpu_lock);
	pthread_mutex_lock(&lu->peer->lock);
	drop_alias(part, lu->peer);
	pthread_mutex_unlock(&lu->peer->lock);
	pthread_mutex_unlock(&part->vcpu_lock);
	return 0;
}

static uint64_t unmap_gone(struct hv_peer *peer, uint64_t *bytes)
{
	uint64_t left = 0;

	while (peer->gone && *bytes > 0) {
		struct hv_alias *a = peer->gone;

		*bytes -= unmap_some(a, *bytes);
		if (a->len > 0)
			break;
		peer->gone = a->next;
		free(a);
	}
	for (const struct hv_alias *a = peer->gone; a; a = a->next)
		left += a->len;
	return left;
}

/* A kernel that can't (before 5.14) leaves it to the first calls. */
static uint64_t bring_pages(struct hv_alias *a, uint64_t bytes)
{
	uint64_t n = a->len - a->ready;

	n = bytes < n ? bytes : n;
	if (n > 0)
		(void)madvise(a->base + a->ready, n, MADV_POPULATE_WRITE);
	a->ready += n;
	return a->len - a->ready;
}

uint64_t phyp_alias_step(struct phyp_part *part, uint32_t unit, uint64_t bytes)
{
	struct hv_lunit *lu = hv_own_unit(part, unit);
	struct hv_peer *peer;
	uint64_t page, left;

	if (!lu || !lu->far)
		return 0;
	peer = lu->peer;
	page = part->seg->part[peer->part].backing;
	bytes = VIO_ALIGN_UP(bytes, page);
	pthread_mutex_lock(&peer->lock);
	left = unmap_gone(peer, &bytes);
	if (peer->alias)
		left += bring_pages(peer->alias, bytes);
	pthread_mutex_unlock(&peer->lock);
	return left;
}

/* A page of nothing, of the size that the owner's memory has, over the one that is missing. */
static bool cover(uint8_t *base, uint64_t len, uint64_t page, const uint8_t *at)
{
	if (at < base || at >= base + len)
		return false;
	base += (uint64_t)(at - base) & ~(page - 1);
	return mmap(base, page, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

bool phyp_hole(struct phyp_part *part, void *addr)
{
	for (unsigned p = 0; p < PHYP_MAX_PARTS; p++) {
		/* It can't go away: this thread is marked busy in the call that met the hole (pair P). */
		const struct hv_alias *a =
			part->peer[p] ? vio_load_acquire(&part->peer[p]->alias) : NULL;

		if (a && cover(a->base, a->len, part->seg->part[p].backing, addr))
			return true;
	}
	return false;
}
