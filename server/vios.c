/* SPDX-License-Identifier: BSD-3-Clause */
/* vios, the VIO server's program: from the command line to polling lcores, and back to nothing. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/dpdk/eal.h"
#include "server/dpdk/thash.h"
#include "server/switch/mirror.h"
#include "server/vios.h"

/*
 * Left of the server partition's memory for each adapter's queues, whatever the disks want: CRQ,
 * shadow rings, bounce.
 */
#define ADAPTER_RESERVE (4ull << 20)
#define STOP_NS         3000000000ull
/* So long the end waits for somebody to read the last messages. */
#define LAST_WORDS_NS 500000000ull

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE };

/* For the signal handlers, which get no argument. */
static struct vio_lcores *to_stop;
static struct vios *guarded;

static void on_signal(int sig)
{
	(void)sig;
	if (to_stop)
		vio_lcores_stop(to_stop);
	else
		_exit(EXIT_OK); /* before there is anything to stop; the kernel closes what there is */
}

/*
 * A guest may take its pages back by force while an lcore works on them, or punch holes into them.
 * On the real machine that is a machine check that the hypervisor delivers; here it is SIGSEGV, or
 * SIGBUS. It costs that guest its device and nobody else anything. Everything else that faults is a mistake of this program, and
 * ends it as usual.
 */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)context;
	/* Copied by a hypervisor call: what the guest has not got, it reads and writes as nothing. */
	if (sig == SIGBUS && guarded && guarded->part && phyp_hole(guarded->part, info->si_addr)) {
		errno = saved;
		return;
	}
	for (unsigned i = 0; guarded && i < guarded->n_adapters; i++) {
		if (guarded->adapter[i] &&
		    vio_adapter_window_fault(guarded->adapter[i], info->si_addr, sig == SIGBUS)) {
			errno = saved;
			return;
		}
	}
	signal(sig, SIG_DFL); /* the access is made again, and ends the program */
	errno = saved;
}

static int fail(const struct vios *v, int rc, const struct vio_err *err)
{
	vios_say(v, "%s", err->msg);
	return rc == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
}

static void env_assign(void *ctx, struct vio_squeue *q)
{
	vio_lcores_assign(((struct guest *)ctx)->v->lcores, q);
}
static void env_unassign(void *ctx, struct vio_squeue *q)
{
	vio_lcores_unassign(((struct guest *)ctx)->v->lcores, q);
}
static uint64_t env_start(void *ctx)
{
	return vio_lcores_quiesce_start(((struct guest *)ctx)->v->lcores);
}
static bool env_done(void *ctx, uint64_t token)
{
	return vio_lcores_quiesce_done(((struct guest *)ctx)->v->lcores, token);
}

/* ------------------------------------------------------------------------------ start ---- */

/* Memory backends' room: from the top of the partition's memory down. */
static int server_memory(void *ctx, uint64_t len, void **mem, struct gla *at, struct vio_err *err)
{
	struct vios *v = ctx;
	uint64_t reserve = v->n_adapters * ADAPTER_RESERVE,
		 need = VIO_ALIGN_UP(len, CRQ_PAGE_BYTES);

	if (need < len || v->mem_top < reserve || need > v->mem_top - reserve)
		return vio_err_set(
			err, -ENOMEM,
			"the server partition has %llu MiB of memory, %llu MiB of them left for disks; this disk needs %llu MiB: make it smaller or start phypd with more memory for %s",
			(unsigned long long)phyp_mem_size(v->part) >> 20,
			(unsigned long long)(v->mem_top > reserve ? v->mem_top - reserve : 0) >> 20,
			(unsigned long long)(len >> 20) + (len % (1u << 20) != 0),
			phyp_name(v->part));
	v->mem_top = (v->mem_top - need) & ~(uint64_t)(CRQ_PAGE_BYTES - 1);
	*at = (struct gla){v->mem_top};
	*mem = phyp_mem(v->part, *at, len);
	return *mem ? 0
		    : vio_err_set(err, -ENOMEM, "the server partition's memory can't be reached");
}

