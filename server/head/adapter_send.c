/* SPDX-License-Identifier: BSD-3-Clause */
/* What an adapter says to its guest, and its small reads and writes of the guest's memory. */
#include <string.h>

#include "server/head/adapter_priv.h"
#include "vio/atomics.h"

void vio_atrace(struct vio_adapter *a, uint64_t hi, uint64_t lo, bool to_server)
{
	char line[160];
	struct vio_msg m;

	if (!a->env.trace)
		return;
	if (vio_msg_decode(hi, lo, &m) == 0)
		vio_msg_trace(line, sizeof(line), &m, to_server);
	else
		vio_crq_trace(line, sizeof(line), hi, lo, to_server);
	a->env.trace(a->env.ctx, line);
}

/* True: done with it, taken or pointless. False: no room at the other end, try again later. */
static bool try_send(struct vio_adapter *a, uint64_t hi, uint64_t lo)
{
	int64_t rc;

	rc = PHYP_RETRY(VIO_ADAPTER_RETRIES, h_send_crq(a->vcpu, a->u->unit, hi, lo));
	if (rc == H_DROPPED || phyp_rc_busy(rc))
		return false;
	if (rc == H_SUCCESS)
		vio_atrace(a, hi, lo, false);
	return true;
}

void vio_aflush(struct vio_adapter *a)
{
	unsigned sent = 0;

	while (sent < a->out_n && try_send(a, a->out[sent].hi, a->out[sent].lo))
		sent++;
	a->out_n -= sent;
	memmove(a->out, a->out + sent, a->out_n * sizeof(a->out[0]));
}

void vio_asend(struct vio_adapter *a, uint64_t hi, uint64_t lo)
{
	if (a->out_n == 0 && try_send(a, hi, lo))
		return;
	/* Full can't happen: nothing new is begun while the outbox holds something (vio_adapter_crq()). */
	if (a->out_n < VIO_ADAPTER_OUTBOX) {
		a->out[a->out_n].hi = hi;
		a->out[a->out_n++].lo = lo;
	}
	vio_aattend(a);
}

void vio_asend_msg(struct vio_adapter *a, const struct vio_msg *m)
{
	uint64_t hi, lo;

	vio_msg_encode(m, &hi, &lo);
	vio_asend(a, hi, lo);
}

void vio_adone(struct vio_adapter *a, const struct vio_msg *m, uint8_t status)
{
	struct vio_msg reply = {0};
	bool was_stopped = a->fsm.state == VIO_S_NEEDS_RESET;
	bool send = vio_sfsm_done(&a->fsm, m, status, &reply);

	if (status != VIO_ST_OK)
		vio_asay(a, "%s: %s refused: %s", a->u->partner, vio_op_name(m->op),
			 vio_status_text(status));
	if (m->op == VIO_OP_WINDOW_ADD)
		reply.arg16 = m->arg16;
	if (status == VIO_ST_STORE)
		reply.arg = (uint64_t)a->op_errno;
	/* Queues first: when the guest reads NEEDS_RESET, nothing new is begun any more. */
	if (a->fsm.state == VIO_S_NEEDS_RESET && !was_stopped) {
		vio_actl(a, VIO_SQ_STOP);
		a->halted = true;
		a->seen.last_fault = status;
		vio_counter_add(&a->seen.needs_resets, 1);
	}
	if (send)
		vio_asend_msg(a, &reply);
	vio_aseen_update(a);
}

static uint8_t small_rdma_status(int64_t rc)
{
	return rc == H_SUCCESS ? VIO_ST_OK : rc == H_R_STATE ? VIO_ST_FROZEN : VIO_ST_NO_DMA;
}

uint8_t vio_aread(struct vio_adapter *a, struct ioba at, uint32_t len, uint64_t buf[PHYP_REGS])
{
	int64_t rc;

	rc = PHYP_RETRY(VIO_ADAPTER_RETRIES,
			h_read_rdma(a->vcpu, len, a->u->remote_liobn, at, buf));
	return small_rdma_status(rc);
}

uint8_t vio_awrite(struct vio_adapter *a, struct ioba at, const void *bytes, uint32_t len)
{
	const uint8_t *src = bytes;

	while (len > 0) {
		uint32_t part = len < H_WRITE_RDMA_MAX ? len : H_WRITE_RDMA_MAX;
		uint64_t data[H_WRITE_RDMA_MAX / 8] = {0};
		int64_t rc;

		memcpy(data, src, part);
		rc = PHYP_RETRY(VIO_ADAPTER_RETRIES,
				h_write_rdma(a->vcpu, part, a->u->remote_liobn, at, data));
		if (rc != H_SUCCESS)
			return small_rdma_status(rc);
		src += part;
		at = ioba_add(at, part);
		len -= part;
	}
	return VIO_ST_OK;
}
