/* SPDX-License-Identifier: BSD-3-Clause */
/* Calls by mailbox: the same codes as a partition's own calls, whatever a virtual machine writes there; and a new beginning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/carrier/mailbox.h"

struct rig {
	struct phyp_machine *m;
	struct phyp_part *server, *guest;
	struct phyp_vcpu *sv, *gv;
	const struct phyp_unit_info *su, *gu;
	uint8_t *memory;
	struct vio_mb_server mb;
};

static int rig_setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct phyp_profile p;
	struct vio_err err;

	assert_non_null(r);
	phyp_profile_default(&p, 1, 16, 16);
	p.part[0].pages = p.part[1].pages = PHYP_PAGES_4K;
	assert_int_equal(phyp_local_create(&p, &r->m, &err), 0);
	assert_int_equal(phyp_local_open(r->m, "vios", &r->server, &err), 0);
	assert_int_equal(phyp_local_open(r->m, "guest0", &r->guest, &err), 0);
	assert_int_equal(phyp_vcpu_create(r->server, &r->sv, &err), 0);
	assert_int_equal(phyp_vcpu_create(r->guest, &r->gv, &err), 0);
	r->su = phyp_unit(r->server, 0);
	r->gu = phyp_unit(r->guest, 0);
	r->memory = aligned_alloc(4096, VIO_MB_BYTES);
	assert_non_null(r->memory);
	memset(r->memory, 0, VIO_MB_BYTES);
	assert_int_equal(vio_mb_open(&r->mb, r->gv, r->memory, &err), 0);
	*state = r;
	return 0;
}

static int rig_teardown(void **state)
{
	struct rig *r = *state;

	vio_mb_close(&r->mb);
	assert_int_equal(r->mb.head->up, 0);
	phyp_vcpu_destroy(r->gv);
	phyp_vcpu_destroy(r->sv);
	phyp_close(r->guest);
	phyp_close(r->server);
	phyp_local_destroy(r->m);
	free(r->memory);
	free(r);
	return 0;
}

/* Leave a call in mailbox `box`, without its being looked at. */
static void leave(struct rig *r, unsigned box, uint64_t op, const uint64_t *args, unsigned n)
{
	struct vio_mailbox *b = &r->mb.box[box];

	b->op = op;
	memset(b->args, 0, sizeof(b->args));
	for (unsigned i = 0; i < n; i++)
		b->args[i] = args[i];
	b->request++;
}

static int64_t call(struct rig *r, uint64_t op, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	const uint64_t args[] = {a, b, c, d};

	leave(r, 3, op, args, 4);
	assert_int_equal(vio_mb_serve(&r->mb), 1);
	assert_int_equal(r->mb.box[3].answer, r->mb.box[3].request);
	return r->mb.box[3].rc;
}

static void a_virtual_machine_finds_its_memory_and_its_units(void **state)
{
	struct rig *r = *state;
	const struct vio_mb_unit *u = (const void *)(r->memory + VIO_MB_UNITS);
	int fd = phyp_lmb_fd(r->guest, 0);
	uint8_t *va;

	assert_int_equal(r->mb.head->magic, VIO_MB_MAGIC);
	assert_int_equal(r->mb.head->up, 1);
	assert_int_equal(r->mb.head->mem_bytes, phyp_mem_size(r->guest));
	assert_int_equal(r->mb.head->n_units, 1);
	assert_int_equal(u->liobn, r->gu->liobn);
	assert_int_equal(u->window, r->gu->window.v);
	assert_string_equal(u->partner, "vios");
	assert_true(fd >= 0);
	va = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(va, MAP_FAILED);
	va[17] = 0x5a;
	assert_int_equal(*(uint8_t *)phyp_mem(r->guest, (struct gla){17}, 1), 0x5a);
	munmap(va, 4096);
	close(fd);
	assert_int_equal(phyp_lmb_fd(r->guest, 9), -ENOENT);
}

