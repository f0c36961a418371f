/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The hypervisor's calls: the entry, names, codes and what busy means, and a wrapper for each that spells its registers.
 * All that a partition's code needs to make calls; who it makes them as comes from vio/phyp.h.
 */
#ifndef VIO_HCALLS_H
#define VIO_HCALLS_H

#include <stdbool.h>
#include <stdint.h>

#include "vio/atomics.h"
#include "vio/papr.h"
#include "vio/types.h"

struct phyp_vcpu; /* one thread of a partition: vio/phyp.h */

/* Position of an opcode in hcall[], or -1; and back to opcode (0 past the end) and name ("?" when unknown). */
int phyp_op_index(uint64_t op);
uint64_t phyp_op_at(unsigned index);
const char *phyp_op_name(uint64_t op);
/* "H_SUCCESS" ...; a static string, "H_?" when unknown. */
const char *phyp_rc_name(int64_t rc);
/* PAPR's "not now": nothing was done, and the same call may succeed later. Its only meaning in this tree. */
static inline bool phyp_rc_busy(int64_t rc)
{
	return rc == H_BUSY || (rc >= H_LONG_BUSY_ORDER_1_MSEC && rc <= H_LONG_BUSY_ORDER_100_SEC);
}

/*
 * Make `call` again while it is busy, `times` in all at most, and answer what it answered last: still
 * busy is for the caller to handle. For who may not wait (an lcore); who may, sleeps between two tries
 * (vio_t_again()).
 */
#define PHYP_RETRY(times, call)                                                                    \
	({                                                                                         \
		int64_t retry_rc_;                                                                 \
		unsigned retry_n_ = 0;                                                             \
		while (phyp_rc_busy(retry_rc_ = (call)) && ++retry_n_ < (times))                   \
			vio_cpu_relax();                                                           \
		retry_rc_;                                                                         \
	})

/* The one translation of a PAPR return code into a negative errno (0 for H_SUCCESS). */
int phyp_rc_errno(int64_t rc);

/*
 * One hypervisor call. args: R4...R12; ret: what the call returns in R4...R12 (may alias args; only
 * the registers that the call defines are written). Returns a PAPR code (vio/papr.h), never an
 * errno. An unknown opcode is H_FUNCTION; any call answers H_HARDWARE once the machine has gone or the partition was killed.
 * The wrappers below spell the registers of each call. Source: LoPAR, Virtualized Input/Output, which the model's own calls and
 * registers say that they are not of. Data path; the thread of the vcpu.
 */
int64_t phyp_hcall(struct phyp_vcpu *vcpu, uint64_t op, const uint64_t args[PHYP_REGS],
		   uint64_t ret[PHYP_REGS]);

/*
 * TCE of IOBA `at` of an own window: a logical address of the caller's memory with TCE_READ, TCE_WRITE (the device may), or
 * neither: unmapped. H_PARAMETER: no own window, an IOBA that is outside of it or within a page, memory that the caller does not
 * have. What began with an old TCE may go on for the length of a call.
 */
static inline int64_t h_put_tce(struct phyp_vcpu *v, uint32_t liobn, struct ioba at, uint64_t tce)
{
	uint64_t r[PHYP_REGS] = {liobn, at.v, tce};

	return phyp_hcall(v, H_PUT_TCE, r, r);
}

/* *tce is set with H_SUCCESS only. H_PARAMETER: as h_put_tce(). */
static inline int64_t h_get_tce(struct phyp_vcpu *v, uint32_t liobn, struct ioba at, uint64_t *tce)
{
	uint64_t r[PHYP_REGS] = {liobn, at.v};
	int64_t rc = phyp_hcall(v, H_GET_TCE, r, r);

	if (rc == H_SUCCESS)
		*tce = r[0];
	return rc;
}

/*
 * `n` (<= 512) TCEs from `at` on. `list`: a 4 KiB aligned page of the caller's memory that holds them, big-endian. H_PARAMETER: as
 * h_put_tce(), or a longer list; those before the bad one are written.
 */
static inline int64_t h_put_tce_indirect(struct phyp_vcpu *v, uint32_t liobn, struct ioba at,
					 struct gla list, uint64_t n)
{
	uint64_t r[PHYP_REGS] = {liobn, at.v, list.v, n};

	return phyp_hcall(v, H_PUT_TCE_INDIRECT, r, r);
}

/* The same TCE, usually 0, `n` (<= 512) times. H_PARAMETER: as h_put_tce_indirect(). */
static inline int64_t h_stuff_tce(struct phyp_vcpu *v, uint32_t liobn, struct ioba at, uint64_t tce,
				  uint64_t n)
{
	uint64_t r[PHYP_REGS] = {liobn, at.v, tce, n};

	return phyp_hcall(v, H_STUFF_TCE, r, r);
}

