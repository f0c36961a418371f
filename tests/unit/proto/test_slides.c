/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Both machines against each other, message by message, through encoded entries. What they print is
 * compared, line by line, with the sequence of the KVM Forum 2010 slides; what this project adds is
 * marked as such.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/fsm.h"

#define HEADER   0x10000u /* IOBAs of what the guest has mapped */
#define CONFIG   0x20000u
#define FEATURES 0x0000000130000202ull

struct lines {
	unsigned n;
	char line[48][160];
};

/* The guest with its mapped memory, the server, the two queues between them, and what was printed. */
struct pair {
	struct vio_link glink, slink;
	struct vio_gfsm g;
	struct vio_sfsm s;
	union {
		struct vio_dev_header_v1 v1;
		struct vio_dev_header_v2 v2;
		uint8_t bytes[VIO_DEV_HEADER_BYTES];
	} header;
	uint8_t config[60];
	uint64_t features_seen; /* by the server */
	struct {
		uint64_t hi, lo;
	} to_server[8], to_guest[8];
	unsigned n_to_server, n_to_guest;
	struct lines printed;
};

__attribute__((format(printf, 2, 3))) static void print(struct pair *p, const char *fmt, ...)
{
	va_list ap;

	assert_true(p->printed.n < VIO_ARRAY_SIZE(p->printed.line));
	va_start(ap, fmt);
	vsnprintf(p->printed.line[p->printed.n++], sizeof(p->printed.line[0]), fmt, ap);
	va_end(ap);
}

static void send_entry(struct pair *p, bool to_server, uint64_t hi, uint64_t lo)
{
	char line[160];

	vio_crq_trace(line, sizeof(line), hi, lo, to_server);
	print(p, "%s", line);
	if (to_server) {
		assert_true(p->n_to_server < 8);
		p->to_server[p->n_to_server].hi = hi;
		p->to_server[p->n_to_server++].lo = lo;
	} else {
		assert_true(p->n_to_guest < 8);
		p->to_guest[p->n_to_guest].hi = hi;
		p->to_guest[p->n_to_guest++].lo = lo;
	}
}

static void send_msg(struct pair *p, bool to_server, const struct vio_msg *m)
{
	uint64_t hi, lo;

	vio_msg_encode(m, &hi, &lo);
	send_entry(p, to_server, hi, lo);
}

/* PROBE: the server RDMA-writes its fields into the header, in the layout of the agreed version. */
static void write_header(struct pair *p, const struct vio_msg *m)
{
	assert_true(m->arg == HEADER);
	if (p->s.version == VIO_PROTO_V1) {
		p->header.v1.type = 2;
		p->header.v1.num_vqs = 1;
		p->header.v1.device_features = vio_to_be32((uint32_t)FEATURES);
		p->header.v1.config_len = sizeof(p->config);
		p->header.v1.vqs_size = 8;
	} else {
		p->header.v2.type = 2;
		p->header.v2.num_vqs = vio_to_be16(1);
		p->header.v2.device_features = vio_to_be64(FEATURES);
		p->header.v2.config_len = vio_to_be16(sizeof(p->config));
		p->header.v2.vqs_size = vio_to_be16(256);
		p->header.v2.ring_levels = p->header.v2.payload_levels =
			p->header.v2.notify_levels = 7;
	}
	print(p, "server => guest   RDMA write type nvqs device_features config_size vqs_size");
}

static uint8_t read_choice(struct pair *p)
{
	if (p->s.version == VIO_PROTO_V1)
		p->features_seen = vio_from_be32(p->header.v1.guest_features);
	else
		p->features_seen = vio_from_be64(p->header.v2.guest_features);
	print(p, "guest  => server  RDMA read guest_features");
	return p->features_seen & ~FEATURES ? VIO_ST_FEATURES : VIO_ST_OK;
}

static uint8_t serve(struct pair *p, enum vio_stodo todo, const struct vio_msg *m, uint8_t why)
{
	switch (todo) {
	case VIO_TODO_WRITE_HEADER:
		write_header(p, m);
		return VIO_ST_OK;
	case VIO_TODO_WRITE_CONFIG:
		assert_true(m->arg == CONFIG && m->arg16 == sizeof(p->config));
		memset(p->config, 0xcf, sizeof(p->config));
		print(p, "server => guest   RDMA write config");
		return VIO_ST_OK;
	case VIO_TODO_READ_CHOICE:
	case VIO_TODO_START:
		return read_choice(p);
	case VIO_TODO_REFUSE:
		return why;
	default:
		return VIO_ST_OK;
	}
}