static void a_call_has_the_codes_and_registers_of_a_partitions_own(void **state)
{
	struct rig *r = *state;
	uint64_t at = r->gu->window.v, tce;

	assert_int_equal(call(r, H_PUT_TCE, r->gu->liobn, at, 0x3000 | TCE_READ, 0), H_SUCCESS);
	assert_int_equal(h_get_tce(r->gv, r->gu->liobn, (struct ioba){at}, &tce), H_SUCCESS);
	assert_int_equal(tce, 0x3000 | TCE_READ);
	assert_int_equal(call(r, H_GET_TCE, r->gu->liobn, at, 0, 0), H_SUCCESS);
	assert_int_equal(r->mb.box[3].ret[0], 0x3000 | TCE_READ);
	assert_int_equal(call(r, H_PUT_TCE, r->gu->liobn, at, 0, 0), H_SUCCESS);
	assert_int_equal(vio_mb_tces(&r->mb), 0);
	assert_int_equal(call(r, 0x7ffc, 0, 0, 0, 0), H_FUNCTION);
	assert_int_equal(r->mb.unknown, 1);
}

static void what_is_not_the_guests_is_refused_and_counted(void **state)
{
	struct rig *r = *state;
	uint64_t at = r->gu->window.v, mem = phyp_mem_size(r->guest), refused = r->mb.refused;

	/* A page that the partition does not have, another's window, an address that is no IOBA, a list outside. */
	assert_int_equal(call(r, H_PUT_TCE, r->gu->liobn, at, mem | TCE_READ, 0), H_PARAMETER);
	assert_int_equal(call(r, H_PUT_TCE, r->su->liobn, at, TCE_READ, 0), H_PARAMETER);
	assert_int_equal(call(r, H_PUT_TCE, r->gu->liobn, 0x3000, TCE_READ, 0), H_PARAMETER);
	assert_int_equal(call(r, H_PUT_TCE_INDIRECT, r->gu->liobn, at, mem, 4), H_PARAMETER);
	assert_int_equal(call(r, H_PUT_TCE_INDIRECT, r->gu->liobn, at, UINT64_MAX & ~0xfffull, 4),
			 H_PARAMETER);
	assert_int_equal(call(r, H_REG_CRQ, r->gu->unit, at, 4096, 0), H_PARAMETER);
	assert_int_equal(call(r, H_SEND_CRQ, r->su->unit, UINT64_MAX, 0, 0), H_PARAMETER);
	assert_int_equal(r->mb.refused - refused, 7);
	assert_int_equal(vio_mb_tces(&r->mb), 0);
}

static void a_flooded_mailbox_is_one_call_a_turn_and_the_others_get_theirs(void **state)
{
	struct rig *r = *state;
	const uint64_t args[] = {r->gu->liobn, r->gu->window.v};

	leave(r, 0, H_GET_TCE, args, 2);
	r->mb.box[0].request += 1000;
	leave(r, 5, H_GET_TCE, args, 2);
	assert_int_equal(vio_mb_serve(&r->mb), 2);
	assert_int_equal(r->mb.box[5].answer, r->mb.box[5].request);
	assert_int_equal(vio_mb_serve(&r->mb), 0);
}