/*
 * `bytes` of queue at `queue` of the unit's own window, pages of 4 KiB up to CRQ_MAX_BYTES, zeroed. H_SUCCESS, or H_CLOSED: registered,
 * the partner is not there yet. H_PARAMETER: no own unit, such sizes or addresses, no TCEs there. H_RESOURCE: there is a queue already.
 * H_NOT_FOUND: no partner. H_BUSY: a partner holds a lock. H_R_STATE: the adapter is frozen.
 */
static inline int64_t h_reg_crq(struct phyp_vcpu *v, uint32_t unit, struct ioba queue,
				uint64_t bytes)
{
	uint64_t r[PHYP_REGS] = {unit, queue.v, bytes};

	return phyp_hcall(v, H_REG_CRQ, r, r);
}

/*
 * The pair is not connected from the first call on. H_BUSY: a partner holds a lock; or, at a client's end, the server's process
 * has not said yet that its RDMA calls that began before are over (one that stands still says nothing; one that has ended
 * need not). Before H_SUCCESS the memory may still be written.
 */
static inline int64_t h_free_crq(struct phyp_vcpu *v, uint32_t unit)
{
	uint64_t r[PHYP_REGS] = {unit};

	return phyp_hcall(v, H_FREE_CRQ, r, r);
}

/* After transport event 6 (suspended). H_PARAMETER: no own unit; H_NOT_FOUND: no queue; H_BUSY: a partner holds a lock. */
static inline int64_t h_enable_crq(struct phyp_vcpu *v, uint32_t unit)
{
	uint64_t r[PHYP_REGS] = {unit};

	return phyp_hcall(v, H_ENABLE_CRQ, r, r);
}

/*
 * A unit's endpoint. state: enum pe_state; reason: enum pe_reason; ioba: of the page that a bad DMA named; draining: frozen, and
 * something of before may still pass; far: enum pe_state of the partner's.
 */
struct phyp_pe {
	uint64_t state, reason, ioba, draining, far;
};
/* H_PARAMETER: not an own unit. */
static inline int64_t h_read_pe_state(struct phyp_vcpu *v, uint32_t unit, struct phyp_pe *pe)
{
	uint64_t r[PHYP_REGS] = {unit};
	int64_t rc = phyp_hcall(v, H_READ_PE_STATE, r, r);

	if (rc == H_SUCCESS)
		*pe = (struct phyp_pe){r[0], r[1], r[2], r[3], r[4]};
	return rc;
}

/*
 * PE_FROZEN: nothing passes between the unit and its partner any more, in either direction: RDMA, messages and new grants are
 * refused with H_R_STATE, accepted grants are taken back by force. TCEs and the CRQ's memory are the owner's as before, and it
 * may be called at any time. PE_RESET: that, and the CRQ is freed and the partner told (0x02). PE_NORMAL, from PE_RESET only
 * (else H_R_STATE): thawed; the driver registers its queue and goes on as after a start. H_SUCCESS: it is done, nothing of before
 * touches the memory of either end. H_PARTIAL: it is not yet, the same call goes on with it (nothing passes that begins now).
 * H_BUSY: a partner holds a lock. H_PARAMETER: not an own unit, no such state.
 */
static inline int64_t h_set_pe_state(struct phyp_vcpu *v, uint32_t unit, enum pe_state state)
{
	uint64_t r[PHYP_REGS] = {unit, (uint64_t)state};

	return phyp_hcall(v, H_SET_PE_STATE, r, r);
}

/* mode: VIO_SIGNAL_ON or 0; look at the queue once more after switching on. H_PARAMETER: no own unit, another mode. */
static inline int64_t h_vio_signal(struct phyp_vcpu *v, uint32_t unit, uint64_t mode)
{
	uint64_t r[PHYP_REGS] = {unit, mode};

	return phyp_hcall(v, H_VIO_SIGNAL, r, r);
}

/*
 * hi, lo: the entry's two doublewords as numbers (most significant byte = byte 0 of the entry). H_CLOSED: not connected. H_DROPPED: the
 * partner's queue is full. H_BUSY: a partner holds its lock. H_R_STATE: an end is frozen. H_PARAMETER: no own unit, or byte 0 is
 * the hypervisor's. H_HARDWARE: the partner's memory can't be reached.
 */
static inline int64_t h_send_crq(struct phyp_vcpu *v, uint32_t unit, uint64_t hi, uint64_t lo)
{
	uint64_t r[PHYP_REGS] = {unit, hi, lo};

	return phyp_hcall(v, H_SEND_CRQ, r, r);
}

