/* SPDX-License-Identifier: BSD-3-Clause */
/* The processors of vios and DPDK's start on them. */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "server/vios.h"
#include "server/dpdk/eal.h"

/* An uplink's mbufs, with jumbo frames and room to spare. */
#define UPLINK_MIB 64u

/* Can this thread run there? Tells a processor that does not exist or is not ours from one that is. */
static bool can_run_on(unsigned core)
{
	size_t bytes = CPU_ALLOC_SIZE(core + 1);
	cpu_set_t *set = CPU_ALLOC(core + 1);
	bool ok;

	if (!set)
		return false;
	CPU_ZERO_S(bytes, set);
	CPU_SET_S(core, bytes, set);
	ok = sched_setaffinity(0, bytes, set) == 0;
	CPU_FREE(set);
	return ok;
}

int vios_choose_cores(struct vios *v, struct vio_err *err)
{
	cpu_set_t was;
	struct vio_server_opts *o = &v->o;

	if (sched_getaffinity(0, sizeof(was), &was) < 0)
		return vio_err_set(err, -errno,
				   "the processors of this machine can't be counted: %s",
				   strerror(errno));
	v->one_core = CPU_COUNT(&was) == 1;
	/* The last one: the first usually takes the machine's interrupts. */
	for (unsigned c = CPU_SETSIZE; o->n_cores == 0 && c-- > 0;) {
		if (CPU_ISSET(c, &was))
			o->core[o->n_cores++] = c;
	}
	for (unsigned i = 0; i < o->n_cores; i++) {
		bool ok = can_run_on(o->core[i]);

		sched_setaffinity(0, sizeof(was), &was);
		if (!ok)
			return vio_err_set(
				err, -EINVAL,
				"--lcores: processor %u does not exist or may not be used here; this machine has %ld, numbered from 0",
				o->core[i], sysconf(_SC_NPROCESSORS_CONF));
	}
	if (v->one_core)
		vios_say(
			v,
			"one processor only: server and guests take turns on it, and no measurement will mean anything");
	return 0;
}

/* Uplinks and their parts on the PCI bus: EAL has to find them when it starts. Their number. */
static unsigned pci_devices(const struct vios *v, char addr[][16], const char *pci[])
{
	unsigned n = 0;

	for (unsigned i = 0; i < v->o.n_uplinks + v->o.n_vdevs; i++) {
		const char *spec =
			i < v->o.n_uplinks ? v->o.uplink[i] : v->o.vdev[i - v->o.n_uplinks];

		if (vio_uplink_is_pci(spec, addr[n], sizeof(addr[n]))) {
			pci[n] = addr[n];
			n++;
		}
	}
	return n;
}

/* vhost-user names eight pieces of memory at most, and a file is one. */
static bool shares_memory(const struct vio_server_opts *o)
{
	bool any = false;

	for (unsigned i = 0; i < o->n_uplinks; i++)
		any |= !strncmp(o->uplink[i], "net_virtio_user", 15);
	for (unsigned i = 0; i < o->n_vdevs; i++)
		any |= !strncmp(o->vdev[i], "net_virtio_user", 15);
	return any;
}

int vios_start_dpdk(struct vios *v, struct vio_err *err)
{
	struct vio_server_opts *o = &v->o;
	char addr[2 * VIO_SERVER_MAX_UPLINKS][16];
	const char *pci[2 * VIO_SERVER_MAX_UPLINKS];
	struct vio_eal_cfg eal = {.prefix = o->prefix,
				  .core = o->core,
				  .n_cores = o->n_cores,
				  .no_huge = o->no_huge,
				  .log = vio_log_stream(v->messages),
				  .one_file = shares_memory(o),
				  .mib = VIO_EAL_MIB + o->n_uplinks * UPLINK_MIB,
				  .pci = pci,
				  .n_pci = pci_devices(v, addr, pci)};
	struct vio_lcores_cfg cfg = {
		.n = o->n_cores,
		.core = o->core,
		.vcpu = v->vcpu,
		.max_queues = 0,
		.spin_ns = o->spin_ns,
		.idle_ns = o->idle_ns,
		.duet = o->duet ? &v->duet : NULL,
		.look = o->gap_look,
		.give_way = v->one_core,
	};
	int rc;

	if (o->duet && o->n_cores != 1)
		return vio_err_set(err, -EINVAL,
				   "--duet: takes turns on one processor; --lcores has %u",
				   o->n_cores);
	rc = o->duet ? vio_duet_open(&v->duet, o->duet, VIO_DUET_SERVER, err) : 0;
	if (rc)
		return rc;

	for (unsigned i = 0; i < v->n_adapters; i++)
		cfg.max_queues += vios_queues_of(v, i);
	if (!eal.no_huge && vio_eal_free_hugepages() < 2 + o->n_uplinks * UPLINK_MIB / 2) {
		vios_say(
			v,
			"too few hugepages are free: DPDK uses plain pages (./run setup reserves some)");
		eal.no_huge = true;
	}
	rc = vio_eal_start(&eal, err);
	return rc < 0 ? rc : vio_lcores_create(&cfg, &v->lcores, err);
}
