/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes while the server runs, for all kinds of device. Somebody asks by a telemetry command
 * ("/vio/set/NAME,PARAMS"); its parameters are judged on telemetry's thread; what is changed is changed
 * by the lcore that owns it, between two of its turns. The data path has no lock for that, and
 * a turn no load: an lcore looks into its box every few thousand turns and after it was woken.
 */
#ifndef VIO_SERVER_CONTROL_H
#define VIO_SERVER_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "vio/atomics.h"
#include "vio/err.h"

/* So long an lcore may take until it has looked. */
#define VIO_CONTROL_WAIT_NS 2000000000ull

/*
 * What an lcore is asked to do: short, and without waiting. 0, or -errno with a sentence; then
 * nothing has been changed.
 */
typedef int vio_control_fn(void *ctx, struct vio_err *err);

struct vio_control_call {
	vio_control_fn *fn;
	void *ctx;
	struct vio_err *err;
	int rc;
	bool done; /* pair O */
};

/* Of one lcore: NULL, or a call that it has not seen. Zeroed: empty. */
struct vio_control_box {
	struct vio_control_call *asked; /* pair O */
};

/*
 * Have `fn` called by the lcore whose box it is, and wait for it; wake(wake_ctx) is called once the
 * call is in the box. Any thread that is no lcore. fn's result; -EBUSY: another call is in the box;
 * -ETIMEDOUT: the lcore did not look in time, and fn will not be called.
 */
int vio_control_ask(struct vio_control_box *box, vio_control_fn *fn, void *ctx,
		    void (*wake)(void *ctx), void *wake_ctx, struct vio_err *err);
/* Do what is in the box, if anything is. Its lcore, between two turns. */
void vio_control_serve(struct vio_control_box *box);

/* A command. */
struct vio_control_cmd {
	const char *name; /* "/vio/set/NAME": letters, digits, slashes and _ */
	const char *help; /* one line, with the parameters */
	/*
	 * On telemetry's thread, one at a time. `params` is what follows the name and a comma; "" when
	 * nothing does. 0, or -errno with a sentence, which is the answer ("error").
	 */
	int (*run)(void *ctx, const char *params, struct vio_err *err);
};

#endif
