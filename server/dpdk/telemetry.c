/* SPDX-License-Identifier: BSD-3-Clause */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_telemetry.h>

#include "server/dpdk/telemetry.h"
#include "vio/atomics.h"

/*
 * DPDK's callbacks get no context of ours, so what they show has to be found through a variable of
 * this file; the lock is held while an answer is put together, so that stop can wait for it.
 */
static struct {
	pthread_mutex_t lock;
	const struct vio_telemetry *t;
} shown = {.lock = PTHREAD_MUTEX_INITIALIZER};

typedef int answer_fn(const struct vio_telemetry *t, unsigned n_args, const unsigned arg[2],
		      struct rte_tel_data *d);

/* "1" or "1,2" */
static unsigned parse_args(const char *params, unsigned arg[2])
{
	unsigned n = 0;
	char *end;

	while (params && n < 2 && *params >= '0' && *params <= '9') {
		unsigned long v = strtoul(params, &end, 10);

		arg[n++] = v > UINT32_MAX ? UINT32_MAX : (unsigned)v;
		if (*end != ',')
			break;
		params = end + 1;
	}
	return n;
}

static answer_fn port, fdb;

static int answer(answer_fn *fn, unsigned wants, const char *params, struct rte_tel_data *d)
{
	unsigned arg[2] = {0, 0}, n = parse_args(params, arg);
	int rc = -1;

	pthread_mutex_lock(&shown.lock);
	if (shown.t && n == wants &&
	    (wants == 0 || fn == port || fn == fdb || arg[0] < shown.t->n_adapters))
		rc = fn(shown.t, n, arg, d);
	pthread_mutex_unlock(&shown.lock);
	return rc;
}

static void num(struct rte_tel_data *d, const char *name, uint64_t v)
{
	rte_tel_data_add_dict_u64(d, name, v);
}

static void text(struct rte_tel_data *d, const char *name, const char *v)
{
	rte_tel_data_add_dict_string(d, name, v);
}

static int list(const struct vio_telemetry *t, unsigned n, const unsigned arg[2],
		struct rte_tel_data *d)
{
	struct vio_adapter_info info;
	char name[16];

	(void)n, (void)arg;
	rte_tel_data_start_dict(d);
	for (unsigned i = 0; i < t->n_adapters; i++) {
		vio_adapter_get_info(t->adapter[i], &info);
		snprintf(name, sizeof(name), "%u", i);
		text(d, name, info.partner);
	}
	return 0;
}

static int adapter(const struct vio_telemetry *t, unsigned n, const unsigned arg[2],
		   struct rte_tel_data *d)
{
	struct vio_adapter_info info;
	bool running;

	(void)n;
	vio_adapter_get_info(t->adapter[arg[0]], &info);
	running = info.queues > 0;
	rte_tel_data_start_dict(d);
	num(d, "unit", info.unit);
	text(d, "partner", info.partner);
	text(d, "state", vio_sstate_name(info.state));
	num(d, "protocol", info.version);
	text(d, "last_fault", info.last_fault ? vio_status_text(info.last_fault) : "none");
	text(d, "ring", running ? vio_ring_name(info.arm.ring) : "none");
	text(d, "payload", running ? vio_payload_name(info.arm.payload) : "none");
	text(d, "notify", running ? vio_notify_name(info.arm.notify) : "none");
	num(d, "features", info.features);
	num(d, "queues", info.queues);
	num(d, "windows", info.windows);
	num(d, "window_bytes", info.window_bytes);
	num(d, "resets", info.resets);
	num(d, "needs_resets", info.needs_resets);
	num(d, "link_losses", info.link_losses);
	return 0;
}

static int queue(const struct vio_telemetry *t, unsigned n, const unsigned arg[2],
		 struct rte_tel_data *d)
{
	static const char *const batch[] = {"batch_1",    "batch_2_3",   "batch_4_7",
					    "batch_8_15", "batch_16_31", "batch_32"};
	const struct vio_squeue *q = vio_adapter_queue(t->adapter[arg[0]], arg[1]);
	const struct vio_sq_stats *s;

