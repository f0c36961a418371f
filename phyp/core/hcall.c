/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The entry of all calls: counting, filters, injected trap cost, dispatch; and the names of calls
 * and codes.
 */
#include "phyp/core/carrier_ops.h"
#include "phyp/core/hcall.h"
#include "vio/cycles.h"

static const struct {
	uint16_t op;
	uint8_t n_args, n_ret;
	hv_call *call;
	const char *name;
} ops[] = {
#define ROW(op, n_args, n_ret, call) {op, n_args, n_ret, call, #op},
	HV_CALLS(ROW)
#undef ROW
};
static_assert(VIO_ARRAY_SIZE(ops) <= PHYP_N_OPS, "a counter for each call");

/* Positions in ops[]. */
enum {
#define AT(op, n_args, n_ret, call) AT_##op,
	HV_CALLS(AT)
#undef AT
};

/*
 * 1 + the position in ops[] by opcode / 4. Each call goes through here once or twice. The size is that
 * of the largest opcode.
 */
static const uint8_t position[] = {
#define POSITION(op, n_args, n_ret, call) [(op) / 4] = AT_##op + 1,
	HV_CALLS(POSITION)
#undef POSITION
};
#define MULTIPLE_OF_4(op, n_args, n_ret, call) static_assert((op) % 4 == 0, #op);
HV_CALLS(MULTIPLE_OF_4)
#undef MULTIPLE_OF_4

static const struct {
	int64_t rc;
	int err;
	const char *name;
} codes[] = {
	{H_SUCCESS, 0, "H_SUCCESS"},
	{H_BUSY, -EBUSY, "H_BUSY"},
	{H_CLOSED, -ENOTCONN, "H_CLOSED"},
	{H_NOT_AVAILABLE, -EAGAIN, "H_NOT_AVAILABLE"},
	{H_PARTIAL, -EAGAIN, "H_PARTIAL"},
	{H_LONG_BUSY_ORDER_1_MSEC, -EBUSY, "H_LONG_BUSY_ORDER_1_MSEC"},
	{H_LONG_BUSY_ORDER_10_MSEC, -EBUSY, "H_LONG_BUSY_ORDER_10_MSEC"},
	{H_LONG_BUSY_ORDER_100_MSEC, -EBUSY, "H_LONG_BUSY_ORDER_100_MSEC"},
	{H_LONG_BUSY_ORDER_1_SEC, -EBUSY, "H_LONG_BUSY_ORDER_1_SEC"},
	{H_LONG_BUSY_ORDER_10_SEC, -EBUSY, "H_LONG_BUSY_ORDER_10_SEC"},
	{H_LONG_BUSY_ORDER_100_SEC, -EBUSY, "H_LONG_BUSY_ORDER_100_SEC"},
	{H_HARDWARE, -EIO, "H_HARDWARE"},
	{H_FUNCTION, -ENOSYS, "H_FUNCTION"},
	{H_PRIVILEGE, -EPERM, "H_PRIVILEGE"},
	{H_PARAMETER, -EINVAL, "H_PARAMETER"},
	{H_NOT_FOUND, -ENOENT, "H_NOT_FOUND"},
	{H_NO_MEM, -ENOMEM, "H_NO_MEM"},
	{H_AUTHORITY, -EPERM, "H_AUTHORITY"},
	{H_PERMISSION, -EACCES, "H_PERMISSION"},
	{H_DROPPED, -ENOBUFS, "H_DROPPED"},
	{H_SOURCE_PARM, -EFAULT, "H_SOURCE_PARM"},
	{H_DEST_PARM, -EFAULT, "H_DEST_PARM"},
	{H_REMOTE_PARM, -EFAULT, "H_REMOTE_PARM"},
	{H_RESOURCE, -EBUSY, "H_RESOURCE"},
	{H_NOT_ENOUGH_RESOURCES, -ENOSPC, "H_NOT_ENOUGH_RESOURCES"},
	{H_R_STATE, -EINVAL, "H_R_STATE"},
	{H_RESCINDED, -ESTALE, "H_RESCINDED"},
};

