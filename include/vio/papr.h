/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0 */
/*
 * PAPR's numbers: hypervisor calls, return codes, TCE bits, CRQ bytes. Values only, no policy.
 *
 * Sources: Linux on Power Architecture Reference (LoPAR), chapter Virtualized Input/Output; the
 * four logical resource calls' numbers are those of IBM's Research Hypervisor (rHype, 2005), their
 * semantics LoPAR's.
 */
#ifndef VIO_PAPR_H
#define VIO_PAPR_H

#include <stdint.h>

enum h_op {
	H_GET_TCE = 0x1C,
	H_PUT_TCE = 0x20,
	H_REG_CRQ = 0xFC,
	H_FREE_CRQ = 0x100,
	H_VIO_SIGNAL = 0x104,
	H_SEND_CRQ = 0x108,
	H_COPY_RDMA = 0x110,
	H_WRITE_RDMA = 0x128,
	H_READ_RDMA = 0x12C,
	H_STUFF_TCE = 0x138,
	H_PUT_TCE_INDIRECT = 0x13C,
	H_GRANT_LOGICAL = 0x1C4,
	H_RESCIND_LOGICAL = 0x1C8,
	H_ACCEPT_LOGICAL = 0x1CC,
	H_RETURN_LOGICAL = 0x1D0,
	H_ENABLE_CRQ = 0x2B0,
	/* This model's own: PAPR has RTAS services instead. Numbers from the range that is nobody's. */
	H_READ_PE_STATE = 0xF100,
	H_SET_PE_STATE = 0xF104,
};

/* Return codes of a call. Negative is an error, positive is "not now" or "in part". */
enum h_rc {
	H_SUCCESS = 0,
	H_BUSY = 1,
	H_CLOSED = 2,
	H_NOT_AVAILABLE = 3,
	H_PARTIAL = 5,
	/* As H_BUSY, with a hint of how long. */
	H_LONG_BUSY_ORDER_1_MSEC = 9900,
	H_LONG_BUSY_ORDER_10_MSEC = 9901,
	H_LONG_BUSY_ORDER_100_MSEC = 9902,
	H_LONG_BUSY_ORDER_1_SEC = 9903,
	H_LONG_BUSY_ORDER_10_SEC = 9904,
	H_LONG_BUSY_ORDER_100_SEC = 9905,
	H_HARDWARE = -1,
	H_FUNCTION = -2,
	H_PRIVILEGE = -3,
	H_PARAMETER = -4,
	H_NOT_FOUND = -7,
	H_NO_MEM = -9,
	H_AUTHORITY = -10,
	H_PERMISSION = -11,
	H_DROPPED = -12,
	H_SOURCE_PARM = -13,
	H_DEST_PARM = -14,
	H_REMOTE_PARM = -15,
	H_RESOURCE = -16,
	H_NOT_ENOUGH_RESOURCES = -44,
	H_R_STATE = -45,
	H_RESCINDED = -46,
};

/* TCE: page number in the high bits, permission (the device's view) in bits 0 and 1. 0 = no access. */
#define TCE_READ      0x1ull /* the device may read the page */
#define TCE_WRITE     0x2ull /* the device may write the page */
#define TCE_PERM      0x3ull
#define TCE_PAGE_MASK (~0xfffull)
/* Entries in one H_PUT_TCE_INDIRECT or H_STUFF_TCE call. */
#define TCE_MAX_MULTI 512

/* Byte 0 of a CRQ entry. */
enum crq_valid {
	CRQ_FREE = 0x00,
	CRQ_CMD_RSP = 0x80,
	CRQ_INIT = 0xC0,
	CRQ_TRANSPORT = 0xFF,
};

/* Byte 1 of an initialisation entry. */
enum crq_init_format {
	CRQ_INIT_REQ = 0x01,
	CRQ_INIT_COMPLETE = 0x02,
};

/* Byte 1 of a transport event. */
enum crq_transport_event {
	CRQ_XPORT_PARTNER_FAILED = 0x01,
	CRQ_XPORT_PARTNER_DEREGISTERED = 0x02,
	CRQ_XPORT_SUSPENDED = 0x06,
	CRQ_XPORT_PREPARE_SUSPEND = 0x09,
	CRQ_XPORT_RESUMED = 0x0A,
};

#define CRQ_ENTRY_BYTES 16u
#define CRQ_PAGE_BYTES  4096u
#define CRQ_MAX_BYTES   (256u << 20)

/* RDMA through registers and by copy, bytes in one call. */
#define H_READ_RDMA_MAX  72u
#define H_WRITE_RDMA_MAX 48u
#define H_COPY_RDMA_MAX  (128u << 10)

/* H_GRANT_LOGICAL flags (LoPAR: type and restrictions). Bit positions are this project's [assumption]. */
#define GRANT_SYSTEM_MEMORY 0x1ull
#define GRANT_NO_READ       0x10ull /* read inhibited */
#define GRANT_NO_WRITE      0x20ull /* write inhibited */
/* H_RESCIND_LOGICAL flags. */
#define RESCIND_NORMAL 0x0ull
#define RESCIND_FORCED 0x1ull

/*
 * States of a partitionable endpoint: numbers of ibm,read-slot-reset-state2, as Linux reads them. 4 (DMA stopped, load and store
 * enabled) does not occur, a virtual adapter has no registers to look at; nor 5 (unavailable for a while), for which
 * H_READ_PE_STATE has a register.
 */
enum pe_state {
	PE_NORMAL = 0,
	PE_RESET = 1,
	PE_FROZEN = 2,
};
/* Why an endpoint was frozen; this model's own. */
enum pe_reason {
	PE_NO_REASON,
	PE_ASKED,     /* H_SET_PE_STATE */
	PE_BAD_READ,  /* a device read what no TCE lets it read, or past the window */
	PE_BAD_WRITE, /* ... wrote */
};

/* H_VIO_SIGNAL mode. */
#define VIO_SIGNAL_OFF 0x0ull
#define VIO_SIGNAL_ON  0x1ull

/* Registers of one call: R4...R12. */
#define PHYP_REGS 9

#endif