/* The server takes all that has arrived. */
static void server_turn(struct pair *p)
{
	for (unsigned i = 0; i < p->n_to_server; i++) {
		uint64_t hi = p->to_server[i].hi, lo = p->to_server[i].lo, rhi, rlo;
		struct vio_msg m, reply;
		uint8_t why = VIO_ST_OK;
		bool answer;

		if (vio_link_rx(&p->slink, hi, lo, &answer, &rhi, &rlo) != VIO_LINK_MESSAGE) {
			if (answer)
				send_entry(p, false, rhi, rlo);
			continue;
		}
		assert_int_equal(vio_msg_decode(hi, lo, &m), 0);
		enum vio_stodo todo = vio_sfsm_rx(&p->s, &m, &why);
		uint8_t status = serve(p, todo, &m, why);

		if (vio_sfsm_done(&p->s, &m, status, &reply)) {
			if (todo == VIO_TODO_WINDOW_ADD)
				reply.arg16 = 1;
			send_msg(p, false, &reply);
		}
	}
	p->n_to_server = 0;
}

/* The guest takes all that has arrived; the last event. */
static enum vio_gevent guest_turn(struct pair *p)
{
	enum vio_gevent event = VIO_GE_BAD;

	for (unsigned i = 0; i < p->n_to_guest; i++) {
		uint64_t hi = p->to_guest[i].hi, lo = p->to_guest[i].lo, rhi, rlo;
		struct vio_msg m;
		bool answer;

		if (vio_link_rx(&p->glink, hi, lo, &answer, &rhi, &rlo) == VIO_LINK_MESSAGE) {
			assert_int_equal(vio_msg_decode(hi, lo, &m), 0);
			event = vio_gfsm_rx(&p->g, &m);
		} else if (answer) {
			send_entry(p, true, rhi, rlo);
		}
	}
	p->n_to_guest = 0;
	return event;
}

static void tell(struct pair *p, struct vio_msg m)
{
	assert_int_equal(vio_gfsm_tx(&p->g, &m), 0);
	send_msg(p, true, &m);
	server_turn(p);
}

static void ask(struct pair *p, struct vio_msg m, enum vio_gevent want)
{
	tell(p, m);
	assert_int_equal(guest_turn(p), want);
}

static void connect_pair(struct pair *p, uint8_t guest_max, uint8_t server_max)
{
	uint64_t hi, lo;

	memset(p, 0, sizeof(*p));
	vio_gfsm_init(&p->g, guest_max);
	vio_sfsm_init(&p->s, server_max);
	vio_link_hello(&p->slink, &hi, &lo);
	send_entry(p, false, hi, lo);
	guest_turn(p);
	server_turn(p);
	assert_int_equal(p->glink.state, VIO_LINK_UP);
	assert_int_equal(p->slink.state, VIO_LINK_UP);
}

static void finalize_features(struct pair *p, uint64_t features)
{
	if (p->g.version == VIO_PROTO_V1)
		p->header.v1.guest_features = vio_to_be32((uint32_t)features);
	else
		p->header.v2.guest_features = vio_to_be64(features);
	print(p, "guest             finalize_features");
}

/* As far as features: virtio_vio_probe(), register_virtio_device(), virtio_dev_probe() of the slides. */
static void configure_to_features(struct pair *p)
{
	unsigned config_len;

	ask(p, (struct vio_msg){.op = VIO_OP_PROBE, .arg16 = VIO_DEV_HEADER_BYTES, .arg = HEADER},
	    VIO_GE_STEP_DONE);
	config_len = p->g.version == VIO_PROTO_V1 ? p->header.v1.config_len
						  : vio_from_be16(p->header.v2.config_len);
	print(p, "guest             allocate config space, %u bytes", config_len);
	ask(p,
	    (struct vio_msg){
		    .op = VIO_OP_ACKNOWLEDGE, .arg16 = (uint16_t)config_len, .arg = CONFIG},
	    VIO_GE_STEP_DONE);
	assert_int_equal(p->config[59], 0xcf);
	tell(p, (struct vio_msg){.op = VIO_OP_DRIVER});
	finalize_features(p, p->g.version == VIO_PROTO_V1 ? (uint32_t)FEATURES : FEATURES);
	if (p->g.version >= VIO_PROTO_V2)
		ask(p, (struct vio_msg){.op = VIO_OP_FEATURES_OK}, VIO_GE_STEP_DONE);
	assert_int_equal(p->g.state, VIO_G_FEATURES);
	assert_int_equal(p->s.state, VIO_S_FEATURES);
}