	(void)n;
	if (!q)
		return -1;
	s = &q->stats;
	rte_tel_data_start_dict(d);
	num(d, "index", vio_load_relaxed(&q->index));
	num(d, "size", vio_load_relaxed(&q->size));
	num(d, "in_flight", vio_load_relaxed(&q->in_flight));
	num(d, "parked", vio_load_relaxed(&q->parked));
	text(d, "fault",
	     vio_load_relaxed(&q->fault) ? vio_status_text(vio_load_relaxed(&q->fault)) : "none");
	num(d, "requests", vio_load_relaxed(&s->requests));
	num(d, "reads", vio_load_relaxed(&s->reads));
	num(d, "writes", vio_load_relaxed(&s->writes));
	num(d, "flushes", vio_load_relaxed(&s->flushes));
	num(d, "others", vio_load_relaxed(&s->others));
	num(d, "errors", vio_load_relaxed(&s->errors));
	num(d, "bytes_read", vio_load_relaxed(&s->bytes_read));
	num(d, "bytes_written", vio_load_relaxed(&s->bytes_written));
	num(d, "cpu_bytes", vio_load_relaxed(&s->cpu_bytes));
	num(d, "kicks_seen", vio_load_relaxed(&s->kicks_seen));
	num(d, "notifications", vio_load_relaxed(&s->notifications));
	num(d, "notifications_suppressed", vio_load_relaxed(&s->notifications_suppressed));
	num(d, "polls_empty", vio_load_relaxed(&s->polls_empty));
	num(d, "polls_busy", vio_load_relaxed(&s->polls_busy));
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(batch); i++)
		num(d, batch[i], vio_load_relaxed(&s->batch[i]));
	return 0;
}

struct shown_dict {
	struct vio_show show;
	struct rte_tel_data *d;
};

static void show_num(struct vio_show *s, const char *name, uint64_t v)
{
	num(vio_container_of(s, struct shown_dict, show)->d, name, v);
}

static void show_text(struct vio_show *s, const char *name, const char *v)
{
	text(vio_container_of(s, struct shown_dict, show)->d, name, v);
}

static int device(const struct vio_telemetry *t, unsigned n, const unsigned arg[2],
		  struct rte_tel_data *d)
{
	const struct vio_device *dev = t->dev[arg[0]];
	struct shown_dict s = {{show_num, show_text}, d};

	(void)n;
	rte_tel_data_start_dict(d);
	dev->kind->show(dev, &s.show);
	return 0;
}

/* A person asks something of a device: its numbers, and what came of it. */
#define ASK(name, tell)                                                                            \
	static int name(const struct vio_telemetry *t, unsigned n, const unsigned arg[2],          \
			struct rte_tel_data *d)                                                    \
	{                                                                                          \
		struct vio_device *dev = t->dev[arg[0]];                                           \
		const char *said = "refused: only disks can";                                      \
                                                                                                   \
		if (dev->kind->name && dev->kind->name(dev, &said))                                \
			tell(t->adapter[arg[0]]);                                                  \
		device(t, n, arg, d);                                                              \
		text(d, "answer", said);                                                           \
		return 0;                                                                          \
	}
ASK(resize, vio_adapter_config_changed)
ASK(resume, vio_adapter_wake)

static int hcalls(const struct vio_telemetry *t, unsigned n, const unsigned arg[2],
		  struct rte_tel_data *d)
{
	struct phyp_counters c;

	(void)n, (void)arg;
	phyp_part_counters(t->part, &c);
	rte_tel_data_start_dict(d);
	for (unsigned i = 0; i < PHYP_N_OPS && phyp_op_at(i); i++)
		num(d, phyp_op_name(phyp_op_at(i)), c.hcall[i]);
	num(d, "failed", c.hcall_failed);
	num(d, "tce_updates", c.tce_updates);
	num(d, "rdma_bytes", c.rdma_bytes);
	num(d, "irq_raised", c.irq_raised);
	num(d, "irq_wakes", c.irq_wakes);
	num(d, "irq_taken", c.irq_taken);
	num(d, "sleeps", c.sleeps);
	return 0;
}

