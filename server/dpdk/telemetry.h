/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be asked through DPDK's telemetry socket (dpdk-telemetry.py -f PREFIX). Answers come
 * from telemetry's own thread, with relaxed loads of what the lcores count; nothing on the data
 * path is added for it.
 *
 *   /vio/list             index and partner of each adapter
 *   /vio/adapter,I        state, protocol, levels, windows, resets of adapter I
 *   /vio/queue,I,Q        counters of the Q-th active queue of adapter I
 *   /vio/device,I         what is behind it (also as /vio/backend,I and /vio/blk,I)
 *   /vio/blk/resize,I     looks whether that disk has grown, and tells the guest
 *   /vio/blk/resume,I     lets that disk go on that has stopped at an error
 *   /vio/switch           ports and addresses of the switch
 *   /vio/fdb[,AT]         addresses of the switch: address, VLAN, port, age; 64 an answer, and where the next one begins
 *   /vio/port,P           a port: counters, drops by reason
 *   /vio/hcalls           hypervisor calls of this partition, by name
 *   /vio/lcores           busy and empty turns, sleeps
 *   /vio/set/...          changes (server/core/control.h): {"done": 1}, or {"error": why not}
 *   /vio/memory           windows, hugepages and resident memory of this process
 */
#ifndef VIO_SERVER_TELEMETRY_H
#define VIO_SERVER_TELEMETRY_H

#include "server/head/adapter.h"
#include "server/core/control.h"
#include "server/dpdk/lcore.h"
#include "server/switch/port_set.h"
#include "server/switch/switch.h"

struct vio_telemetry {
	struct phyp_part *part;
	const struct vio_lcores *lcores;
	unsigned n_adapters;
	struct vio_adapter *const *adapter;
	struct vio_device *const *dev;                /* one each */
	const struct vio_switch *sw;                  /* NULL: no device has a port */
	const struct vio_port_set *ports;             /* how the switch is asked and changed */
	const struct vio_control_cmd *const *control; /* n_control of them */
	unsigned n_control;
	void *control_ctx;
};

/*
 * After EAL has started. `t` and what it points to live until vio_telemetry_stop(). -errno with a
 * sentence.
 */
int vio_telemetry_start(const struct vio_telemetry *t, struct vio_err *err);
/* No answer is under way when it returns; later questions are refused. */
void vio_telemetry_stop(void);

#endif
