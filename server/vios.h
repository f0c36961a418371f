/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside vios: the program's state, and what its files do for main() (vios.c), which calls them in the
 * order of the start and undoes it backwards. Everything is main's thread's unless said otherwise.
 */
#ifndef VIO_SERVER_VIOS_H
#define VIO_SERVER_VIOS_H

#include "duet/score.h"
#include "server/dpdk/lcore.h"
#include "server/dpdk/telemetry.h"
#include "server/log.h"
#include "server/options.h"
#include "server/ports/ethdev.h"

struct vios {
	struct vio_log
		*messages; /* where every part has its say. NULL: before the start, after the end */
	struct vio_server_opts o;
	struct phyp_part *part;
	struct phyp_filter *fault, *trace;
	struct phyp_vcpu *vcpu[VIO_SERVER_MAX_LCORES];
	struct vio_lcores *lcores;
	struct vio_duet duet;
	unsigned n_adapters, unit[PHYP_MAX_UNITS]; /* index of phyp_unit() */
	struct vio_adapter *adapter[PHYP_MAX_UNITS];
	struct vio_device *dev[PHYP_MAX_UNITS];
	struct vio_switch *sw; /* NULL: no device has a port */
	struct vio_uplink *uplink[VIO_SERVER_MAX_UPLINKS];
	uint64_t switch_now; /* ns: the switch's clock */
	unsigned switch_turns;
	unsigned announced; /* vio_switch_announcements(), as the guests know it */
	bool said_memory;   /* what uplinks can't have of guests' memory; atomic */
	uint64_t mem_top;   /* of the partition's memory; above are the disks */
	bool one_core;
	struct guest {
		struct vios *v;
		unsigned source; /* of messages */
	} guest[PHYP_MAX_UNITS];
	struct vio_port_set ports;
	struct vio_telemetry telemetry;
};

/* --------------------------------------------------------- vios_say.c: any thread ---- */

/* A line of the program's own, with "vios: " before it. */
__attribute__((format(printf, 2, 3))) void vios_say(const struct vios *v, const char *fmt, ...);
/* On behalf of a guest (ctx: struct guest), as many as its share allows. struct vio_env's say and trace. */
__attribute__((format(printf, 2, 3))) void vios_say_of_guest(void *ctx, const char *fmt, ...);
void vios_say_trace(void *ctx, const char *line);
/* The same for its device: struct vio_dev_env's say. */
void vios_say_of_device(void *ctx, const char *line);
/* The switch's (ctx: struct vios), which are of no single guest. */
__attribute__((format(printf, 2, 3))) void vios_say_of_switch(void *ctx, const char *fmt, ...);

/* ------------------------------------------------------------------ vios_cores.c ---- */

/*
 * The processors of --lcores, or the last one that this process may use. -EINVAL: one that does not
 * exist or may not be used; -errno: they can't be counted. With a sentence.
 */
int vios_choose_cores(struct vios *v, struct vio_err *err);
/* DPDK, and the lcores on them, for the devices that are open. -errno with a sentence. */
int vios_start_dpdk(struct vios *v, struct vio_err *err);

/* -------------------------------------------------------------------- vios_net.c ---- */

/*
 * The switch, if any device has a port, and the uplinks; the first lcore polls it. -errno with a
 * sentence; vios_stop_uplinks() is due all the same.
 */
int vios_start_switch(struct vios *v, struct vio_err *err);
/* The lcores have ended. How many frames of guests the uplinks had in place. */
unsigned vios_stop_uplinks(struct vios *v);
/* struct vio_dev_env's mem_add and mem_del: a guest's memory for the uplinks. Lcores. */
int vios_mem_add(void *ctx, void *va, uint64_t len);
void vios_mem_del(void *ctx, void *va, uint64_t len);

static inline uint16_t vios_queues_of(const struct vios *v, unsigned i)
{
	return v->dev[i]->kind->queues(v->dev[i], v->o.queues);
}

#endif