/*
 * len: 1 to H_COPY_RDMA_MAX. A window is the caller's own or, at a server's end, its partner's; the source's TCEs need TCE_READ, the
 * destination's TCE_WRITE. H_PARAMETER: len. H_SOURCE_PARM, H_DEST_PARM: a window that may not be named, a range outside of it, no
 * connection (the partner may have gone under way). H_PERMISSION: a page without that TCE; nothing was moved. H_R_STATE: frozen.
 */
static inline int64_t h_copy_rdma(struct phyp_vcpu *v, uint64_t len, uint32_t src_liobn,
				  struct ioba src, uint32_t dst_liobn, struct ioba dst)
{
	uint64_t r[PHYP_REGS] = {len, src_liobn, src.v, dst_liobn, dst.v};

	return phyp_hcall(v, H_COPY_RDMA, r, r);
}

/* Bytes arrive in buf in memory order, the tail of the last register zero. len: 1 to 72; buf needs room for 72. Codes: h_copy_rdma()'s. */
static inline int64_t h_read_rdma(struct phyp_vcpu *v, uint64_t len, uint32_t liobn,
				  struct ioba src, uint64_t buf[PHYP_REGS])
{
	uint64_t r[PHYP_REGS] = {len, liobn, src.v};

	return phyp_hcall(v, H_READ_RDMA, r, buf);
}

/* len: 1 to 48; `data` holds the bytes in memory order. Codes: h_copy_rdma()'s. */
static inline int64_t h_write_rdma(struct phyp_vcpu *v, uint64_t len, uint32_t liobn,
				   struct ioba dst, const uint64_t data[6])
{
	uint64_t r[PHYP_REGS] = {len,     liobn,   dst.v,   data[0], data[1],
				 data[2], data[3], data[4], data[5]};

	return phyp_hcall(v, H_WRITE_RDMA, r, r);
}

/*
 * flags: GRANT_*. addr, len: aligned to phyp_backing_page(), inside one LMB. unit: the granter's
 * own virtual adapter, whose partner may accept. *cookie is set with H_SUCCESS. H_PARAMETER: flags, range or unit; H_PERMISSION: memory
 * that was accepted itself; H_NO_MEM: the partition's share of grants is used up; H_R_STATE: the adapter is frozen.
 */
static inline int64_t h_grant_logical(struct phyp_vcpu *v, uint64_t flags, struct gla addr,
				      uint64_t len, uint32_t unit, uint64_t *cookie)
{
	uint64_t r[PHYP_REGS] = {flags, 0, addr.v, len, unit};
	int64_t rc = phyp_hcall(v, H_GRANT_LOGICAL, r, r);

	if (rc == H_SUCCESS)
		*cookie = r[0];
	return rc;
}

/*
 * args[1]: the receiver's unit that the grant must have been made for, else H_PARAMETER and no effect;
 * 0: any (this wrapper). A server of several clients must not take one client's grant in the name of
 * another. ret[0]: logical address in the receiver. ret[1], ret[2]: the grant's length and
 * restriction flags; ret[3]: that unit. LoPAR takes the cookie and returns the address only; this
 * model adds the rest because a receiver that takes the owner's word for the extent could be made to
 * touch an address that does not translate. A cookie can't be guessed: half of it is a keyed hash.
 */
static inline int64_t h_accept_logical(struct phyp_vcpu *v, uint64_t cookie, struct gla *addr,
				       uint64_t *len, uint64_t *flags)
{
	uint64_t r[PHYP_REGS] = {cookie};
	int64_t rc = phyp_hcall(v, H_ACCEPT_LOGICAL, r, r);

	if (rc == H_SUCCESS) {
		addr->v = r[0];
		*len = r[1];
		*flags = r[2];
	}
	return rc;
}

/* The sharer uses it no more. H_RESCINDED: it had been taken back by force, and its place is free now. H_BUSY: try again. H_PARAMETER, H_RESCINDED: no such grant. */
static inline int64_t h_return_logical(struct phyp_vcpu *v, uint64_t cookie)
{
	uint64_t r[PHYP_REGS] = {cookie};

	return phyp_hcall(v, H_RETURN_LOGICAL, r, r);
}

/*
 * The owner takes it back. flags: RESCIND_NORMAL, or RESCIND_FORCED. H_RESOURCE: it is accepted, and that was not by force. H_PARTIAL:
 * by force, and not over yet: the same call again. H_RESCINDED: it was already. H_PARAMETER: flags, or no grant of the caller's.
 */
static inline int64_t h_rescind_logical(struct phyp_vcpu *v, uint64_t flags, uint64_t cookie)
{
	uint64_t r[PHYP_REGS] = {flags, cookie};

	return phyp_hcall(v, H_RESCIND_LOGICAL, r, r);
}

#endif