static int connect_machine(struct vios *v, struct vio_err *err)
{
	struct vio_server_opts *o = &v->o;
	int rc = o->fault ? phyp_fault_create(o->fault, &v->fault, err) : 0;

	if (rc == 0)
		rc = phyp_connect(o->socket, o->partition, &v->part, err);
	if (rc < 0)
		return rc;
	/* The last one pushed is asked first: the trace shows the calls as they are made, faults included. */
	if (v->fault)
		phyp_filter_push(v->part, v->fault);
	if (o->trace) {
		v->trace = phyp_trace_create(vio_log_stream(v->messages), o->partition);
		if (v->trace)
			phyp_filter_push(v->part, v->trace);
	}
	for (unsigned i = 0; i < o->n_cores; i++) {
		rc = phyp_vcpu_create(v->part, &v->vcpu[i], err);
		if (rc < 0)
			return rc;
	}
	v->mem_top = phyp_mem_size(v->part);
	for (unsigned i = 0; i < phyp_n_units(v->part); i++) {
		if (phyp_unit(v->part, i)->is_server)
			v->unit[v->n_adapters++] = i;
	}
	if (v->n_adapters == 0)
		return vio_err_set(err, -ENODEV,
				   "partition %s has no server adapter in phypd's profile",
				   o->partition);
	if (o->devices.n > v->n_adapters)
		return vio_err_set(err, -EINVAL, "%u devices, but partition %s has %u adapter(s)",
				   o->devices.n, o->partition, v->n_adapters);
	if (o->devices.n < v->n_adapters && !o->devices.d[o->devices.n - 1].kind->repeats)
		return vio_err_set(
			err, -EINVAL,
			"partition %s has %u adapters, but only %u devices are given (a --%s does not repeat)",
			o->partition, v->n_adapters, o->devices.n,
			o->devices.d[o->devices.n - 1].kind->row.name);
	return 0;
}

static void net_config_changed(void *ctx, unsigned number)
{
	struct vios *v = ctx;

	if (v->adapter[number])
		vio_adapter_config_changed(v->adapter[number]);
}

static int call_switch(void *ctx, vio_control_fn *fn, void *arg, struct vio_err *err)
{
	return vio_lcores_call(((struct vios *)ctx)->lcores, 0, fn, arg, err);
}

static int set_mirror(void *ctx, const char *params, struct vio_err *err)
{
	return vio_mirror_set(&((struct vios *)ctx)->ports, params, err);
}

static int set_port(void *ctx, const char *params, struct vio_err *err)
{
	return vio_port_set(&((struct vios *)ctx)->ports, params, err);
}

static int open_devices(struct vios *v, struct vio_err *err)
{
	struct vio_dev_env env = {.server_memory = server_memory,
				  .mem_add = vios_mem_add,
				  .mem_del = vios_mem_del,
				  .toeplitz = vio_toeplitz,
				  .config_changed = net_config_changed,
				  .ctx = v,
				  .say = vios_say_of_device,
				  .n_uplinks = v->o.n_uplinks,
				  .others = v->dev,
				  .n_others = PHYP_MAX_UNITS};

	for (unsigned i = 0; i < v->n_adapters; i++) {
		unsigned k = i < v->o.devices.n ? i : v->o.devices.n - 1;
		const struct vio_dev_kind *kind = v->o.devices.d[k].kind;
		struct vio_err why = {""};
		int rc;

		v->guest[i] = (struct guest){.v = v, .source = 1 + i};
		env.say_ctx = &v->guest[i];
		env.number = i;
		rc = kind->open(v->o.devices.d[k].spec, &env, &v->dev[i], &why);
		if (rc < 0)
			return vio_err_set(err, rc, "--%s %s: %s", kind->row.name,
					   v->o.devices.d[k].spec, why.msg);
	}
	return 0;
}

