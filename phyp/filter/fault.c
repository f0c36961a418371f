/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fault filter: answers chosen calls with chosen codes, delays TCE updates, ends or stops the process at a call, freezes its
 * adapters, or has an RDMA call go astray.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "phyp/core/crq.h"
#include "phyp/core/hcall.h"
#include "phyp/core/hv.h"
#include "phyp/core/pe.h"

#define MAX_ITEMS 32
/* How often STOP tries for the locks before it answers as the call would. */
#define STOP_TRIES 100000

enum kind {
	FAULT_RC,
	FAULT_DIE,
	FAULT_LATE,
	FAULT_STOP,
	FAULT_FREEZE,
	FAULT_STRAY,
};

/* In place of a call's number: whatever call it is. */
#define ANY_OP UINT64_MAX

struct item {
	uint64_t op;
	uint64_t from, count; /* calls, 1 = the first */
	enum kind kind;
	int64_t rc;
};

/* A TCE update whose effect is still to come. */
struct late {
	bool waiting;
	uint64_t args[PHYP_REGS];
};

struct fault {
	struct phyp_filter filter;
	pthread_mutex_t lock; /* late[]; only calls with a LATE item take it */
	unsigned n;
	struct item item[MAX_ITEMS];
	uint64_t calls[PHYP_N_OPS], all_calls;
	struct late late[PHYP_N_OPS];
};

/* Make the update that an earlier call left behind. */
static void catch_up(struct fault *f, struct phyp_vcpu *v, uint64_t op, int i)
{
	uint64_t args[PHYP_REGS], ret[PHYP_REGS];
	bool waiting;

	pthread_mutex_lock(&f->lock);
	waiting = f->late[i].waiting;
	f->late[i].waiting = false;
	memcpy(args, f->late[i].args, sizeof(args));
	pthread_mutex_unlock(&f->lock);
	if (waiting)
		phyp_filter_next(&f->filter, v, op, args, ret);
}

static void leave_behind(struct fault *f, int i, uint64_t op, const uint64_t *args)
{
	pthread_mutex_lock(&f->lock);
	memset(f->late[i].args, 0, sizeof(f->late[i].args));
	memcpy(f->late[i].args, args, hv_op_args(op) * sizeof(args[0]));
	f->late[i].waiting = true;
	pthread_mutex_unlock(&f->lock);
}

/* Does the call take the locks of CRQs that other partitions may want? */
static bool takes_crq_locks(uint64_t op)
{
	return op == H_REG_CRQ || op == H_FREE_CRQ || op == H_ENABLE_CRQ || op == H_SEND_CRQ;
}

/*
 * As a debugger or a freezer would, in the middle of a call: the process stands still with the locks
 * of both ends' queues. Made when it goes on.
 */
static int64_t stop_in(struct fault *f, struct phyp_vcpu *v, uint64_t op, const uint64_t *args,
		       uint64_t *ret)
{
	struct hv_seg *seg = v->part->seg;
	struct hv_lunit *lu = takes_crq_locks(op) ? hv_own_unit(v->part, args[0]) : NULL;

	if (lu) {
		unsigned tries = 0;

		while (!hv_pair_lock(seg, lu->u)) {
			if (++tries == STOP_TRIES)
				return H_BUSY;
		}
	}
	kill(getpid(), SIGSTOP);
	if (lu)
		hv_pair_unlock(seg, lu->u);
	return phyp_filter_next(&f->filter, v, op, args, ret);
}

/* As an operator would: each adapter of the partition, just before the call. */
static int64_t freeze_at(struct fault *f, struct phyp_vcpu *v, uint64_t op, const uint64_t *args,
			 uint64_t *ret)
{
	for (unsigned i = 0; i < v->part->n_units; i++) {
		const uint64_t a[PHYP_REGS] = {v->part->unit[i].info.unit, PE_FROZEN};

		hv_set_pe_state(v, a, NULL);
	}
	return phyp_filter_next(&f->filter, v, op, args, ret);
}

/* As a device with a broken address register: what it names of its partner lies behind the window. */
static int64_t stray(struct fault *f, struct phyp_vcpu *v, uint64_t op, const uint64_t *args,
		     uint64_t *ret)
{
	uint64_t a[PHYP_REGS] = {0};

	memcpy(a, args, hv_op_args(op) * sizeof(a[0]));
	for (unsigned i = 1; i <= (op == H_COPY_RDMA ? 3u : 1u); i += 2) {
		const struct hv_win *w = hv_window(v->part, a[i]);

		if (w && w->kind == HV_WIN_REMOTE)
			a[i + 1] = w->base + w->bytes;
	}
	return phyp_filter_next(&f->filter, v, op, a, ret);
}

