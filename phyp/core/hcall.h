/* SPDX-License-Identifier: BSD-3-Clause */
/* The hypervisor's calls: their list, and the way to them. */
#ifndef PHYP_HCALL_H
#define PHYP_HCALL_H

#include "phyp/core/hv.h"

typedef int64_t hv_call(struct phyp_vcpu *v, const uint64_t *a, uint64_t *ret);
typedef int64_t hv_entry(struct phyp_vcpu *v, uint64_t op, const uint64_t *a, uint64_t *ret);

/*
 * The calls, once: opcode (its number is in vio/papr.h), how many registers it takes, how many it
 * returns when it succeeds (HV_RET_DATA: as many as its first argument, in bytes, fills), what makes it.
 * The order is that of the counters (phyp_op_index()): new ones at the end.
 */
#define HV_RET_DATA 255
/* clang-format off */
#define HV_CALLS(X)                                              \
	X(H_GET_TCE, 2, 1, hv_get_tce)                           \
	X(H_PUT_TCE, 3, 0, hv_put_tce)                           \
	X(H_REG_CRQ, 3, 0, hv_reg_crq)                           \
	X(H_FREE_CRQ, 1, 0, hv_free_crq)                         \
	X(H_VIO_SIGNAL, 2, 0, hv_vio_signal)                     \
	X(H_SEND_CRQ, 3, 0, hv_send_crq)                         \
	X(H_COPY_RDMA, 5, 0, hv_copy_rdma)                       \
	X(H_WRITE_RDMA, 9, 0, hv_write_rdma)                     \
	X(H_READ_RDMA, 3, HV_RET_DATA, hv_read_rdma)             \
	X(H_STUFF_TCE, 4, 0, hv_stuff_tce)                       \
	X(H_PUT_TCE_INDIRECT, 4, 0, hv_put_tce_indirect)         \
	X(H_GRANT_LOGICAL, 5, 1, hv_grant_logical)               \
	X(H_RESCIND_LOGICAL, 2, 0, hv_rescind_logical)           \
	X(H_ACCEPT_LOGICAL, 2, 4, hv_accept_logical)             \
	X(H_RETURN_LOGICAL, 1, 0, hv_return_logical)             \
	X(H_ENABLE_CRQ, 1, 0, hv_enable_crq)                     \
	X(H_READ_PE_STATE, 1, 5, hv_read_pe_state)               \
	X(H_SET_PE_STATE, 2, 0, hv_set_pe_state)
/* clang-format on */

/* Each is made by the vcpu's thread; a: its registers, checked by nobody before; ret: those that it defines, on success. */
#define HV_CALL_DECLARE(op, n_args, n_ret, call) hv_call call;
HV_CALLS(HV_CALL_DECLARE)
#undef HV_CALL_DECLARE

/* The hypervisor itself, behind all filters. */
hv_entry hv_dispatch;
/* How many registers the call takes. */
unsigned hv_op_args(uint64_t op);
/* How many registers a successful call with these arguments returns. */
unsigned hv_op_results(uint64_t op, const uint64_t *args);
/* Burn `ticks`. */
void hv_spin(uint64_t ticks);

/* The window behind a liobn, NULL when this partition may not name it. */
static inline const struct hv_win *hv_window(const struct phyp_part *part, uint64_t liobn)
{
	uint64_t i = liobn - HV_LIOBN_BASE;

	return vio_likely(i < PHYP_MAX_UNITS && part->win[i].kind != HV_WIN_NONE) ? &part->win[i]
										  : NULL;
}

#endif