static void configure(struct pair *p)
{
	configure_to_features(p);
	if (p->g.version >= VIO_PROTO_V2) {
		ask(p, (struct vio_msg){.op = VIO_OP_WINDOW_ADD, .arg = 0x30000},
		    VIO_GE_WINDOW_DONE);
		tell(p, (struct vio_msg){.op = VIO_OP_QUEUE, .arg8 = VIO_QUEUE_SIZE, .arg = 128});
	}
	tell(p, (struct vio_msg){.op = VIO_OP_QUEUE, .arg8 = VIO_QUEUE_DESC, .arg = 0x40000});
	tell(p, (struct vio_msg){.op = VIO_OP_QUEUE, .arg8 = VIO_QUEUE_AVAIL, .arg = 0x41000});
	tell(p, (struct vio_msg){.op = VIO_OP_QUEUE, .arg8 = VIO_QUEUE_USED, .arg = 0x42000});
	ask(p, (struct vio_msg){.op = VIO_OP_DRIVER_OK}, VIO_GE_STEP_DONE);
	assert_int_equal(p->g.state, VIO_G_RUNNING);
	assert_int_equal(p->s.state, VIO_S_RUNNING);
}

/* One line of the expected trace. slide: the step's words on the slides, or NULL: added by this project. */
struct step {
	const char *slide;
	const char *line;
};

#define CONNECT                                                                                    \
	{NULL, "server -> guest   INIT"},                                                          \
	{                                                                                          \
		NULL, "guest  -> server  INIT COMPLETE"                                            \
	}

static const struct step v1_steps[] = {
	CONNECT,
	{"PROBE: TCE of guest table",
	 "guest  -> server  PROBE              v1 header=0x10000 bytes=64"},
	{"RDMA write to guest: type, nvqs, device_features, config_size, vqs_size",
	 "server => guest   RDMA write type nvqs device_features config_size vqs_size"},
	{NULL, "server -> guest   PROBE reply        v1 ok"},
	{"Allocate config space", "guest             allocate config space, 60 bytes"},
	{"DEVICE_ACKNOWLEDGE", "guest  -> server  ACKNOWLEDGE        v1 config=0x20000 bytes=60"},
	{"RDMA write to guest: config", "server => guest   RDMA write config"},
	{NULL, "server -> guest   ACKNOWLEDGE reply  v1 ok"},
	{"DRIVER", "guest  -> server  DRIVER             v1"},
	{"finalize_features", "guest             finalize_features"},
	{"Expose TCEs for Descriptor Table",
	 "guest  -> server  QUEUE              v1 queue=0 desc ioba=0x40000"},
	{"Available Ring", "guest  -> server  QUEUE              v1 queue=0 avail ioba=0x41000"},
	{"and Used Ring", "guest  -> server  QUEUE              v1 queue=0 used ioba=0x42000"},
	{"DRIVER_OK", "guest  -> server  DRIVER_OK          v1"},
	{"RDMA copy from guest: guest_features", "guest  => server  RDMA read guest_features"},
	{NULL, "server -> guest   DRIVER_OK reply    v1 ok"},
};