static int lcores(const struct vio_telemetry *t, unsigned n, const unsigned arg[2],
		  struct rte_tel_data *d)
{
	struct vio_lcore_stats s;
	char name[16];

	(void)n, (void)arg;
	rte_tel_data_start_dict(d);
	for (unsigned i = 0; vio_lcores_stats(t->lcores, i, &s); i++) {
		struct rte_tel_data *one = rte_tel_data_alloc();

		if (!one)
			return -1;
		rte_tel_data_start_dict(one);
		num(one, "core", s.core);
		num(one, "adapters", s.adapters);
		num(one, "queues", s.queues);
		num(one, "turns_busy", s.turns_busy);
		num(one, "turns_empty", s.turns_empty);
		num(one, "sleeps", s.sleeps);
		num(one, "longest_turn_ticks", s.longest_turn);
		num(one, "gaps", s.gaps);
		snprintf(name, sizeof(name), "lcore_%u", i);
		if (rte_tel_data_add_dict_container(d, name, one, 0))
			rte_tel_data_free(one);
	}
	return 0;
}

/* "VmRSS:	  123 kB" of /proc/self/status into bytes. */
static void add_status(struct rte_tel_data *d)
{
	static const struct {
		const char *key, *name;
	} want[] = {{"VmRSS:", "rss_bytes"},
		    {"RssAnon:", "rss_anon_bytes"},
		    {"RssShmem:", "rss_shmem_bytes"},
		    {"HugetlbPages:", "hugetlb_bytes"}};
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		for (unsigned i = 0; i < VIO_ARRAY_SIZE(want); i++) {
			size_t len = strlen(want[i].key);

			if (!strncmp(line, want[i].key, len))
				num(d, want[i].name, strtoull(line + len, NULL, 10) * 1024);
		}
	}
	if (f)
		fclose(f);
}

static int memory(const struct vio_telemetry *t, unsigned n, const unsigned arg[2],
		  struct rte_tel_data *d)
{
	struct vio_adapter_info info;
	uint64_t windows = 0, bytes = 0;

	(void)n, (void)arg;
	for (unsigned i = 0; i < t->n_adapters; i++) {
		vio_adapter_get_info(t->adapter[i], &info);
		windows += info.windows;
		bytes += info.window_bytes;
	}
	rte_tel_data_start_dict(d);
	num(d, "windows", windows);
	num(d, "window_bytes", bytes);
	num(d, "partition_bytes", phyp_mem_size(t->part));
	num(d, "backing_page_bytes", phyp_backing_page(t->part));
	add_status(d);
	return 0;
}

static int sw(const struct vio_telemetry *t, unsigned n, const unsigned arg[2],
	      struct rte_tel_data *d)
{
	struct vio_switch_info info = {0};

	(void)n, (void)arg;
	if (t->sw)
		vio_switch_get_info(t->sw, &info);
	rte_tel_data_start_dict(d);
	num(d, "ports", info.ports);
	num(d, "addresses", info.addresses);
	num(d, "learnt", info.learnt);
	num(d, "moved", info.moved);
	num(d, "refused", info.refused);
	num(d, "aged", info.aged);
	return 0;
}

static int port(const struct vio_telemetry *t, unsigned n, const unsigned arg[2],
		struct rte_tel_data *d)
{
	const struct vio_port *p = t->sw ? vio_switch_port(t->sw, arg[0]) : NULL;
	const struct vio_port_stats *s;
	char name[32];

