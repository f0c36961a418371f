/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbdkit plugin "vio": a guest partition whose virtual disk any NBD client can use. This file:
 * options and callbacks; disk.c has the disk, reactor.c its threads, request.c whole blocks, exact.c requests of single bytes.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <string.h>

#include "common/option_rows.h"
#include "guest/nbdkit/disk.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/*
 * nbdkit gives a plugin no context pointer before open: its configuration and its disk are this
 * program's global state.
 */
static struct vdisk disk;
static struct vdisk_cfg cfg;

static int plugin_set_arm(const struct vio_option *row, void *to, const char *text,
			  struct vio_err *err)
{
	(void)row;
	return vio_arm_parse(text, to, err);
}

static int set_bool(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	const int v = nbdkit_parse_bool(text);

	*(bool *)to = v == 1;
	return v < 0 ? vio_err_set(err, -EINVAL, "%s=%s: must be true or false", row->name, text)
		     : 0;
}

#define C struct vdisk_cfg
static const struct vio_option rows[] = {
	VIO_ROW_PHYP(C, socket),
	VIO_ROW_PARTITION(C, partition, "guest0"),
	VIO_ROW_UNIT(C, unit, PHYP_MAX_UNITS),
	{"arm", "ARM", "copy, copy-tuned, premapped, zero-copy or factors",
	 VIO_CALL(C, arm, plugin_set_arm), .def = "zero-copy"},
	{"queues", "N",
	 "queues, each with a thread; each needs 17 MiB of the guest's memory: phypd's default of 64 MiB is enough for 3 (phypd --guest-memory)",
	 VIO_NUMBER(C, queues, 1, VIO_MAX_QUEUES), .def = "1"},
	VIO_ROW_PROTO(C, proto, VIO_PROTO_LATEST),
	VIO_ROW_CACHE(C, cache),
	{"trace", "BOOL", "print each message to standard error", VIO_CALL(C, trace, set_bool)},
	VIO_ROW_FAULT(C, fault),
	{0},
};
#undef C

static void plugin_load(void)
{
	vio_options_defaults(rows, &cfg);
}

static int plugin_config(const char *key, const char *value)
{
	struct vio_err err;

	if (vio_options_key(rows, &cfg, key, value, &err) == 0)
		return 0;
	nbdkit_error("%s", err.msg);
	return -1;
}

/* nbdkit goes to another folder afterwards. */
static int plugin_config_complete(void)
{
	cfg.socket = nbdkit_absolute_path(cfg.socket);
	return cfg.socket ? 0 : -1;
}

/* Made of the rows before nbdkit looks at it, which has no call for it. */
static char config_help[2048];

__attribute__((constructor)) static void make_config_help(void)
{
	FILE *f = fmemopen(config_help, sizeof(config_help), "w");

	if (!f)
		return;
	vio_options_keys_help(rows, f);
	fclose(f);
}

/* Before nbdkit goes to the background: what it says from there on, nobody sees. */
static int plugin_get_ready(void)
{
	struct vio_err err = {{0}};

	if (vdisk_check(&cfg, &err) == 0)
		return 0;
	nbdkit_error("%s", err.msg);
	return -1;
}

/* After nbdkit went to the background: threads and the connection to phypd don't survive a fork. */
static int plugin_after_fork(void)
{
	struct vio_err err = {{0}};

	if (vdisk_start(&disk, &cfg, &err) == 0)
		return 0;
	nbdkit_error("%s", err.msg);
	vdisk_stop(&disk);
	return -1;
}

static void plugin_cleanup(void)
{
	vdisk_stop(&disk);
}

/* ------------------------------------------------------------------------ requests ---- */

static void *plugin_open(int readonly)
{
	(void)readonly;
	return &disk;
}

static int plugin_pread(void *h, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)flags;
	return vdisk_read(h, buf, count, offset);
}

static int plugin_pwrite(void *h, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)flags;
	return vdisk_write(h, buf, count, offset);
}

static int plugin_flush(void *h, uint32_t flags)
{
	(void)flags;
	return vdisk_flush(h);
}

static int plugin_trim(void *h, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)flags;
	return vdisk_trim(h, count, offset);
}

static int plugin_zero(void *h, uint32_t count, uint64_t offset, uint32_t flags)
{
	return vdisk_zero(h, count, offset, flags & NBDKIT_FLAG_MAY_TRIM);
}

/* ---------------------------------------------------------------------- properties ---- */

static int64_t plugin_get_size(void *h)
{
	const struct vdisk *d = h;
	uint64_t size = vio_blk_sectors(d->blk) *
			VIO_SECTOR; /* a client that comes later finds a disk that has grown */

	return (int64_t)(size - size % vdisk_block(d));
}

/* Any byte can be asked for; whole blocks cost less. */
static int plugin_block_size(void *h, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
	uint32_t block = vdisk_block(h);

	*minimum = 1;
	*preferred = block < 4096 ? 4096 : block;
	*maximum = 32u << 20;
	return 0;
}

static int plugin_can_write(void *h)
{
	return !vio_blk_get_info(((struct vdisk *)h)->blk)->read_only;
}

static int plugin_can_flush(void *h)
{
	return vio_blk_get_info(((struct vdisk *)h)->blk)->can_flush;
}

static int plugin_can_trim(void *h)
{
	return vio_blk_get_info(((struct vdisk *)h)->blk)->can_discard;
}

static int plugin_can_zero(void *h)
{
	return vio_blk_get_info(((struct vdisk *)h)->blk)->can_zero;
}

static int plugin_can_fua(void *h)
{
	return plugin_can_flush(h) ? NBDKIT_FUA_EMULATE : NBDKIT_FUA_NONE;
}

/* A FLUSH covers what any connection wrote: they share one disk. */
static int plugin_can_multi_conn(void *h)
{
	(void)h;
	return 1;
}

static struct nbdkit_plugin plugin = {
	.name = "vio",
	.version = VIO_VERSION,
	.longname = "virtio disk over CRQ",
	.description =
		"A guest partition's virtual disk, carried over CRQ, TCE and RDMA or over long-lived windows.",
	.load = plugin_load,
	.config = plugin_config,
	.config_complete = plugin_config_complete,
	.config_help = config_help,
	.get_ready = plugin_get_ready,
	.after_fork = plugin_after_fork,
	.cleanup = plugin_cleanup,
	.open = plugin_open,
	.get_size = plugin_get_size,
	.block_size = plugin_block_size,
	.can_write = plugin_can_write,
	.can_flush = plugin_can_flush,
	.can_trim = plugin_can_trim,
	.can_zero = plugin_can_zero,
	.can_fua = plugin_can_fua,
	.can_multi_conn = plugin_can_multi_conn,
	.pread = plugin_pread,
	.pwrite = plugin_pwrite,
	.flush = plugin_flush,
	.trim = plugin_trim,
	.zero = plugin_zero,
	.errno_is_preserved = 0,
};

NBDKIT_REGISTER_PLUGIN(plugin)