static const struct step v2_steps[] = {
	CONNECT,
	{"PROBE: TCE of guest table",
	 "guest  -> server  PROBE              v2 header=0x10000 bytes=64"},
	{"RDMA write to guest: type, nvqs, device_features, config_size, vqs_size",
	 "server => guest   RDMA write type nvqs device_features config_size vqs_size"},
	{NULL, "server -> guest   PROBE reply        v2 ok"},
	{"Allocate config space", "guest             allocate config space, 60 bytes"},
	{"DEVICE_ACKNOWLEDGE", "guest  -> server  ACKNOWLEDGE        v2 config=0x20000 bytes=60"},
	{"RDMA write to guest: config", "server => guest   RDMA write config"},
	{NULL, "server -> guest   ACKNOWLEDGE reply  v2 ok"},
	{"DRIVER", "guest  -> server  DRIVER             v2"},
	{"finalize_features", "guest             finalize_features"},
	{NULL, "guest  -> server  FEATURES_OK        v2"},
	{NULL, "guest  => server  RDMA read guest_features"},
	{NULL, "server -> guest   FEATURES_OK reply  v2 ok"},
	{NULL, "guest  -> server  WINDOW_ADD         v2 window_desc=0x30000"},
	{NULL, "server -> guest   WINDOW_ADD reply   v2 ok id=1"},
	{NULL, "guest  -> server  QUEUE              v2 queue=0 size entries=128"},
	{"Expose TCEs for Descriptor Table",
	 "guest  -> server  QUEUE              v2 queue=0 desc ioba=0x40000"},
	{"Available Ring", "guest  -> server  QUEUE              v2 queue=0 avail ioba=0x41000"},
	{"and Used Ring", "guest  -> server  QUEUE              v2 queue=0 used ioba=0x42000"},
	{"DRIVER_OK", "guest  -> server  DRIVER_OK          v2"},
	{"RDMA copy from guest: guest_features", "guest  => server  RDMA read guest_features"},
	{NULL, "server -> guest   DRIVER_OK reply    v2 ok"},
};

/* The slides' own list: Device Configuration, then Virtqueues (plan). DRIVER_OK ends both. */
static const char *const slides[] = {
	"PROBE: TCE of guest table",
	"RDMA write to guest: type, nvqs, device_features, config_size, vqs_size",
	"Allocate config space",
	"DEVICE_ACKNOWLEDGE",
	"RDMA write to guest: config",
	"DRIVER",
	"finalize_features",
	"Expose TCEs for Descriptor Table",
	"Available Ring",
	"and Used Ring",
	"DRIVER_OK",
	"RDMA copy from guest: guest_features",
};

static void trace_is(const struct pair *p, const struct step *steps, unsigned n)
{
	unsigned at = 0;

	for (unsigned i = 0; i < n; i++) {
		assert_true(i < p->printed.n);
		assert_string_equal(p->printed.line[i], steps[i].line);
		if (steps[i].slide) {
			assert_true(at < VIO_ARRAY_SIZE(slides));
			assert_string_equal(steps[i].slide, slides[at++]);
		}
	}
	assert_int_equal(p->printed.n, n);
	assert_int_equal(at, VIO_ARRAY_SIZE(slides));
}

static void version_1_goes_through_the_slides_steps_and_prints_them(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p, 1, 1);
	configure(&p);
	trace_is(&p, v1_steps, VIO_ARRAY_SIZE(v1_steps));
	assert_true(p.features_seen == (uint32_t)FEATURES);
}

static void version_2_goes_through_the_slides_steps_and_prints_them(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p, 2, 2);
	configure(&p);
	trace_is(&p, v2_steps, VIO_ARRAY_SIZE(v2_steps));
	assert_true(p.features_seen == FEATURES);
}

static void an_old_guest_with_a_new_server_goes_through_version_1(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p, 1, 2);
	configure(&p);
	trace_is(&p, v1_steps, VIO_ARRAY_SIZE(v1_steps));
}

static void a_new_guest_with_an_old_server_falls_back_to_version_1(void **state)
{
	struct step steps[VIO_ARRAY_SIZE(v1_steps)];
	struct vio_msg m = {.op = VIO_OP_WINDOW_ADD};
	struct pair p;

	(void)state;
	memcpy(steps, v1_steps, sizeof(steps));
	/* The only difference: PROBE says what the guest could speak. */
	steps[2].line = "guest  -> server  PROBE              v2 header=0x10000 bytes=64";
	connect_pair(&p, 2, 1);
	configure(&p);
	trace_is(&p, steps, VIO_ARRAY_SIZE(steps));
	assert_int_equal(vio_gfsm_tx(&p.g, &m), -EPROTO); /* no windows, so no in-place levels */
}