	(void)n;
	if (!p)
		return -1;
	s = &p->stats;
	rte_tel_data_start_dict(d);
	text(d, "name", p->name);
	text(d, "kind", p->ops->kind);
	text(d, "link", vio_load_relaxed(&p->up) ? "up" : "down");
	text(d, "mode", p->vlan.trunk ? "trunk" : "access");
	num(d, "vlan", p->vlan.pvid);
	num(d, "mtu", p->mtu);
	num(d, "in_frames", vio_load_relaxed(&s->in_frames));
	num(d, "in_bytes", vio_load_relaxed(&s->in_bytes));
	num(d, "out_frames", vio_load_relaxed(&s->out_frames));
	num(d, "out_bytes", vio_load_relaxed(&s->out_bytes));
	num(d, "in_unfinished", vio_load_relaxed(&s->in_unfinished));
	num(d, "flooded", vio_load_relaxed(&s->flooded));
	num(d, "refused", vio_load_relaxed(&s->refused));
	num(d, "moved", vio_load_relaxed(&s->moved));
	num(d, "not_moved", vio_load_relaxed(&s->not_moved));
	num(d, "mirrored", vio_load_relaxed(&s->mirrored));
	num(d, "mirror_lost", vio_load_relaxed(&s->mirror_lost));
	num(d, "segmented", vio_load_relaxed(&s->segmented));
	num(d, "checksummed", vio_load_relaxed(&s->checksummed));
	num(d, "out_copied", vio_load_relaxed(&s->out_copied));
	num(d, "out_plain", vio_load_relaxed(&s->out_plain));
	num(d, "in_placed", vio_load_relaxed(&s->in_placed));
	num(d, "in_place", vio_load_relaxed(&s->in_place));
	num(d, "not_lent", vio_load_relaxed(&s->not_lent));
	num(d, "lent", vio_load_relaxed(&s->lent));
	for (unsigned i = 0; i < VIO_N_DROP; i++) {
		snprintf(name, sizeof(name), "drop_%s", vio_drop_name(i));
		num(d, name, vio_load_relaxed(&s->drop[i]));
	}
	return 0;
}

/* Rows in one answer: they fit the socket's message. */
#define FDB_ROWS 64u

static bool add_row(struct rte_tel_data *d, unsigned i, const struct vio_fdb_row *row)
{
	struct rte_tel_data *one = rte_tel_data_alloc();
	char name[16], mac[20];
	uint64_t k = row->key;

	if (!one)
		return false;
	rte_tel_data_start_dict(one);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", (unsigned)k & 0xff,
		 (unsigned)(k >> 8) & 0xff, (unsigned)(k >> 16) & 0xff, (unsigned)(k >> 24) & 0xff,
		 (unsigned)(k >> 32) & 0xff, (unsigned)(k >> 40) & 0xff);
	text(one, "address", mac);
	num(one, "vlan", k >> 48);
	num(one, "port", row->port);
	num(one, "age", row->seen);
	snprintf(name, sizeof(name), "row_%u", i);
	if (rte_tel_data_add_dict_container(d, name, one, 0)) {
		rte_tel_data_free(one);
		return false;
	}
	return true;
}

/* The one question whose answer an lcore has to look up: nobody else may walk over its table. */
static int fdb(const struct vio_telemetry *t, unsigned n, const unsigned arg[2],
	       struct rte_tel_data *d)
{
	struct vio_fdb_row row[FDB_ROWS];
	struct vio_err why = {""};
	uint32_t at = n ? arg[0] : 0;
	int rows = vio_port_rows(t->ports, &at, row, FDB_ROWS, &why);

	rte_tel_data_start_dict(d);
	if (rows < 0) {
		text(d, "error", why.msg);
		return 0;
	}
	num(d, "rows", (uint64_t)rows);
	num(d, "next", at);
	for (unsigned i = 0; i < (unsigned)rows; i++) {
		if (!add_row(d, i, &row[i]))
			return -1;
	}
	return 0;
}

static int on_fdb(const char *cmd, const char *params, struct rte_tel_data *d)
{
	(void)cmd;
	return answer(fdb, params && *params ? 1 : 0, params, d);
}

