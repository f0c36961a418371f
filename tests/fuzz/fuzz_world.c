/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that does what the input says, to all that a guest can reach: hypercalls with any arguments, messages, its memory while
 * the server works in it, rings, grants, its own death; and a server that ends and comes back. Beside it an honest guest,
 * whose disk has to go on. Every input is a list of actions; a correct way up is one of them, so that short inputs get far.
 *
 * What is checked: no write outside of what is the server's to write (canaries in the server's memory, a secret in each guest's), a bound on
 * what is in flight, the honest guest's data, an end of everything that began; and whatever a sanitizer knows.
 */
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/world.h"

/* A SIGSEGV in a window that was taken back is the server's to handle: see on_fault() in world.c. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "handle_segv=0:handle_sigbus=0:allow_user_segv_handler=1";
}

enum action {
	TURN,      /* n turns of the server */
	SETTLE,    /* and of the guests' ends */
	STEP,      /* on the way up */
	CALL,      /* a hypercall */
	MESSAGE,   /* any */
	WRITE,     /* its memory */
	REQUEST,   /* a request as it should be, published */
	RING,      /* a word of a ring */
	WITHDRAW,  /* a window: by message, by call, by force */
	UNMAP,     /* a page's TCE, or another one in its place */
	DIE,       /* and come back */
	SERVER,    /* ends and comes back */
	NEIGHBOUR, /* the honest guest's turn */
	RESET,     /* its device, and its way up from there */
	N_ACTIONS,
};

static uint64_t pick(struct bytes *b, const uint64_t *from, unsigned n)
{
	uint8_t i = take8(b);
	uint64_t raw;

	if (i < 0xe0)
		return from[i % n];
	take(b, &raw, sizeof(raw));
	return raw;
}

/* An argument of a call: numbers that mean something to it, theirs and others'. */
static uint64_t argument(struct fw_side *s, struct bytes *b)
{
	const struct fw_side *o = &s->w->side[FW_HONEST];
	const uint64_t gla = (uint64_t)take16(b) << 8;
	const uint64_t from[] = {
		s->u->unit,
		s->far->unit,
		o->u->unit,
		o->far->unit,
		s->u->liobn,
		s->far->liobn,
		o->u->liobn,
		o->far->liobn,
		gla,
		s->u->window.v + gla,
		s->far->window.v + gla,
		o->u->window.v + gla,
		gla | TCE_READ | TCE_WRITE,
		FW_PRIVATE | TCE_READ | TCE_WRITE,
		0,
		1,
		2,
		GRANT_SYSTEM_MEMORY,
		GRANT_SYSTEM_MEMORY | GRANT_NO_WRITE,
		4096,
		512,
		16 * 4096,
		FW_LIST,
		s->n_cookies ? s->cookie[gla % s->n_cookies] : 0,
		o->n_cookies ? o->cookie[gla % o->n_cookies] : 0,
		phyp_mem_size(s->part) - 4096,
	};

	return pick(b, from, VIO_ARRAY_SIZE(from));
}

static void call(struct fw_side *s, struct bytes *b)
{
	uint64_t r[PHYP_REGS] = {0}, op = take8(b);
	const unsigned n = take8(b) % (PHYP_REGS + 1);
	int64_t rc;

	op = op < 0xf0 ? phyp_op_at((unsigned)op % PHYP_N_OPS) : op;
	/* An honest driver's own page under its own control is not an attack: the secret stays unmapped. */
	for (unsigned i = 0; i < n; i++)
		r[i] = argument(s, b);
	if (op == H_PUT_TCE && (r[2] & TCE_PAGE_MASK) >= FW_PRIVATE)
		r[2] &= 0xfffff;
	if (op == H_STUFF_TCE && (r[2] & TCE_PAGE_MASK) >= FW_PRIVATE)
		r[2] &= 0xfffff;
	if (op == H_PUT_TCE_INDIRECT)
		r[2] = FW_CONFIG; /* zeroes, or what the server wrote there: TCEs below the secret or refused */
	if (op == H_GRANT_LOGICAL && r[1] >= FW_PRIVATE - r[2])
		r[1] &= 0xff000;
	rc = phyp_hcall(s->vcpu, op, r, r);
	if (op == H_GRANT_LOGICAL && rc == H_SUCCESS && s->n_cookies < VIO_ARRAY_SIZE(s->cookie))
		s->cookie[s->n_cookies++] = r[0];
	if ((op == H_FREE_CRQ || op == H_REG_CRQ) && rc != H_PARAMETER)
		s->crq.entry = NULL; /* until the next way up */
}

