/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbdkit plugin "vio": a guest partition whose virtual disk any NBD client can use. This file:
 * options and callbacks; disk.c has the disk, reactor.c its threads, request.c whole blocks, exact.c requests of single bytes.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <string.h>

#include "guest/nbdkit/disk.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/*
 * nbdkit gives a plugin no context pointer before open: its configuration and its disk are this
 * program's global state.
 */
static struct vdisk disk;
static struct vdisk_cfg cfg = {.socket = "/tmp/vio-phyp.sock",
			       .partition = "guest0",
			       .queues = 1,
			       .proto = VIO_PROTO_LATEST};

static void plugin_load(void)
{
	vio_arm_parse("zero-copy", &cfg.arm, NULL);
}

static int plugin_config(const char *key, const char *value)
{
	struct vio_err err;
	int i;

	if (!strcmp(key, "phyp")) {
		cfg.socket = nbdkit_absolute_path(value);
		return cfg.socket ? 0 : -1;
	}
	if (!strcmp(key, "partition")) {
		cfg.partition = value;
		return 0;
	}
	if (!strcmp(key, "unit"))
		return nbdkit_parse_unsigned("unit", value, &cfg.unit);
	if (!strcmp(key, "queues"))
		return nbdkit_parse_unsigned("queues", value, &cfg.queues);
	if (!strcmp(key, "proto"))
		return nbdkit_parse_uint8_t("proto", value, &cfg.proto);
	if (!strcmp(key, "arm")) {
		if (vio_arm_parse(value, &cfg.arm, &err) == 0)
			return 0;
		nbdkit_error("%s", err.msg);
		return -1;
	}
	if (!strcmp(key, "trace")) {
		i = nbdkit_parse_bool(value);
		cfg.trace = i == 1;
		return i < 0 ? -1 : 0;
	}
	nbdkit_error(
		"unknown parameter %s; known: phyp, partition, unit, arm, queues, proto, trace",
		key);
	return -1;
}

static int plugin_config_complete(void)
{
	if (cfg.queues < 1 || cfg.queues > VIO_MAX_QUEUES || cfg.proto < 1 ||
	    cfg.proto > VIO_PROTO_LATEST) {
		nbdkit_error("queues must be 1 to %d, proto 1 or 2", VIO_MAX_QUEUES);
		return -1;
	}
	return 0;
}

#define plugin_config_help                                                                              \
	"phyp=<SOCKET>      phypd's control socket (/tmp/vio-phyp.sock)\n"                              \
	"partition=<NAME>   which guest partition to be (guest0)\n"                                     \
	"unit=<N>           which of its virtual adapters (0)\n"                                        \
	"arm=<ARM>          copy, copy-tuned, premapped, zero-copy or factors (zero-copy)\n"            \
	"queues=<N>         queues, each with a thread (1); each needs 17 MiB of the guest's memory:\n" \
	"                   phypd's default of 64 MiB is enough for 3 (phypd --guest-memory)\n"         \
	"proto=<1|2>        highest protocol version (2)\n"                                             \
	"trace=<BOOL>       print each message to standard error"

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
	uint64_t size = vio_blk_get_info(d->blk)->sectors * VIO_SECTOR;

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
	.config_help = plugin_config_help,
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
