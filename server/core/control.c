/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "server/core/control.h"
#include "vio/cycles.h"

static void nap(void)
{
	const struct timespec t = {.tv_nsec = 200000};

	nanosleep(&t, NULL);
}

int vio_control_ask(struct vio_control_box *box, vio_control_fn *fn, void *ctx,
		    void (*wake)(void *ctx), void *wake_ctx, struct vio_err *err)
{
	struct vio_control_call call = {.fn = fn, .ctx = ctx, .err = err}, *was = NULL;
	uint64_t deadline = vio_now_ns() + VIO_CONTROL_WAIT_NS;

	if (!vio_cas(&box->asked, was, &call)) /* pair O */
		return vio_err_set(err, -EBUSY, "another change is being made: ask again");
	wake(wake_ctx);
	while (!vio_load_acquire(&call.done)) { /* pair O */
		was = &call;
		/* Taken out of the box again, or the lcore has it: then its end is near. */
		if (vio_now_ns() > deadline && vio_cas(&box->asked, was, NULL))
			return vio_err_set(
				err, -ETIMEDOUT,
				"the lcore did not come to it within %llu s: nothing was changed",
				VIO_CONTROL_WAIT_NS / 1000000000ull);
		nap();
	}
	return call.rc;
}

void vio_control_serve(struct vio_control_box *box)
{
	struct vio_control_call *c;

	if (!vio_load_relaxed(&box->asked))
		return;
	c = vio_xchg_acq_rel(&box->asked, NULL); /* pair O */
	if (!c)
		return; /* taken back */
	c->rc = c->fn(c->ctx, c->err);
	vio_store_release(&c->done, true); /* pair O: the asker's stack is not touched any more */
}