static void message(struct fw_side *s, struct bytes *b)
{
	static const uint8_t op[] = {
		VIO_OP_PROBE,       VIO_OP_ACKNOWLEDGE, VIO_OP_DRIVER,      VIO_OP_FEATURES_OK,
		VIO_OP_QUEUE,       VIO_OP_DRIVER_OK,   VIO_OP_RESET,       VIO_OP_WINDOW_ADD,
		VIO_OP_WINDOW_DEL,  VIO_OP_KICK,        VIO_OP_USED,        VIO_OP_CONFIG,
		VIO_OP_NEEDS_RESET, VIO_OP_CONFIG_SET,  VIO_OP_WINDOW_LOST, 0x7e};
	const uint8_t how = take8(b), arg8 = take8(b);
	const uint16_t arg16 = take16(b);
	uint64_t hi, lo;

	if (how & 0x80) { /* not even a message */
		take(b, &hi, sizeof(hi));
		take(b, &lo, sizeof(lo));
		h_send_crq(s->vcpu, s->u->unit, hi, lo);
		return;
	}
	fw_send(s, (struct vio_msg){.version = how & 0x40 ? arg8 : s->fsm.version,
				    .op = op[how % VIO_ARRAY_SIZE(op)],
				    .status = how & 0x20 ? arg8 : 0,
				    .arg8 = arg8,
				    .arg16 = arg16,
				    .arg = argument(s, b)});
}

static void write_memory(struct fw_side *s, struct bytes *b)
{
	static const uint64_t places[] = {FW_HEADER, FW_CONFIG, FW_WDESC, FW_DESC,
					  FW_AVAIL,  FW_USED,   FW_BUF,   FW_BUF + 0x1000};
	const uint64_t at = places[take8(b) % VIO_ARRAY_SIZE(places)] + take8(b);

	take(b, s->mem + at, 1 + take8(b) % 32);
}

static void request(struct fw_side *s, struct bytes *b)
{
	static const uint32_t type[] = {VIRTIO_BLK_T_IN,
					VIRTIO_BLK_T_OUT,
					VIRTIO_BLK_T_FLUSH,
					VIRTIO_BLK_T_GET_ID,
					VIRTIO_BLK_T_DISCARD,
					VIRTIO_BLK_T_WRITE_ZEROES,
					99};
	const uint8_t how = take8(b);

	if (s->step < 8 || s->queue.size == 0)
		return;
	/* An id is used again without asking whether it came back: the mock keeps no account that could be wrong then. */
	memset(s->queue.held, 0, sizeof(s->queue.held));
	s->queue.in = s->queue.out = 0;
	fw_request(s, type[how % VIO_ARRAY_SIZE(type)], take8(b), how >> 6);
	mock_publish(&s->queue);
	if (how & 0x20)
		fw_send(s, (struct vio_msg){.version = s->fsm.version, .op = VIO_OP_KICK});
}

static void ring_word(struct fw_side *s, struct bytes *b)
{
	const uint8_t how = take8(b);
	const uint64_t part = how % 3 == 0 ? FW_DESC : how % 3 == 1 ? FW_AVAIL : FW_USED;
	const uint16_t v = take16(b);

	memcpy(s->mem + part + 2ull * (take8(b) % 128u), &v, sizeof(v));
	if (how & 0x80) { /* the index that publishes, by a few or by many */
		const uint16_t idx =
			vio_le16((uint16_t)(s->queue.next + v % (how & 0x40 ? 700 : 5)));

		memcpy(s->mem + FW_AVAIL + 2, &idx, sizeof(idx));
	}
}

static void withdraw(struct fw_side *s, struct bytes *b)
{
	const uint8_t how = take8(b);
	uint64_t r[PHYP_REGS];

	if (how & 0x80) {
		struct vio_msg m = {.op = VIO_OP_WINDOW_DEL, .arg16 = how % 8u};

		if (vio_gfsm_tx(&s->fsm, &m) == 0)
			fw_send(s, m);
		return;
	}
	if (s->n_cookies == 0)
		return;
	r[0] = how & 0x40 ? RESCIND_FORCED : RESCIND_NORMAL;
	r[1] = s->cookie[how % s->n_cookies];
	phyp_hcall(s->vcpu, H_RESCIND_LOGICAL, r, r);
}

static void unmap(struct fw_side *s, struct bytes *b)
{
	static const uint64_t places[] = {FW_CRQ,  FW_HEADER, FW_CONFIG, FW_WDESC,
					  FW_DESC, FW_AVAIL,  FW_USED,   FW_BUF};
	const uint64_t at = places[take8(b) % VIO_ARRAY_SIZE(places)];
	const uint8_t how = take8(b);
	/* Nothing; or half of the permission; or somebody else's page, of its own. */
	const uint64_t tce = how < 0x80   ? 0
			     : how < 0xc0 ? at | (how & TCE_PERM)
					  : FW_BUF | TCE_PERM;

	h_put_tce(s->vcpu, s->u->liobn, ioba_add(s->u->window, at), tce);
}

