/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Arbitrary CRQ entries into both ends: connection, then the server's or the guest's machine. The
 * input is a version byte and records of 17 bytes: a control byte, an entry. Control bit 0: give
 * the entry our valid byte, format and a known version, so that it gets past the decoder; bit 1: to
 * the guest (else the server); bit 2: the guest first tries to send the op itself; bit 6: and the
 * entry does not arrive; bits 3 to 5 at the server: how its work ends.
 */
#include <string.h>

#include "proto/fsm.h"
#include "tests/fuzz/fuzz.h"

struct ends {
	struct vio_link slink, glink;
	struct vio_sfsm s;
	struct vio_gfsm g;
	struct vio_msg later; /* a RESET or WINDOW_DEL that the server finishes later */
	bool has_later;
};

static void check_states(const struct ends *e)
{
	FUZZ_CHECK((unsigned)e->s.state < VIO_N_SSTATE);
	FUZZ_CHECK((unsigned)e->g.state < VIO_N_GSTATE);
	FUZZ_CHECK((unsigned)e->slink.state <= VIO_LINK_UP &&
		   (unsigned)e->glink.state <= VIO_LINK_UP);
	FUZZ_CHECK(e->s.version <= e->s.max_version && e->g.version <= e->g.max_version);
	FUZZ_CHECK((e->s.state == VIO_S_IDLE) <= (e->s.version == 0));
	FUZZ_CHECK((e->s.state >= VIO_S_PROBED && e->s.state <= VIO_S_RUNNING) <=
		   (e->s.version > 0));
	FUZZ_CHECK((e->s.state == VIO_S_DRIVER) <= (e->s.version == VIO_PROTO_V2));
	FUZZ_CHECK((e->g.state >= VIO_G_PROBED && e->g.state <= VIO_G_RUNNING) <=
		   (e->g.version > 0));
	FUZZ_CHECK((e->g.state == VIO_G_NEGOTIATING) <= (e->g.version == VIO_PROTO_V2));
	FUZZ_CHECK(!e->g.window_pending || e->g.version == VIO_PROTO_V2);
	FUZZ_CHECK(strcmp(vio_sstate_name(e->s.state), "?") != 0);
	FUZZ_CHECK(strcmp(vio_gstate_name(e->g.state), "?") != 0);
}

static void check_reply(const struct ends *e, const struct vio_msg *m, const struct vio_msg *r)
{
	struct vio_msg again;
	uint64_t hi, lo;
	char line[256];

	FUZZ_CHECK(r->version >= VIO_PROTO_V1 && r->version <= e->s.max_version);
	if (r->op == VIO_OP_NEEDS_RESET) {
		FUZZ_CHECK(r->status != VIO_ST_OK);
		FUZZ_CHECK(e->s.state == VIO_S_NEEDS_RESET);
	} else {
		FUZZ_CHECK(r->op == (m->op | VIO_OP_REPLY) && r->op != m->op);
		FUZZ_CHECK(strcmp(vio_op_name(r->op), "?") != 0);
	}
	vio_msg_encode(r, &hi, &lo);
	FUZZ_CHECK(vio_msg_decode(hi, lo, &again) == 0);
	FUZZ_CHECK(again.version == r->version && again.op == r->op && again.status == r->status &&
		   again.arg8 == r->arg8 && again.arg16 == r->arg16 && again.arg == r->arg);
	vio_msg_trace(line, sizeof(line), r, false);
	FUZZ_CHECK(strlen(line) < sizeof(line) - 1);
}

static void finish_later(struct ends *e)
{
	struct vio_msg reply;

	if (!e->has_later)
		return;
	e->has_later = false;
	if (vio_sfsm_done(&e->s, &e->later, VIO_ST_OK, &reply))
		check_reply(e, &e->later, &reply);
}

