/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "server/core/control.h"

struct rig {
	struct vio_control_box box;
	bool woken, end;
	unsigned calls;
	pthread_t by;
};

static int change(void *ctx, struct vio_err *err)
{
	struct rig *r = ctx;

	r->by = pthread_self();
	if (++r->calls == 2)
		return vio_err_set(err, -ENOENT, "no such thing");
	return 0;
}

static void wake(void *ctx)
{
	vio_store_release(&((struct rig *)ctx)->woken, true);
}

static void *lcore(void *ctx)
{
	struct rig *r = ctx;

	while (!vio_load_acquire(&r->end)) {
		if (vio_load_acquire(&r->woken))
			vio_control_serve(&r->box);
	}
	return NULL;
}

static void a_change_is_made_by_the_owner_and_its_refusal_reaches_who_asked(void **state)
{
	struct rig r = {.calls = 0};
	struct vio_err err = {""};
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, lcore, &r), 0);
	assert_int_equal(vio_control_ask(&r.box, change, &r, wake, &r, &err), 0);
	assert_true(pthread_equal(r.by, t));
	assert_int_equal(vio_control_ask(&r.box, change, &r, wake, &r, &err), -ENOENT);
	assert_string_equal(err.msg, "no such thing");
	assert_int_equal(r.calls, 2);
	vio_store_release(&r.end, true);
	pthread_join(t, NULL);
}

static void a_change_that_nobody_took_is_withdrawn_and_never_made(void **state)
{
	struct rig r = {.calls = 0};
	struct vio_err err = {""};

	(void)state;
	assert_int_equal(vio_control_ask(&r.box, change, &r, wake, &r, &err), -ETIMEDOUT);
	assert_true(r.woken);
	assert_null(r.box.asked);
	vio_control_serve(&r.box);
	assert_int_equal(r.calls, 0);
}

static void two_at_once_are_not_mixed_up(void **state)
{
	struct vio_control_call other = {.fn = change};
	struct rig r = {.box = {&other}};
	struct vio_err err = {""};

	(void)state;
	assert_int_equal(vio_control_ask(&r.box, change, &r, wake, &r, &err), -EBUSY);
	assert_ptr_equal(r.box.asked, &other);
	assert_false(r.woken);
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(a_change_is_made_by_the_owner_and_its_refusal_reaches_who_asked),
		cmocka_unit_test(a_change_that_nobody_took_is_withdrawn_and_never_made),
		cmocka_unit_test(two_at_once_are_not_mixed_up),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
