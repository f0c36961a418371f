/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A partition in user space whose calls are made by mailbox, against the real other end: the same codes as its own calls
 * have, interrupts, one program at a time, nothing left of a program that died, an end when the other end goes.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/carrier/ivshmem.h"
#include "guest/carrier/mailbox.h"
#include "vio/thread.h"

#define CRQ_AT 0x10000u
#define CRQ_IN 0x100000u /* of the window */

struct rig {
	struct phyp_machine *m;
	struct phyp_part *server, *carried; /* the partition, in the process that makes the calls */
	struct phyp_vcpu *sv, *cv;
	struct vio_ivshmem iv;
	struct vio_mb_server mb;
	pthread_t carrier;
	uint32_t stop;
	bool runs;
	int memory;
	char dir[32], sock[64], where[160];
	/* The user's end. */
	struct phyp_part *guest;
	struct phyp_vcpu *gv;
	const struct phyp_unit_info *gu, *su;
};

/* vio-mailbox's loop. */
static void *carry(void *arg)
{
	struct rig *r = arg;

	while (!vio_load_acquire(&r->stop)) {
		unsigned n = vio_mb_serve(&r->mb);

		if (phyp_irq_take(r->cv)) {
			vio_ivshmem_interrupt(&r->iv);
			n++;
		}
		if (vio_ivshmem_look(&r->iv) == VIO_IVSHMEM_WENT)
			vio_mb_anew(&r->mb);
		if (n == 0)
			sched_yield();
	}
	return NULL;
}

static void carrier_stop(struct rig *r)
{
	if (!r->runs)
		return;
	vio_store_release(&r->stop, 1u);
	pthread_join(r->carrier, NULL);
	r->runs = false;
	vio_mb_close(&r->mb);
	vio_ivshmem_interrupt(&r->iv);
}