static int64_t fault_hcall(struct phyp_filter *self, struct phyp_vcpu *v, uint64_t op,
			   const uint64_t args[PHYP_REGS], uint64_t ret[PHYP_REGS])
{
	struct fault *f = vio_container_of(self, struct fault, filter);
	int i = phyp_op_index(op);
	uint64_t nth_of_op, nth_of_all;

	if (i < 0)
		return phyp_filter_next(self, v, op, args, ret);
	nth_of_op = vio_fetch_add(&f->calls[i], 1u) + 1;
	nth_of_all = vio_fetch_add(&f->all_calls, 1u) + 1;
	if (op == H_PUT_TCE || op == H_STUFF_TCE)
		catch_up(f, v, op, i);
	for (unsigned k = 0; k < f->n; k++) {
		const struct item *x = &f->item[k];
		const uint64_t nth = x->op == ANY_OP ? nth_of_all : nth_of_op;

		if ((x->op != ANY_OP && x->op != op) || nth < x->from || nth - x->from >= x->count)
			continue;
		if (x->kind == FAULT_DIE)
			kill(getpid(), SIGKILL);
		if (x->kind == FAULT_RC)
			return x->rc;
		if (x->kind == FAULT_STOP)
			return stop_in(f, v, op, args, ret);
		if (x->kind == FAULT_FREEZE)
			return freeze_at(f, v, op, args, ret);
		if (x->kind == FAULT_STRAY)
			return stray(f, v, op, args, ret);
		leave_behind(f, i, op, args);
		return H_SUCCESS;
	}
	return phyp_filter_next(self, v, op, args, ret);
}

/* --------------------------------------------------------------------------------- parsing ---- */

static bool number(const char **p, uint64_t *n)
{
	char *end;

	if (**p < '0' || **p > '9')
		return false;
	errno = 0;
	*n = strtoull(*p, &end, 10);
	*p = end;
	return errno == 0 && *n > 0 && *n <= UINT32_MAX;
}

/* Length of the name at p: capitals, digits, underscores. `x` of "x2" is lower case and so not part of it. */
static size_t name_len(const char *p)
{
	return strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
}

static bool op_of(const char *p, size_t len, uint64_t *op)
{
	if (len == 3 && !strncmp(p, "ANY", len)) {
		*op = ANY_OP;
		return true;
	}
	for (unsigned i = 0; phyp_op_at(i); i++) {
		const char *name = phyp_op_name(phyp_op_at(i));

		if (strlen(name) == len && !strncmp(name, p, len)) {
			*op = phyp_op_at(i);
			return true;
		}
	}
	return false;
}

static bool rc_of(const char *p, size_t len, int64_t *rc)
{
	/* The codes lie in these ranges; those without a name are "H_?". */
	for (int64_t i = -64; i <= H_LONG_BUSY_ORDER_100_SEC;
	     i = i == 64 ? H_LONG_BUSY_ORDER_1_MSEC : i + 1) {
		const char *name = phyp_rc_name(i);

		if (strlen(name) == len && !strncmp(name, p, len) && name[2] != '?') {
			*rc = i;
			return true;
		}
	}
	return false;
}

/* One item at *p; *p is left behind it. NULL or what is wrong. */
static const char *parse_item(const char **p, struct item *x)
{
	size_t len = name_len(*p);

	if (!op_of(*p, len, &x->op))
		return "unknown call";
	*p += len;
	if (**p != '@')
		return "an @ must follow the call's name";
	++*p;
	if (!number(p, &x->from))
		return "a number from 1 on must follow the @";
	if (**p != '=')
		return "an = must follow the number";
	++*p;
	len = name_len(*p);
	if (len == 3 && !strncmp(*p, "DIE", len))
		x->kind = FAULT_DIE;
	else if (len == 4 && !strncmp(*p, "LATE", len))
		x->kind = FAULT_LATE;
	else if (len == 4 && !strncmp(*p, "STOP", len))
		x->kind = FAULT_STOP;
	else if (len == 6 && !strncmp(*p, "FREEZE", len))
		x->kind = FAULT_FREEZE;
	else if (len == 5 && !strncmp(*p, "STRAY", len))
		x->kind = FAULT_STRAY;
	else if (!rc_of(*p, len, &x->rc))
		return "unknown return code";
	if (x->kind == FAULT_LATE && x->op != H_PUT_TCE && x->op != H_STUFF_TCE)
		return "LATE is for H_PUT_TCE and H_STUFF_TCE";
	if (x->kind == FAULT_STRAY && x->op != H_COPY_RDMA && x->op != H_READ_RDMA &&
	    x->op != H_WRITE_RDMA)
		return "STRAY is for H_COPY_RDMA, H_READ_RDMA and H_WRITE_RDMA";
	*p += len;
	x->count = 1;
	if (**p == 'x') {
		++*p;
		if (!number(p, &x->count))
			return "a number from 1 on must follow the x";
	}
	return **p == 0 || **p == ',' ? NULL : "something follows the item";
}

int phyp_fault_create(const char *spec, struct phyp_filter **out, struct vio_err *err)
{
	struct fault *f = calloc(1, sizeof(*f));
	const char *p = spec, *why = NULL;

	if (!f)
		return vio_err_set(err, -ENOMEM, "no memory for a fault filter");
	f->filter.hcall = fault_hcall;
	while (!why) {
		const char *start = p;

		why = f->n < MAX_ITEMS ? parse_item(&p, &f->item[f->n]) : "too many items";
		if (why)
			vio_err_set(
				err, -EINVAL,
				"fault '%s': at '%.40s': %s; an item is CALL@N=CODE, CODE xCOUNT, DIE, STOP, LATE, FREEZE or STRAY, like H_SEND_CRQ@3=H_BUSYx2",
				spec, start, why);
		f->n++;
		if (*p != ',')
			break;
		p++;
	}
	if (why) {
		free(f);
		return -EINVAL;
	}
	pthread_mutex_init(&f->lock, NULL);
	*out = &f->filter;
	return 0;
}

void phyp_fault_free(struct phyp_filter *filter)
{
	struct fault *f;

	if (!filter)
		return;
	f = vio_container_of(filter, struct fault, filter);
	pthread_mutex_destroy(&f->lock);
	free(f);
}
