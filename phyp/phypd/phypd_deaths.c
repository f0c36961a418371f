/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Partitions that end: their queues are closed and their partners told at once, their grants taken back after a grace; what
 * a partner's lock stood in the way of is done again.
 */
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "phyp/core/grant.h"
#include "phyp/core/machine.h"
#include "phyp/phypd/phypd_priv.h"
#include "vio/cycles.h"

/* A queue that could not be closed, because a partner that is perhaps stopped holds a lock: try again after this. */
#define LATE_NS 10000000ull
/* LoPAR: the platform waits at least this long between the transport event and the forced rescind. */
#define GRACE_NS 2000000000ull

static void poke(struct phypd *d, uint32_t parts)
{
	const uint64_t one = 1;

	for (uint32_t p = 0; p < d->m->seg->n_parts; p++) {
		/* An eventfd that is full wakes as well. */
		if (parts & 1u << p && write(d->m->evfd[p][HV_AGENT], &one, sizeof(one)) < 0 &&
		    errno != EAGAIN)
			fprintf(stderr, "phypd: agent of partition %s: %s\n",
				d->m->seg->part[p].name, strerror(errno));
	}
}

void phypd_arm_timer(struct phypd *d)
{
	uint64_t first = UINT64_MAX, now = vio_now_ns(), left;
	struct itimerspec t = {0};

	for (unsigned i = 0; i < MAX_CONNS; i++) {
		if (d->grace[i].at && d->grace[i].at < first)
			first = d->grace[i].at;
		if (d->conn[i].fd >= 0 && d->conn[i].greet_by && d->conn[i].greet_by < first)
			first = d->conn[i].greet_by;
	}
	for (unsigned i = 0; i < PHYP_MAX_UNITS; i++) {
		if (d->late[i].due && now + LATE_NS < first)
			first = now + LATE_NS;
	}
	if (first != UINT64_MAX) {
		left = first > now ? first - now : 1;
		t.it_value = (struct timespec){(time_t)(left / 1000000000ull),
					       (long)(left % 1000000000ull)};
	}
	timerfd_settime(d->timer, 0, &t, NULL);
}

static void take_back(struct phypd *d, struct grace *g)
{
	uint32_t sharers = hv_grants_force(d->m->seg, g->part, g->gen);

	if (sharers && d->cfg->trace)
		fprintf(stderr, "phypd: grants of partition %s are taken back by force\n",
			d->m->seg->part[g->part].name);
	g->at = 0;
	poke(d, sharers);
}

/* Queues that could not be closed when their partition ended. */
static void close_late(struct phypd *d)
{
	for (uint32_t i = 0; i < PHYP_MAX_UNITS; i++) {
		struct late *l = &d->late[i];

		if (l->due && hv_machine_close(d->m, i, l->gen, l->event) == 0)
			l->due = false;
	}
}

void phypd_deaths_due(struct phypd *d, uint64_t now)
{
	for (unsigned i = 0; i < MAX_CONNS; i++) {
		if (d->grace[i].at && d->grace[i].at <= now)
			take_back(d, &d->grace[i]);
	}
	close_late(d);
}

static void start_grace(struct phypd *d, uint32_t part, uint32_t gen)
{
	struct grace *g = &d->grace[0];

	for (unsigned i = 0; i < MAX_CONNS && g->at; i++) {
		/* All taken (a partition that dies 64 times in two seconds): the oldest makes room. */
		if (!d->grace[i].at || d->grace[i].at < g->at)
			g = &d->grace[i];
	}
	if (g->at)
		take_back(d, g);
	*g = (struct grace){vio_now_ns() + GRACE_NS, part, gen};
	phypd_arm_timer(d);
}

void phypd_end_partition(struct phypd *d, struct conn *c, bool orderly)
{
	const uint8_t event = orderly ? CRQ_XPORT_PARTNER_DEREGISTERED : CRQ_XPORT_PARTNER_FAILED;
	uint32_t p = c->part, gen;
	uint64_t late;

	if (p == HV_NONE)
		return;
	c->part = HV_NONE;
	c->greet_by =
		vio_now_ns() + GREETING_NS; /* a place here is for who is a partition, or will be */
	gen = d->m->seg->part[p].active;
	poke(d, hv_machine_deactivate(d->m, p, event, &late));
	for (; late; late &= late - 1)
		d->late[__builtin_ctzll(late)] = (struct late){true, event, gen};
	start_grace(d, p, gen);
	if (!orderly)
		fprintf(stderr,
			"phypd: partition %s (pid %d) has gone; its queues are closed, its partners told, its grants are taken back in 2 s\n",
			d->m->seg->part[p].name, (int)c->pid);
	else if (d->cfg->trace)
		fprintf(stderr, "phypd: partition %s (pid %d) closed\n", d->m->seg->part[p].name,
			(int)c->pid);
}
