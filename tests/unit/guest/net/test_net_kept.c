/* SPDX-License-Identifier: BSD-3-Clause */
/* Buffers of the network card that can't be taken back when the device is done with them. */
#include "net_test.h"

/* Frames of several buffers are unmapped with one H_STUFF_TCE each; single buffers mostly with H_PUT_TCE. */
static struct phyp_filter *stay_mapped(struct nt *x)
{
	struct phyp_filter *f = NULL;

	ok(x, phyp_fault_create("H_STUFF_TCE@1=H_PARAMETERx100000", &f, &x->err));
	phyp_filter_push(x->w.gp, f);
	return f;
}

static void go_again(struct nt *x, struct phyp_filter *f)
{
	phyp_filter_pop(x->w.gp);
	phyp_fault_free(f);
	x->said.text[0] = 0;
	fs_set(&x->w.s, stop_device, 1);
	nt_send(x, 0, nt_make(x, 0, 100, 2));
	nt_until(x, true, "is back");
}

static void owner_looks(struct nt *x)
{
	struct vio_net_buf *none;

	assert_int_equal(vio_net_rx_burst(x->n, 0, &none, 0), 0);
	assert_true(vio_net_refill(x->n, 0) > 0);
}

static void a_long_frame_that_stays_mapped_keeps_all_its_buffers_until_it_is_not(void **state)
{
	struct nt *x = *state;
	struct vio_net_count c;
	struct vio_net_buf *f, *b;
	struct phyp_filter *fault;
	unsigned bufs = 0;

	x->fn.mtu = 9000;
	nt_open(x, "copy");
	nt_echo(x, 0, 8000, 1);
	nt_all_back(x);
	vio_store_release(&x->fn.swallow, 1u);
	fault = stay_mapped(x);
	f = nt_make(x, 0, 8000, 7);
	for (b = f; b; b = b->next)
		bufs++;
	assert_true(bufs > 1);
	nt_send(x, 0, f);
	nt_until(x, true, "is back");
	says(x->said.text, "can't be taken back");
	owner_looks(x);
	vio_net_get_count(x->n, 0, &c);
	assert_true(c.sending >=
		    bufs); /* those that the device still reaches, and no part of the frame less */
	for (unsigned i = 0; i < c.free; i++) {
		/* What the program gets is none of them. */
		struct vio_net_buf *got;

		if (vio_net_tx_alloc(x->n, 0, &got, 1) != 1)
			break;
		for (b = f; b; b = b->next)
			assert_ptr_not_equal(got, b);
		got->len = 60;
		vio_net_free(x->n, 0, &got, 1);
	}
	vio_store_release(&x->fn.swallow, 0u);
	go_again(x, fault);
	owner_looks(x);
	for (unsigned k = 0; k < 20; k++)
		nt_echo(x, 0, 60 + 400 * k, k);
	nt_all_back(x);
}

#define T(f) cmocka_unit_test_setup_teardown(f, nt_setup, nt_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_long_frame_that_stays_mapped_keeps_all_its_buffers_until_it_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