static void features_that_are_not_offered_are_refused_and_a_reset_starts_over(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p, 2, 2);
	ask(&p, (struct vio_msg){.op = VIO_OP_PROBE, .arg16 = 64, .arg = HEADER}, VIO_GE_STEP_DONE);
	ask(&p, (struct vio_msg){.op = VIO_OP_ACKNOWLEDGE, .arg16 = 60, .arg = CONFIG},
	    VIO_GE_STEP_DONE);
	tell(&p, (struct vio_msg){.op = VIO_OP_DRIVER});
	finalize_features(&p, FEATURES | 1ull << 63);
	ask(&p, (struct vio_msg){.op = VIO_OP_FEATURES_OK}, VIO_GE_STEP_REFUSED);
	assert_int_equal(p.g.why, VIO_ST_FEATURES);
	assert_int_equal(p.s.state, VIO_S_DRIVER);
	ask(&p, (struct vio_msg){.op = VIO_OP_RESET}, VIO_GE_STEP_DONE);
	assert_int_equal(p.g.state, VIO_G_IDLE);
	assert_int_equal(p.s.state, VIO_S_IDLE);
	p.printed.n = 2; /* the connection's two lines stand */
	configure(&p);
	trace_is(&p, v2_steps, VIO_ARRAY_SIZE(v2_steps));
}

static void a_device_that_needs_reset_runs_again_after_it(void **state)
{
	struct vio_msg needs;
	struct pair p;

	(void)state;
	for (uint8_t v = 1; v <= 2; v++) {
		connect_pair(&p, v, v);
		configure(&p);
		vio_sfsm_needs_reset(&p.s, VIO_ST_DESC_CHAIN, 0, 3, &needs);
		send_msg(&p, false, &needs);
		tell(&p, (struct vio_msg){.op = VIO_OP_KICK}); /* crosses it: ignored */
		assert_int_equal(guest_turn(&p), VIO_GE_NEEDS_RESET);
		assert_int_equal(p.g.why, VIO_ST_DESC_CHAIN);
		ask(&p, (struct vio_msg){.op = VIO_OP_RESET}, VIO_GE_STEP_DONE);
		p.printed.n = 2;
		configure(&p);
		trace_is(&p, v == 1 ? v1_steps : v2_steps,
			 v == 1 ? VIO_ARRAY_SIZE(v1_steps) : VIO_ARRAY_SIZE(v2_steps));
	}
}

static void a_reset_before_probe_is_answered(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p, 2, 1);
	ask(&p, (struct vio_msg){.op = VIO_OP_RESET}, VIO_GE_STEP_DONE);
	assert_int_equal(p.g.state, VIO_G_IDLE);
	assert_int_equal(p.s.state, VIO_S_IDLE);
}

static void a_reset_sent_before_probes_answer_came_works_although_the_versions_differ(void **state)
{
	struct vio_msg probe = {.op = VIO_OP_PROBE, .arg16 = 64, .arg = HEADER},
		       reset = {.op = VIO_OP_RESET};
	struct pair p;

	(void)state;
	connect_pair(&p, 2, 1);
	assert_int_equal(vio_gfsm_tx(&p.g, &probe), 0);
	send_msg(&p, true, &probe);
	assert_int_equal(vio_gfsm_tx(&p.g, &reset), 0); /* timed out */
	send_msg(&p, true, &reset);
	server_turn(&p);
	assert_int_equal(p.n_to_guest, 2);
	assert_int_equal(guest_turn(&p), VIO_GE_STEP_DONE);
	assert_int_equal(p.g.state, VIO_G_IDLE);
	assert_int_equal(p.g.version, 0);
	assert_int_equal(p.s.state, VIO_S_IDLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_1_goes_through_the_slides_steps_and_prints_them),
		cmocka_unit_test(version_2_goes_through_the_slides_steps_and_prints_them),
		cmocka_unit_test(an_old_guest_with_a_new_server_goes_through_version_1),
		cmocka_unit_test(a_new_guest_with_an_old_server_falls_back_to_version_1),
		cmocka_unit_test(features_that_are_not_offered_are_refused_and_a_reset_starts_over),
		cmocka_unit_test(a_device_that_needs_reset_runs_again_after_it),
		cmocka_unit_test(a_reset_before_probe_is_answered),
		cmocka_unit_test(
			a_reset_sent_before_probes_answer_came_works_although_the_versions_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