#define COMMAND(name, wants)                                                                       \
	static int on_##name(const char *cmd, const char *params, struct rte_tel_data *d)          \
	{                                                                                          \
		(void)cmd;                                                                         \
		return answer(name, wants, params, d);                                             \
	}
COMMAND(list, 0)
COMMAND(adapter, 1)
COMMAND(queue, 2)
COMMAND(device, 1)
COMMAND(resize, 1)
COMMAND(resume, 1)
COMMAND(hcalls, 0)
COMMAND(lcores, 0)
COMMAND(memory, 0)
COMMAND(sw, 0)
COMMAND(port, 1)

/* DPDK says which command it is, and hands over what follows the first comma. */
static int on_set(const char *cmd, const char *params, struct rte_tel_data *d)
{
	struct vio_err why = {""};
	int rc = -1;

	pthread_mutex_lock(&shown.lock);
	for (unsigned i = 0; shown.t && i < shown.t->n_control; i++) {
		const struct vio_control_cmd *c = shown.t->control[i];

		if (strcmp(c->name, cmd))
			continue;
		rc = c->run(shown.t->control_ctx, params ? params : "", &why);
		rte_tel_data_start_dict(d);
		if (rc == 0)
			num(d, "done", 1);
		else
			text(d, "error", why.msg);
		rc = 0;
		break;
	}
	pthread_mutex_unlock(&shown.lock);
	return rc;
}

static int register_cmd(const char *name, telemetry_cb fn, const char *help, struct vio_err *err)
{
	int rc = rte_telemetry_register_cmd(name, fn, help);

	return rc < 0 ? vio_err_set(err, rc, "telemetry command %s: %s", name, strerror(-rc)) : 0;
}

int vio_telemetry_start(const struct vio_telemetry *t, struct vio_err *err)
{
	static const struct {
		const char *name;
		telemetry_cb fn;
		const char *help;
	} cmd[] = {
		{"/vio/list", on_list, "Adapters: index and partner. No parameters"},
		{"/vio/adapter", on_adapter, "State of an adapter. Parameter: index"},
		{"/vio/queue", on_queue, "Counters of a queue. Parameters: adapter's index, queue"},
		{"/vio/device", on_device, "The device behind an adapter. Parameter: index"},
		{"/vio/backend", on_device,
		 "The same; what /vio/device was called. Parameter: index"},
		{"/vio/blk/resize", on_resize,
		 "Look whether the disk behind an adapter has grown, and tell its guest. Parameter: index"},
		{"/vio/blk/resume", on_resume,
		 "Let a disk that has stopped at an error go on. Parameter: index"},
		{"/vio/blk", on_device, "The same as /vio/device. Parameter: index"},
		{"/vio/hcalls", on_hcalls, "Hypervisor calls of this partition. No parameters"},
		{"/vio/lcores", on_lcores, "Busy and empty turns of each lcore. No parameters"},
		{"/vio/switch", on_sw, "Ports and addresses of the switch. No parameters"},
		{"/vio/port", on_port,
		 "Counters of a port of the switch, drops by reason. Parameter: port"},
		{"/vio/fdb", on_fdb,
		 "Addresses of the switch. Parameter: where to go on (next of the last answer), or none"},
		{"/vio/memory", on_memory,
		 "Windows and memory of this process, bytes. No parameters"},
	};
	int rc = 0;

	pthread_mutex_lock(&shown.lock);
	shown.t = t;
	pthread_mutex_unlock(&shown.lock);
	for (unsigned i = 0; rc == 0 && i < VIO_ARRAY_SIZE(cmd); i++)
		rc = register_cmd(cmd[i].name, cmd[i].fn, cmd[i].help, err);
	for (unsigned i = 0; rc == 0 && i < t->n_control; i++)
		rc = register_cmd(t->control[i]->name, on_set, t->control[i]->help, err);
	return rc;
}

void vio_telemetry_stop(void)
{
	pthread_mutex_lock(&shown.lock);
	shown.t = NULL;
	pthread_mutex_unlock(&shown.lock);
}