/* Its device, and its own way up from there. */
static void send_reset(struct fw_side *s)
{
	struct vio_msg m = {.op = VIO_OP_RESET};

	if (vio_gfsm_tx(&s->fsm, &m) == 0)
		fw_send(s, m);
	s->step = 1;
}

static void restart_server(struct fw_side *s)
{
	fw_server_close(s);
	fw_server_open(s);
}

static void act(struct fw_side *s, struct bytes *b)
{
	struct fw_side *honest = &s->w->side[FW_HONEST];
	const uint8_t a = take8(b);

	switch (a % N_ACTIONS) {
	case TURN:
		for (unsigned i = 0; i <= a / N_ACTIONS % 4u; i++)
			fw_turn(s->w);
		return;
	case SETTLE:
		fw_settle(s->w);
		return;
	case STEP:
		fw_step(s);
		fw_settle(s->w);
		return;
	case CALL:
		call(s, b);
		return;
	case MESSAGE:
		message(s, b);
		return;
	case WRITE:
		write_memory(s, b);
		return;
	case REQUEST:
		request(s, b);
		return;
	case RING:
		ring_word(s, b);
		return;
	case WITHDRAW:
		withdraw(s, b);
		return;
	case UNMAP:
		unmap(s, b);
		return;
	case DIE:
		fw_guest_die(s);
		return;
	case SERVER:
		restart_server(s);
		return;
	case NEIGHBOUR:
		fw_verify(honest, a);
		return;
	default:
		send_reset(s);
		return;
	}
}

static void set_arm(struct fw_side *s, uint8_t how)
{
	s->ring = how & 3;
	if (s->ring >= VIO_N_RING)
		s->ring = VIO_RING_DIRECT;
	s->payload = how & 4 ? VIO_PAYLOAD_DIRECT : VIO_PAYLOAD_RDMA;
	s->notify = (uint8_t)((how >> 3) % VIO_N_NOTIFY);
	s->packed = how & 0x20;
	s->in_order = how & 0x40;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = {data, size};
	struct fw_world *w = fw_open();
	struct fw_side *honest = &w->side[FW_HONEST], *hostile = &w->side[FW_HOSTILE];

	set_arm(honest, take8(&b));
	set_arm(hostile, take8(&b));
	while (fw_step(honest))
		fw_settle(w);
	FUZZ_CHECK(fw_up(honest));
	for (unsigned i = 0; i < 200 && b.n > 0; i++)
		act(hostile, &b);
	fw_verify(honest, 0x77);
	fw_close(w);
	return 0;
}

/* ---------------------------------------------------------------------------------- seeds ---- */

static void put(uint8_t *buf, size_t *n, size_t max, unsigned byte)
{
	FUZZ_CHECK(*n < max);
	buf[(*n)++] = (uint8_t)byte;
}

/* The way up of each arm and some requests; then what one can do then, one kind a seed. */
size_t vio_fuzz_seed(unsigned i, uint8_t *buf, size_t max)
{
	static const uint8_t then[] = {TURN,     CALL,  MESSAGE, WRITE,  RING,
				       WITHDRAW, UNMAP, DIE,     SERVER, RESET};
	static const uint8_t arm[] = {0x00, 0x01, 0x06, 0x02, 0x16, 0x26,
				      0x46, 0x66, 0x20, 0x41, 0x61, 0x0e};
	size_t n = 0;

	if (i >= VIO_ARRAY_SIZE(then) * VIO_ARRAY_SIZE(arm))
		return 0;
	put(buf, &n, max, arm[(i + 5) % VIO_ARRAY_SIZE(arm)]);
	put(buf, &n, max, arm[i % VIO_ARRAY_SIZE(arm)]);
	for (unsigned k = 0; k < 9; k++)
		put(buf, &n, max, STEP);
	for (unsigned k = 0; k < 6; k++) {
		put(buf, &n, max, REQUEST);
		put(buf, &n, max, 0x20 | k | (k % 4) << 6);
		put(buf, &n, max, k);
		put(buf, &n, max, SETTLE);
		for (unsigned m = 0; k % 2 && m < 8; m++)
			put(buf, &n, max, m ? 17 * m + i : then[i / VIO_ARRAY_SIZE(arm)]);
		put(buf, &n, max, NEIGHBOUR);
	}
	return n;
}
