/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0 */
/* Bytes of a message, and names for people. docs/protocol.md, sections 1 and 2. */
#include <errno.h>

#include "proto/msg.h"

void vio_msg_encode(const struct vio_msg *m, uint64_t *hi, uint64_t *lo)
{
	*hi = (uint64_t)CRQ_CMD_RSP << 56 | (uint64_t)VIO_CRQ_FORMAT << 48 |
	      (uint64_t)m->version << 40 | (uint64_t)m->op << 32 | (uint64_t)m->status << 24 |
	      (uint64_t)m->arg8 << 16 | m->arg16;
	*lo = m->arg;
}

int vio_msg_decode(uint64_t hi, uint64_t lo, struct vio_msg *m)
{
	if (hi >> 48 != (CRQ_CMD_RSP << 8 | VIO_CRQ_FORMAT))
		return -EPROTO;
	*m = (struct vio_msg){
		.version = (uint8_t)(hi >> 40),
		.op = (uint8_t)(hi >> 32),
		.status = (uint8_t)(hi >> 24),
		.arg8 = (uint8_t)(hi >> 16),
		.arg16 = (uint16_t)hi,
		.arg = lo,
	};
	return 0;
}

static const struct {
	uint8_t op;
	const char *name;
} op_names[] = {
	{VIO_OP_PROBE, "PROBE"},
	{VIO_OP_PROBE | VIO_OP_REPLY, "PROBE reply"},
	{VIO_OP_ACKNOWLEDGE, "ACKNOWLEDGE"},
	{VIO_OP_ACKNOWLEDGE | VIO_OP_REPLY, "ACKNOWLEDGE reply"},
	{VIO_OP_DRIVER, "DRIVER"},
	{VIO_OP_FEATURES_OK, "FEATURES_OK"},
	{VIO_OP_FEATURES_OK | VIO_OP_REPLY, "FEATURES_OK reply"},
	{VIO_OP_QUEUE, "QUEUE"},
	{VIO_OP_DRIVER_OK, "DRIVER_OK"},
	{VIO_OP_DRIVER_OK | VIO_OP_REPLY, "DRIVER_OK reply"},
	{VIO_OP_RESET, "RESET"},
	{VIO_OP_RESET | VIO_OP_REPLY, "RESET reply"},
	{VIO_OP_WINDOW_ADD, "WINDOW_ADD"},
	{VIO_OP_WINDOW_ADD | VIO_OP_REPLY, "WINDOW_ADD reply"},
	{VIO_OP_WINDOW_DEL, "WINDOW_DEL"},
	{VIO_OP_WINDOW_DEL | VIO_OP_REPLY, "WINDOW_DEL reply"},
	{VIO_OP_WINDOW_LOST, "WINDOW_LOST"},
	{VIO_OP_KICK, "KICK"},
	{VIO_OP_USED, "USED"},
	{VIO_OP_CONFIG, "CONFIG"},
	{VIO_OP_CONFIG_SET, "CONFIG_SET"},
	{VIO_OP_CONFIG_SET | VIO_OP_REPLY, "CONFIG_SET reply"},
	{VIO_OP_NEEDS_RESET, "NEEDS_RESET"},
};

const char *vio_op_name(uint8_t op)
{
	for (size_t i = 0; i < VIO_ARRAY_SIZE(op_names); i++)
		if (op_names[i].op == op)
			return op_names[i].name;
	return "?";
}

static const char *const status_texts[VIO_N_STATUS] = {
	[VIO_ST_OK] = "no error",
	[VIO_ST_BAD_MESSAGE] = "the message is unknown, malformed or not allowed in this state",
	[VIO_ST_BAD_VERSION] = "the message's protocol version is not the negotiated one",
	[VIO_ST_NO_DMA] = "an announced address can't be reached by DMA",
	[VIO_ST_FEATURES] =
		"the features chosen are not offered, lack a needed one, or changed after FEATURES_OK",
	[VIO_ST_LEVELS] = "a chosen level of ring access, payload or notification is not offered",
	[VIO_ST_QUEUE] = "a queue's number, size, alignment or ring address is not valid",
	[VIO_ST_WINDOW_COOKIE] =
		"the window's grant does not exist, is for another partition, or was rescinded",
	[VIO_ST_WINDOW_RANGE] =
		"the window's range exceeds its grant, wraps, or overlaps another window",
	[VIO_ST_WINDOW_PERM] = "the window's announced permission is not its grant's",
	[VIO_ST_WINDOW_FULL] = "there is no room for another window",
	[VIO_ST_WINDOW_ID] = "there is no such window",
	[VIO_ST_RESCINDED] = "the window's grant was taken back by force",
	[VIO_ST_SHUTDOWN] = "the server is shutting down",
	[VIO_ST_AVAIL_IDX] = "the available index moved by more than the queue size",
	[VIO_ST_DESC_HEAD] = "a descriptor chain's head is out of range or already in flight",
	[VIO_ST_DESC_CHAIN] = "a descriptor chain loops, leaves the table, or is too long",
	[VIO_ST_DESC_ORDER] = "a device-readable descriptor follows a device-writable one",
	[VIO_ST_DESC_INDIRECT] =
		"an indirect descriptor table is malformed, nested or not negotiated",
	[VIO_ST_DESC_RANGE] =
		"a descriptor's address range is not inside a window or mapped by TCEs",
	[VIO_ST_DESC_PERM] = "a descriptor's range does not permit the access that it asks for",
	[VIO_ST_REQUEST] = "the request has no room for its header or its status",
	[VIO_ST_STORE] = "what is behind the device (disk, port) could not open a queue",
	[VIO_ST_NO_ANSWER] = "no answer within the time allowed; whether it was done is not known",
	[VIO_ST_FROZEN] = "the adapter is frozen",
};

const char *vio_status_text(uint8_t status)
{
	return status < VIO_N_STATUS ? status_texts[status] : "an unknown reason";
}