static int start_adapters(struct vios *v, struct vio_err *err)
{
	const struct vio_server_opts *o = &v->o;
	struct vio_env env = {
		.assign = env_assign,
		.unassign = env_unassign,
		.quiesce_start = env_start,
		.quiesce_done = env_done,
		.say = vios_say_of_guest,
		.trace = o->trace ? vios_say_trace : NULL,
	};
	static const struct vio_control_cmd set_port_cmd = {
		"/vio/set/port",
		"Change a port of the switch. Parameters: port, then link=, vlan=, trunk=, mtu=, storm=",
		set_port};
	static const struct vio_control_cmd mirror_cmd = {
		"/vio/set/mirror",
		"Copy a port's frames to a pcap file. Parameters: port, then file=, direction=, limit=; or off",
		set_mirror};
	static const struct vio_control_cmd *const control[] = {&set_port_cmd, &mirror_cmd};
	uint64_t share = v->mem_top / v->n_adapters / CRQ_PAGE_BYTES * CRQ_PAGE_BYTES;

	for (unsigned i = 0; i < v->n_adapters; i++) {
		unsigned lcore = vio_lcores_place(v->lcores, i);
		struct vio_adapter_cfg cfg = {
			.unit = v->unit[i],
			.dev = v->dev[i],
			.num_queues = vios_queues_of(v, i),
			.queue_size = o->queue_size,
			.proto = o->proto,
			.ring_levels = o->ring_levels,
			.payload_levels = o->payload_levels,
			.notify_levels = o->notify_levels,
			.mem_gla = {i * share},
			.mem_len = share,
		};
		int rc;

		env.ctx = &v->guest[i];
		cfg.mem = phyp_mem(v->part, cfg.mem_gla, share);
		rc = vio_adapter_create(v->vcpu[lcore], &cfg, &env, &v->adapter[i], err);
		if (rc < 0)
			return rc;
		vio_lcores_add_adapter(v->lcores, lcore, v->unit[i], v->adapter[i]);
		vios_say(v, "%s: %s %s", phyp_unit(v->part, v->unit[i])->partner,
			 v->dev[i]->kind->noun, v->dev[i]->what);
	}
	v->ports = (struct vio_port_set){.sw = v->sw, .call = call_switch, .ctx = v};
	v->telemetry = (struct vio_telemetry){.part = v->part,
					      .lcores = v->lcores,
					      .n_adapters = v->n_adapters,
					      .adapter = v->adapter,
					      .dev = v->dev,
					      .sw = v->sw,
					      .ports = &v->ports,
					      .control = control,
					      .n_control = VIO_ARRAY_SIZE(control),
					      .control_ctx = v};
	return vio_telemetry_start(&v->telemetry, err);
}

/* -------------------------------------------------------------------------------- end ---- */

/* In the reverse order of the start, whatever of it there was. */
static void clean_up(struct vios *v)
{
	vio_telemetry_stop();
	/*
	 * They may have guests' frames in place, and give them back to adapters' queues: so these
	 * come first.
	 */
	vios_stop_uplinks(v);
	guarded = NULL;
	for (unsigned i = 0; i < v->n_adapters; i++)
		vio_adapter_destroy(v->adapter[i]);
	to_stop = NULL;
	vio_lcores_destroy(v->lcores);
	vio_mirror_stop_all(v->sw);
	vio_switch_destroy(v->sw);
	for (unsigned i = 0; i < v->o.n_uplinks; i++)
		vio_uplink_destroy(v->uplink[i]);
	for (unsigned i = 0; i < v->n_adapters; i++) {
		if (v->dev[i])
			v->dev[i]->kind->close(v->dev[i]);
	}
	for (unsigned i = 0; i < v->o.n_cores; i++) {
		if (v->vcpu[i])
			phyp_vcpu_destroy(v->vcpu[i]);
	}
	if (v->trace)
		phyp_filter_pop(v->part);
	if (v->fault && v->part)
		phyp_filter_pop(v->part);
	if (v->part)
		phyp_close(v->part);
	if (v->trace)
		phyp_trace_free(v->trace);
	if (v->fault)
		phyp_fault_free(v->fault);
}

static void catch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sa.sa_handler = SIG_IGN; /* a backend's socket may close under it */
	sigaction(SIGPIPE, &sa, NULL);
	sigaction(SIGXFSZ, &sa, NULL); /* a limit on file sizes is an error of that request */
	sa.sa_flags = SA_SIGINFO;
	sa.sa_sigaction = on_fault;
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
}