/* Everything but the numbers of calls that would hold the test up is left to chance. */
static void
garbage_in_all_mailboxes_is_answered_and_leaves_nothing_mapped_after_a_new_beginning(void **state)
{
	struct rig *r = *state;
	unsigned seed = 1;

	for (unsigned n = 0; n < 20000; n++) {
		struct vio_mailbox *b = &r->mb.box[n % VIO_MB_MAX_BOXES];

		for (unsigned i = 0; i < PHYP_REGS; i++) {
			static const unsigned shift[] = {0, 12, 32, 52};

			b->args[i] = (uint64_t)rand_r(&seed) << shift[rand_r(&seed) % 4];
			if (rand_r(&seed) % 3 == 0)
				b->args[i] = i == 0   ? r->gu->liobn
					     : i == 1 ? r->gu->window.v
						      : (uint64_t)(rand_r(&seed) % 4096) << 12;
		}
		b->op = n % 7 ? phyp_op_at((unsigned)rand_r(&seed) % PHYP_N_OPS)
			      : (uint64_t)rand_r(&seed);
		b->request += 1u + (uint32_t)rand_r(&seed) % 3;
		b->answer ^= (uint32_t)(rand_r(&seed) % 17 == 0);
		vio_mb_serve(&r->mb);
	}
	assert_true(r->mb.calls >= 18000);
	assert_true(r->mb.refused > 1000);
	assert_true(vio_mb_anew(&r->mb));
	assert_int_equal(vio_mb_tces(&r->mb), 0);
	assert_int_equal(r->mb.n_cookies, 0);
}

/* Or the carrier would take away what the new one has made since. */
static void a_new_machines_own_beginning_settles_what_the_last_ones_end_owed(void **state)
{
	struct rig *r = *state;

	r->mb.owed = true;
	assert_int_equal(call(r, VIO_MB_OP_ANEW, 0, 0, 0, 0), H_SUCCESS);
	assert_false(r->mb.owed);
}

static void a_partition_that_begins_anew_has_no_queue_no_grant_and_no_tce(void **state)
{
	struct rig *r = *state;
	const struct phyp_unit_info *u = r->gu;
	struct gla where;
	uint64_t len, flags, cookie, at = u->window.v;

	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(call(r, H_PUT_TCE, u->liobn, at, 0x1000 | TCE_PERM, 0), H_SUCCESS);
		assert_int_equal(call(r, H_PUT_TCE, u->liobn, at + 4096, 0x2000 | TCE_READ, 0),
				 H_SUCCESS);
		assert_int_equal(call(r, H_REG_CRQ, u->unit, at, 4096, 0), H_CLOSED);
		{
			const uint64_t args[] = {GRANT_SYSTEM_MEMORY, 0, 0x4000, 4096, u->unit};

			leave(r, 1, H_GRANT_LOGICAL, args, 5);
			assert_int_equal(vio_mb_serve(&r->mb), 1);
			assert_int_equal(r->mb.box[1].rc, H_SUCCESS);
			cookie = r->mb.box[1].ret[0];
		}
		assert_int_equal(r->mb.n_cookies, 1);
		assert_int_equal(vio_mb_tces(&r->mb), 2);
		assert_int_equal(call(r, VIO_MB_OP_ANEW, 0, 0, 0, 0), H_SUCCESS);
		assert_int_equal(vio_mb_tces(&r->mb), 0);
		assert_int_equal(r->mb.n_cookies, 0);
		assert_true(h_accept_logical(r->sv, cookie, &where, &len, &flags) < 0);
	}
}

static void a_call_that_came_before_the_sleep_is_seen(void **state)
{
	struct rig *r = *state;

	assert_false(vio_mb_sleep(&r->mb));
	assert_int_equal(r->mb.head->asleep, 1);
	vio_mb_wake(&r->mb);
	assert_int_equal(r->mb.head->asleep, 0);
	leave(r, 15, H_GET_TCE, NULL, 0);
	assert_true(vio_mb_sleep(&r->mb));
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_virtual_machine_finds_its_memory_and_its_units),
		T(a_call_has_the_codes_and_registers_of_a_partitions_own),
		T(what_is_not_the_guests_is_refused_and_counted),
		T(a_flooded_mailbox_is_one_call_a_turn_and_the_others_get_theirs),
		T(garbage_in_all_mailboxes_is_answered_and_leaves_nothing_mapped_after_a_new_beginning),
		T(a_partition_that_begins_anew_has_no_queue_no_grant_and_no_tce),
		T(a_new_machines_own_beginning_settles_what_the_last_ones_end_owed),
		T(a_call_that_came_before_the_sleep_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
