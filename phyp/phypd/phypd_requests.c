/* SPDX-License-Identifier: BSD-3-Clause */
/* phypd's requests: who a program wants to be, and the descriptors that it may have. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "phyp/core/machine.h"
#include "phyp/phypd/phypd_priv.h"
#include "phyp/carrier/wire.h"

static int no_such(const struct hv_seg *s, const char *name, struct vio_err *err)
{
	char names[160] = "";
	size_t n = 0;

	for (uint32_t p = 0; p < s->n_parts && n < sizeof(names); p++)
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", p ? ", " : "",
				      s->part[p].name);
	return vio_err_set(err, -ESRCH,
			   "there is no partition %s in phypd's profile; there are %s%s", name,
			   names, n < sizeof(names) ? "" : " ...");
}

/* The process that is partition p; 0 for none. */
static int owner(const struct phypd *d, uint32_t p)
{
	for (unsigned i = 0; i < MAX_CONNS; i++) {
		if (d->conn[i].fd >= 0 && d->conn[i].part == p)
			return (int)d->conn[i].pid;
	}
	return 0;
}

/* May the process behind the connection be partition p? */
static int check_user(const struct phypd *d, const struct conn *c, uint32_t p, struct vio_err *err)
{
	const struct phyp_part_profile *part = &d->m->profile.part[p];

	if (part->owned ? c->uid == part->uid : c->uid == geteuid() || c->uid == 0)
		return 0;
	return vio_err_set(
		err, -EACCES,
		"partition %s may only be a process of uid %u (this one is of uid %u): %s",
		part->name, part->owned ? part->uid : (unsigned)geteuid(), (unsigned)c->uid,
		part->owned ? "be that user, or change uid in phypd's profile"
			    : "be phypd's user, or give the partition a uid in its profile");
}

static void on_hello(struct phypd *d, struct conn *c, struct wire_req *req, struct wire_rep *rep)
{
	struct vio_err err = {{0}};
	int p;

	req->name[PHYP_NAME_LEN - 1] = 0;
	p = hv_machine_find(d->m, req->name);
	if (req->version != WIRE_VERSION)
		rep->rc = vio_err_set(&err, -EPROTO,
				      "phypd speaks version %u of its protocol, the program %u",
				      WIRE_VERSION, req->version);
	else if (c->part != HV_NONE)
		rep->rc = vio_err_set(&err, -EINVAL, "the connection has a partition already");
	else if (p < 0)
		rep->rc = no_such(d->m->seg, req->name, &err);
	else if (check_user(d, c, (uint32_t)p, &err))
		rep->rc = -EACCES;
	else if (d->m->seg->part[p].active)
		rep->rc = vio_err_set(
			&err, -EBUSY,
			"partition %s is in use by a live process (pid %d): end it, or be another partition",
			req->name, owner(d, (uint32_t)p));
	else
		rep->rc = hv_machine_activate(d->m, (uint32_t)p, req->node, &err);
	memcpy(rep->msg, err.msg, sizeof(rep->msg));
	if (rep->rc)
		return;
	c->greet_by = 0;
	c->part = rep->part = (uint32_t)p;
	rep->gen = d->m->seg->part[p].active;
	if (d->cfg->trace)
		fprintf(stderr, "phypd: partition %s is active in pid %d, pages of %llu KiB\n",
			req->name, (int)c->pid,
			(unsigned long long)(d->m->seg->part[p].backing >> 10));
}

/* May the connection's partition have descriptors of p? Its own and its partners'. */
static bool may_see(const struct phypd *d, const struct conn *c, uint32_t p)
{
	const struct hv_seg *s = d->m->seg;

	if (c->part == HV_NONE || p >= s->n_parts)
		return false;
	if (p == c->part)
		return true;
	for (uint32_t i = 0; i < s->n_units; i++) {
		if (s->unit[i].part == c->part && s->unit[i].partner != HV_NONE &&
		    s->unit[s->unit[i].partner].part == p)
			return true;
	}
	return false;
}

static unsigned on_lmbs(struct phypd *d, const struct conn *c, const struct wire_req *req,
			struct wire_rep *rep, int *fd)
{
	const struct hv_part *p = &d->m->seg->part[req->part < PHYP_MAX_PARTS ? req->part : 0];
	unsigned n = 0;

	rep->rc = !may_see(d, c, req->part) ? -EPERM
		  : p->active == 0          ? -ESRCH
		  : req->first >= p->n_lmbs ? -EINVAL
					    : 0;
	if (rep->rc)
		return 0;
	rep->gen = p->active;
	rep->total = p->n_lmbs;
	for (uint32_t i = req->first; i < p->n_lmbs && n < WIRE_FDS; i++)
		fd[n++] = d->m->lmb[req->part][i];
	return n;
}

static unsigned on_pidfd(struct phypd *d, const struct conn *c, const struct wire_req *req,
			 struct wire_rep *rep, int *fd)
{
	rep->rc = may_see(d, c, req->part) ? -ESRCH : -EPERM;
	for (unsigned i = 0; i < MAX_CONNS && rep->rc == -ESRCH; i++) {
		if (d->conn[i].fd < 0 || d->conn[i].part != req->part || d->conn[i].pidfd < 0)
			continue;
		rep->rc = 0;
		rep->gen = d->m->seg->part[req->part].active;
		*fd = d->conn[i].pidfd;
	}
	return rep->rc == 0;
}

static int reply_stats(struct phypd *d, const struct conn *c, uint32_t id)
{
	struct wire_stats s = {.rep = {.id = id}, .n = PHYP_MAX_PARTS};

	hv_stats(d->m->seg, s.part, &s.n);
	if (!d->cfg->all_statistics) {
		s.part[0] = s.part[c->part]; /* in the order of the partitions */
		memset(&s.part[1], 0, sizeof(s.part) - sizeof(s.part[0]));
		s.n = 1;
	}
	return wire_send(c->fd, &s, sizeof(s), NULL, 0, MSG_DONTWAIT);
}

int phypd_answer(struct phypd *d, struct conn *c, struct wire_req *req)
{
	struct wire_rep rep = {.id = req->id};
	int fd[WIRE_FDS];
	unsigned n = 0;

	switch (req->op) {
	case WIRE_HELLO:
		on_hello(d, c, req, &rep);
		fd[0] = d->m->seg_fd;
		n = rep.rc == 0;
		break;
	case WIRE_LMBS:
		n = on_lmbs(d, c, req, &rep, fd);
		break;
	case WIRE_EVFDS:
		rep.rc = may_see(d, c, req->part) ? 0 : -EPERM;
		if (rep.rc == 0)
			memcpy(fd, d->m->evfd[req->part], sizeof(d->m->evfd[0]));
		n = rep.rc == 0 ? HV_EVFDS : 0;
		break;
	case WIRE_STATS:
		return c->part == HV_NONE ? -EPERM : reply_stats(d, c, req->id);
	case WIRE_PIDFD:
		n = on_pidfd(d, c, req, &rep, fd);
		break;
	case WIRE_BYE:
		phypd_end_partition(d, c, true);
		break;
	default:
		return -EINVAL;
	}
	/* A partition that does not read its replies is not waited for. */
	return wire_send(c->fd, &rep, sizeof(rep), fd, n, MSG_DONTWAIT);
}