static void to_server(struct ends *e, const struct vio_msg *m, uint8_t control)
{
	uint8_t why = VIO_ST_OK, status = control & 0x08 ? VIO_ST_NO_DMA : VIO_ST_OK;
	enum vio_sstate before = e->s.state;
	struct vio_msg reply;
	enum vio_stodo todo;

	if (control & 0x10)
		finish_later(e);
	before = e->s.state;
	todo = vio_sfsm_rx(&e->s, m, &why);
	FUZZ_CHECK((unsigned)todo <= VIO_TODO_REFUSE);
	FUZZ_CHECK(e->s.state == before ||
		   (todo == VIO_TODO_RESET && e->s.state == VIO_S_RESETTING));
	FUZZ_CHECK((todo == VIO_TODO_REFUSE) == (why != VIO_ST_OK));
	FUZZ_CHECK(why < VIO_N_STATUS);
	if (todo == VIO_TODO_WINDOW_ADD || todo == VIO_TODO_WINDOW_DEL ||
	    todo == VIO_TODO_READ_CHOICE)
		FUZZ_CHECK(e->s.version == VIO_PROTO_V2);
	if (todo == VIO_TODO_QUEUE || todo == VIO_TODO_KICK)
		FUZZ_CHECK(m->arg16 < VIO_MAX_QUEUES);
	if (todo == VIO_TODO_KICK)
		FUZZ_CHECK(e->s.state == VIO_S_RUNNING);
	if ((todo == VIO_TODO_RESET || todo == VIO_TODO_WINDOW_DEL) && control & 0x20 &&
	    !e->has_later) {
		e->later = *m;
		e->has_later = true;
		return;
	}
	if (todo == VIO_TODO_REFUSE)
		status = why;
	else if (todo == VIO_TODO_NOTHING || todo == VIO_TODO_RESET)
		status = VIO_ST_OK;
	if (vio_sfsm_done(&e->s, m, status, &reply))
		check_reply(e, m, &reply);
	else
		FUZZ_CHECK(status == VIO_ST_OK || before == VIO_S_NEEDS_RESET ||
			   before == VIO_S_RESETTING);
}

static void to_guest(struct ends *e, const struct vio_msg *m, uint8_t control)
{
	struct vio_gfsm before;
	enum vio_gevent event;

	if (control & 0x04) {
		struct vio_msg out = {.op = m->op & 0x7f, .arg8 = m->arg8};

		before = e->g;
		if (vio_gfsm_tx(&e->g, &out) < 0)
			FUZZ_CHECK(memcmp(&before, &e->g, sizeof(before)) == 0);
		else
			FUZZ_CHECK(out.version >= VIO_PROTO_V1 && out.version <= e->g.max_version);
	}
	if (control & 0x40)
		return;
	before = e->g;
	event = vio_gfsm_rx(&e->g, m);
	FUZZ_CHECK((unsigned)event <= VIO_GE_LATE);
	if (event == VIO_GE_LATE)
		FUZZ_CHECK(memcmp(&before, &e->g, sizeof(before)) == 0);
	if (event == VIO_GE_BAD)
		FUZZ_CHECK(e->g.state == VIO_G_BROKEN || e->g.state == VIO_G_RESETTING);
	if (event == VIO_GE_USED)
		FUZZ_CHECK(m->arg16 < VIO_MAX_QUEUES);
	if (before.state == VIO_G_RESETTING && e->g.state != VIO_G_RESETTING)
		FUZZ_CHECK(m->op == (VIO_OP_RESET | VIO_OP_REPLY));
	if (before.state == VIO_G_BROKEN)
		FUZZ_CHECK(e->g.state == VIO_G_BROKEN);
}

static void entry(struct ends *e, uint64_t hi, uint64_t lo, uint8_t control)
{
	bool guest = control & 0x02, reply = false;
	struct vio_link *link = guest ? &e->glink : &e->slink;
	uint64_t rhi = 0, rlo = 0;
	enum vio_link_event event;
	struct vio_msg m;
	char line[256];

	vio_crq_trace(line, sizeof(line), hi, lo, !guest);
	FUZZ_CHECK(line[0] != '\0' && strlen(line) < sizeof(line) - 1);
	event = vio_link_rx(link, hi, lo, &reply, &rhi, &rlo);
	FUZZ_CHECK((unsigned)event <= VIO_LINK_IGNORED);
	FUZZ_CHECK(!reply ||
		   (rhi == 0xc002000000000000u && rlo == lo && link->state == VIO_LINK_UP));
	if (event == VIO_LINK_RESTARTED || event == VIO_LINK_LOST) {
		if (guest) {
			vio_gfsm_init(&e->g, e->g.max_version);
		} else {
			vio_sfsm_init(&e->s, e->s.max_version);
			e->has_later = false;
		}
	}
	if (event == VIO_LINK_MESSAGE && vio_msg_decode(hi, lo, &m) == 0) {
		if (guest)
			to_guest(e, &m, control);
		else
			to_server(e, &m, control);
	}
	check_states(e);
}