/* Who did not end in time, by name. */
static void say_unfinished(struct vios *v)
{
	for (unsigned i = 0; i < v->n_adapters; i++) {
		const struct vio_squeue *q;
		unsigned n = 0;

		for (unsigned k = 0; (q = vio_adapter_queue(v->adapter[i], k)); k++)
			n += vio_load_relaxed(&q->in_flight);
		if (vio_adapter_busy(v->adapter[i]))
			vios_say(
				v,
				"%s: %s %s did not finish %u request(s) within %llu s; ending without them",
				phyp_unit(v->part, v->unit[i])->partner, v->dev[i]->kind->noun,
				v->dev[i]->what, n, STOP_NS / 1000000000ull);
	}
}

/* Everything is open; stores, telemetry and mirrors open more while it runs. */
static int give_rights_up(struct vios *v, struct vio_err *err)
{
	unsigned needs = VIO_NEED_OPEN | VIO_NEED_STORE | VIO_NEED_CONNECT | VIO_NEED_MEMORY;

	if (v->o.n_uplinks + v->o.n_vdevs > 0)
		needs |= VIO_NEED_NET;
	return vio_sandbox_enter(&v->o.sandbox, needs, err);
}

static int serve(struct vios *v)
{
	int rc;

	to_stop = v->lcores;
	guarded = v;
	vios_say(v, "ready: %u adapter(s) on %u lcore(s)", v->n_adapters, v->o.n_cores);
	vio_log_flush(v->messages, LAST_WORDS_NS); /* who waits for us finds the words there */
	if (v->o.ready_fd >= 0) {
		if (write(v->o.ready_fd, "\n", 1) != 1)
			vios_say(v, "--ready-fd %d: %s", v->o.ready_fd, strerror(errno));
		close(v->o.ready_fd);
	}
	rc = vio_lcores_run(v->lcores, STOP_NS);
	if (rc == -ETIMEDOUT) {
		unsigned lent = vios_stop_uplinks(v);

		if (lent > 0) {
			vios_say(
				v,
				"uplinks kept %u frame(s) of guests; they were closed, and the frames taken back",
				lent);
			rc = vio_lcores_run(v->lcores, STOP_NS);
		}
	}
	if (rc == -EPIPE) {
		vios_say(v, "phypd at %s is gone, and with it the machine", v->o.socket);
		return EXIT_FAILED;
	}
	if (rc == -ETIMEDOUT) {
		say_unfinished(v);
		return EXIT_FAILED;
	}
	vios_say(v, "stopped");
	return EXIT_OK;
}

static void end_messages(struct vios *v)
{
	vio_eal_log(NULL);
	vio_log_stop(v->messages, LAST_WORDS_NS);
	v->messages = NULL;
}

int main(int argc, char **argv)
{
	static struct vios v;
	struct vio_err err = {""};
	int rc = vio_server_opts_parse(&v.o, argc, argv, &err), code;

	if (rc)
		return rc > 0 ? EXIT_OK : fail(&v, rc, &err);
	catch_signals();
	rc = vio_log_start(STDERR_FILENO, &v.messages, &err);
	if (rc == 0)
		rc = vios_choose_cores(&v, &err);
	if (rc == 0)
		rc = connect_machine(&v, &err);
	if (rc == 0)
		rc = open_devices(&v, &err);
	if (rc == 0)
		rc = vios_start_dpdk(&v, &err);
	if (rc == 0)
		rc = vios_start_switch(&v, &err);
	if (rc == 0)
		rc = start_adapters(&v, &err);
	if (rc == 0)
		rc = give_rights_up(&v, &err);
	if (rc == 0 && v.o.unprotected)
		vios_say(
			&v,
			"--unprotected: a guest that asks for payload unchecked can make this server read and write any of its memory. For measuring an upper bound only");
	code = rc == 0 ? serve(&v) : fail(&v, rc, &err);
	if (code == EXIT_OK || rc != 0) {
		clean_up(&v);
		end_messages(&v);
		return code;
	}
	/*
	 * Requests are still at a disk, or the hypervisor is gone: nothing to take apart; the
	 * kernel ends what is left.
	 */
	vio_telemetry_stop();
	end_messages(&v);
	exit(code);
}