static void guest_open(struct rig *r)
{
	struct vio_err err = {{0}};

	if (phyp_connect(r->where, "guest0", &r->guest, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(phyp_vcpu_create(r->guest, &r->gv, &err), 0);
	r->gu = phyp_unit(r->guest, 0);
}

static void guest_close(struct rig *r)
{
	phyp_vcpu_destroy(r->gv);
	phyp_close(r->guest);
	r->guest = NULL;
}

static int rig_setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct phyp_profile p;
	struct vio_err err = {{0}};

	assert_non_null(r);
	phyp_profile_default(&p, 1, 16, 16);
	p.part[0].pages = p.part[1].pages = PHYP_PAGES_4K;
	assert_int_equal(phyp_local_create(&p, &r->m, &err), 0);
	assert_int_equal(phyp_local_open(r->m, "vios", &r->server, &err), 0);
	assert_int_equal(phyp_local_open(r->m, "guest0", &r->carried, &err), 0);
	assert_int_equal(phyp_vcpu_create(r->server, &r->sv, &err), 0);
	assert_int_equal(phyp_vcpu_create(r->carried, &r->cv, &err), 0);
	r->su = phyp_unit(r->server, 0);
	strcpy(r->dir, "/tmp/vio-mbXXXXXX");
	assert_non_null(mkdtemp(r->dir));
	snprintf(r->sock, sizeof(r->sock), "%s/s", r->dir);
	if (vio_ivshmem_open(&r->iv, r->sock, VIO_MB_BYTES, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(vio_mb_open(&r->mb, r->cv, r->iv.va, &err), 0);
	r->memory = phyp_lmb_fd(r->carried, 0);
	assert_true(r->memory >= 0);
	snprintf(r->where, sizeof(r->where), "mailbox:%s,/proc/self/fd/%d", r->sock, r->memory);
	assert_int_equal(vio_thread_start(&r->carrier, carry, r), 0);
	r->runs = true;
	guest_open(r);
	*state = r;
	return 0;
}

static int rig_teardown(void **state)
{
	struct rig *r = *state;

	if (r->guest)
		guest_close(r);
	carrier_stop(r);
	vio_ivshmem_close(&r->iv);
	close(r->memory);
	phyp_vcpu_destroy(r->cv);
	phyp_vcpu_destroy(r->sv);
	phyp_close(r->carried);
	phyp_close(r->server);
	phyp_local_destroy(r->m);
	rmdir(r->dir);
	free(r);
	return 0;
}

static void its_view_is_that_of_the_partition(void **state)
{
	struct rig *r = *state;
	const struct phyp_unit_info *u = phyp_unit(r->carried, 0);

	assert_int_equal(phyp_n_units(r->guest), 1);
	assert_int_equal(r->gu->unit, u->unit);
	assert_int_equal(r->gu->liobn, u->liobn);
	assert_int_equal(r->gu->window.v, u->window.v);
	assert_int_equal(r->gu->window_bytes, u->window_bytes);
	assert_int_equal(r->gu->page_shift, u->page_shift);
	assert_string_equal(r->gu->partner, "vios");
	assert_string_equal(phyp_name(r->guest), "guest0");
	assert_int_equal(phyp_mem_size(r->guest), phyp_mem_size(r->carried));
	assert_int_equal(phyp_backing_page(r->guest), 4096);
	*(uint8_t *)phyp_mem(r->guest, (struct gla){4711}, 1) = 0x5a;
	assert_int_equal(*(uint8_t *)phyp_mem(r->carried, (struct gla){4711}, 1), 0x5a);
}

static void its_calls_are_judged_as_the_partitions_own(void **state)
{
	struct rig *r = *state;
	uint64_t mem = phyp_mem_size(r->guest), tce = 0;
	struct phyp_counters sum;
	struct gla gla;

	assert_int_equal(h_put_tce(r->gv, r->gu->liobn, r->gu->window, 0x3000 | TCE_READ),
			 H_SUCCESS);
	assert_int_equal(h_get_tce(r->cv, r->gu->liobn, r->gu->window, &tce), H_SUCCESS);
	assert_int_equal(tce, 0x3000 | TCE_READ);
	tce = 0;
	assert_int_equal(h_get_tce(r->gv, r->gu->liobn, r->gu->window, &tce), H_SUCCESS);
	assert_int_equal(tce, 0x3000 | TCE_READ);
	assert_int_equal(h_put_tce(r->gv, r->gu->liobn, r->gu->window, mem | TCE_READ),
			 H_PARAMETER);
	assert_int_equal(h_put_tce(r->gv, r->su->liobn, r->gu->window, TCE_READ), H_PARAMETER);
	/* Another process would map what is accepted. */
	assert_int_equal(h_accept_logical(r->gv, 1, &gla, &tce, &tce), H_FUNCTION);
	phyp_part_counters(r->guest, &sum);
	assert_int_equal(sum.hcall[phyp_op_index(H_PUT_TCE)], 3);
	assert_int_equal(sum.hcall_failed, 3);
}

static void reg_crq(struct phyp_part *part, struct phyp_vcpu *v, const struct phyp_unit_info *u,
		    struct phyp_crq *q)
{
	struct ioba at = ioba_add(u->window, CRQ_IN);
	int64_t rc;

	assert_int_equal(h_put_tce(v, u->liobn, at, CRQ_AT | TCE_READ | TCE_WRITE), H_SUCCESS);
	*q = (struct phyp_crq){.entry = phyp_mem(part, (struct gla){CRQ_AT}, 4096), .n = 256};
	memset(q->entry, 0, 4096);
	rc = h_reg_crq(v, u->unit, at, 4096);
	assert_true(rc == H_SUCCESS || rc == H_CLOSED); /* closed: the partner has none yet */
	assert_int_equal(h_vio_signal(v, u->unit, 1), H_SUCCESS);
}

static void messages_and_their_interrupts_go_both_ways(void **state)
{
	struct rig *r = *state;
	struct phyp_crq sq, gq;
	uint64_t hi, lo;

	reg_crq(r->server, r->sv, r->su, &sq);
	reg_crq(r->guest, r->gv, r->gu, &gq);
	assert_int_equal(h_send_crq(r->gv, r->gu->unit, 0x8001ull << 48, 17), H_SUCCESS);
	while (!phyp_crq_pop(&sq, &hi, &lo) || hi != 0x8001ull << 48)
		sched_yield();
	assert_int_equal(lo, 17);
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(h_send_crq(r->sv, r->su->unit, 0x8002ull << 48, i), H_SUCCESS);
		do {
			assert_int_equal(phyp_vcpu_wait(r->gv, 0, UINT64_MAX), 0);
			phyp_irq_take(r->gv);
		} while (!phyp_crq_pop(&gq, &hi, &lo) || hi != 0x8002ull << 48);
		assert_int_equal(lo, i);
	}
}

static void a_second_program_is_turned_away(void **state)
{
	struct rig *r = *state;
	struct phyp_part *other = NULL;
	struct vio_err err = {{0}};

	assert_int_equal(phyp_connect(r->where, "guest0", &other, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "has a machine already"));
	assert_int_equal(h_get_tce(r->gv, r->gu->liobn, r->gu->window, &(uint64_t){0}), H_SUCCESS);
}

static void the_next_program_finds_nothing_of_the_last_one(void **state)
{
	struct rig *r = *state;
	struct phyp_crq q;
	uint64_t tce = 0;

	reg_crq(r->guest, r->gv, r->gu, &q);
	assert_int_equal(h_put_tce(r->gv, r->gu->liobn, r->gu->window, 0x3000 | TCE_READ),
			 H_SUCCESS);
	guest_close(r);
	guest_open(r);
	assert_int_equal(h_get_tce(r->gv, r->gu->liobn, r->gu->window, &tce), H_SUCCESS);
	assert_int_equal(tce & TCE_PERM, 0);
	reg_crq(r->guest, r->gv, r->gu, &q);
}

static void calls_end_when_the_carrier_does(void **state)
{
	struct rig *r = *state;

	assert_true(phyp_alive(r->guest));
	carrier_stop(r);
	assert_int_equal(h_put_tce(r->gv, r->gu->liobn, r->gu->window, TCE_READ), H_HARDWARE);
	assert_int_equal(phyp_vcpu_wait(r->gv, 0, UINT64_MAX), -EPIPE);
	assert_false(phyp_alive(r->guest));
	/* Nobody here can tell whether the server still uses what it was granted. */
	assert_false(phyp_partner_ended(r->guest, r->gu->unit));
}

static void places_that_are_no_mailbox_are_refused_with_a_reason(void **state)
{
	struct rig *r = *state;
	struct phyp_part *p = NULL;
	struct vio_err err = {{0}};
	char where[200];

	assert_int_equal(phyp_connect("mailbox:/tmp/x", "guest0", &p, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "SOCKET,MEMORY"));
	snprintf(where, sizeof(where), "mailbox:%s,/nonexistent", r->sock);
	assert_int_equal(phyp_connect(where, "guest0", &p, &err), -ENOENT);
	assert_int_equal(phyp_connect("mailbox:/nonexistent,/dev/null", "guest0", &p, &err),
			 -ENOENT);
	assert_non_null(strstr(err.msg, "no vio-mailbox at"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(its_view_is_that_of_the_partition),
		T(its_calls_are_judged_as_the_partitions_own),
		T(messages_and_their_interrupts_go_both_ways),
		T(a_second_program_is_turned_away),
		T(the_next_program_finds_nothing_of_the_last_one),
		T(calls_end_when_the_carrier_does),
		T(places_that_are_no_mailbox_are_refused_with_a_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