static uint64_t be64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ends e;

	if (size < 1)
		return 0;
	memset(&e, 0, sizeof(e)); /* padding too: states are compared as bytes */
	vio_link_init(&e.slink, 0);
	vio_link_init(&e.glink, 0);
	vio_sfsm_init(&e.s, data[0] & 0x0f);
	vio_gfsm_init(&e.g, data[0] >> 4);
	if (!(data[0] & 0x80)) /* most inputs should not spend themselves on the handshake */
		e.slink.state = e.glink.state = VIO_LINK_UP;
	for (data++, size--; size >= 17; data += 17, size -= 17) {
		uint64_t hi = be64(data + 1), lo = be64(data + 9);

		if (data[0] & 1)
			hi = (hi & 0x000000ffffffffffu) | (uint64_t)CRQ_CMD_RSP << 56 |
			     (uint64_t)VIO_CRQ_FORMAT << 48 |
			     (uint64_t)(hi >> 40 & 1 ? 1 : 2) << 40;
		entry(&e, hi, lo, data[0]);
	}
	return 0;
}

static size_t add(uint8_t *buf, size_t at, uint8_t control, const struct vio_msg *m)
{
	uint64_t w[2];

	vio_msg_encode(m, &w[0], &w[1]);
	buf[at++] = control;
	for (int i = 0; i < 16; i++)
		buf[at++] = (uint8_t)(w[i / 8] >> (56 - 8 * (i % 8)));
	return at;
}

static bool from_server(uint8_t op)
{
	return op == VIO_OP_WINDOW_LOST || (op >= VIO_OP_USED && op <= VIO_OP_NEEDS_RESET);
}

/* The whole life of a device, at the server and at the guest, in both versions. */
size_t vio_fuzz_seed(unsigned i, uint8_t *buf, size_t max)
{
	static const uint8_t ops[] = {
		VIO_OP_PROBE,       VIO_OP_ACKNOWLEDGE, VIO_OP_DRIVER,      VIO_OP_FEATURES_OK,
		VIO_OP_QUEUE,       VIO_OP_WINDOW_ADD,  VIO_OP_DRIVER_OK,   VIO_OP_KICK,
		VIO_OP_USED,        VIO_OP_CONFIG,      VIO_OP_WINDOW_LOST, VIO_OP_WINDOW_DEL,
		VIO_OP_NEEDS_RESET, VIO_OP_RESET,
	};
	uint8_t version = i & 1 ? VIO_PROTO_V1 : VIO_PROTO_V2;
	bool guest = i & 2;
	size_t at = 0;

	if (i >= 4 || max < 1 + 17 * sizeof(ops))
		return 0;
	buf[at++] = (uint8_t)(version << 4 | version);
	for (size_t k = 0; k < sizeof(ops); k++) {
		struct vio_msg m = {
			.version = version, .op = ops[k], .arg16 = ops[k] == VIO_OP_PROBE ? 64 : 0};

		if (version == VIO_PROTO_V1 &&
		    (ops[k] == VIO_OP_FEATURES_OK || (ops[k] & 0xf0) == 0x10))
			continue;
		if (from_server(ops[k]) && !guest)
			continue;
		if (!guest) {
			at = add(buf, at, 1, &m);
		} else if (from_server(ops[k])) {
			at = add(buf, at, 2 | 1, &m);
		} else if (ops[k] == VIO_OP_KICK || ops[k] == VIO_OP_DRIVER ||
			   ops[k] == VIO_OP_QUEUE) {
			at = add(buf, at, 0x40 | 4 | 2 | 1, &m);
		} else { /* sent, and answered */
			m.op |= VIO_OP_REPLY;
			at = add(buf, at, 4 | 2 | 1, &m);
		}
	}
	return at;
}