int phyp_op_index(uint64_t op)
{
	return op % 4 == 0 && op / 4 < VIO_ARRAY_SIZE(position) ? (int)position[op / 4] - 1 : -1;
}

uint64_t phyp_op_at(unsigned index)
{
	return index < VIO_ARRAY_SIZE(ops) ? ops[index].op : 0;
}

const char *phyp_op_name(uint64_t op)
{
	int i = phyp_op_index(op);

	return i < 0 ? "?" : ops[i].name;
}

unsigned hv_op_args(uint64_t op)
{
	int i = phyp_op_index(op);

	return i < 0 ? 0 : ops[i].n_args;
}

unsigned hv_op_results(uint64_t op, const uint64_t *args)
{
	int i = phyp_op_index(op);

	if (i < 0)
		return 0;
	return ops[i].n_ret == HV_RET_DATA ? (unsigned)((args[0] + 7) / 8) : ops[i].n_ret;
}

const char *phyp_rc_name(int64_t rc)
{
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(codes); i++) {
		if (codes[i].rc == rc)
			return codes[i].name;
	}
	return "H_?";
}

int phyp_rc_errno(int64_t rc)
{
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(codes); i++) {
		if (codes[i].rc == rc)
			return codes[i].err;
	}
	return -EIO;
}

void hv_spin(uint64_t n)
{
	uint64_t start = vio_ticks();

	while (vio_ticks() - start < n)
		vio_cpu_relax();
}

int64_t hv_dispatch(struct phyp_vcpu *v, uint64_t op, const uint64_t *a, uint64_t *ret)
{
	int i = phyp_op_index(op);

	return vio_unlikely(i < 0) ? H_FUNCTION : ops[i].call(v, a, ret);
}

/* A call that something stands in the way of. Not inlined, to keep the usual way short. */
static __attribute__((noinline)) int64_t detour(struct phyp_vcpu *v, uint64_t op, const uint64_t *a,
						uint64_t *ret)
{
	struct phyp_part *part = v->part;

	if (vio_load_relaxed(&part->killed))
		return H_HARDWARE;
	if (part->hcall_ticks)
		hv_spin(part->hcall_ticks);
	return part->filters ? part->filters->hcall(part->filters, v, op, a, ret)
			     : part->carrier->call(v, op, a, ret);
}

int64_t phyp_hcall(struct phyp_vcpu *vcpu, uint64_t op, const uint64_t args[PHYP_REGS],
		   uint64_t ret[PHYP_REGS])
{
	int i = phyp_op_index(op);
	int64_t rc;

	if (vio_likely(i >= 0))
		vio_counter_add(&vcpu->c->hcall[i], 1u);
	if (vio_unlikely(vio_load_relaxed(&vcpu->part->detour)))
		rc = detour(vcpu, op, args, ret);
	else
		rc = vio_likely(i >= 0) ? ops[i].call(vcpu, args, ret) : H_FUNCTION;
	if (vio_unlikely(rc != H_SUCCESS))
		vio_counter_add(&vcpu->c->hcall_failed, 1u);
	return rc;
}

void phyp_filter_push(struct phyp_part *part, struct phyp_filter *f)
{
	f->next = part->filters;
	part->filters = f;
	hv_part_set_detour(part);
}

void phyp_filter_pop(struct phyp_part *part)
{
	if (part->filters)
		part->filters = part->filters->next;
	hv_part_set_detour(part);
}

int64_t phyp_filter_next(struct phyp_filter *self, struct phyp_vcpu *vcpu, uint64_t op,
			 const uint64_t args[PHYP_REGS], uint64_t ret[PHYP_REGS])
{
	struct phyp_filter *n = self->next;

	return n ? n->hcall(n, vcpu, op, args, ret)
		 : vcpu->part->carrier->call(vcpu, op, args, ret);
}
