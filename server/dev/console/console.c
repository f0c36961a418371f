/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-console (VIRTIO 1.2, section 5.3): one port, with a receive and a transmit queue, carried to a socket or a
 * terminal (carrier.h): what a vterm is on PowerVM. Both queues are `pull`: a chain is taken when there is something
 * for the guest, or room for what it wrote, so nothing is in flight while a person thinks.
 */
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/dev/console/carrier.h"
#include "server/dev/pull.h"

enum { RECEIVEQ, TRANSMITQ, N_QUEUES };

struct vio_console {
	struct vio_device dev;
	uint16_t cols, rows; /* 0: not said */
	struct vio_carrier carrier;
};

static struct vio_console *console_of(const struct vio_device *dev)
{
	return vio_container_of(dev, struct vio_console, dev);
}

/* ------------------------------------------------------------------------------- life ---- */

static int parse_size(const char *spec, struct vio_console *c, struct vio_err *err)
{
	char text[32];
	int rc = vio_spec_get(spec, "size", text, sizeof(text)), end = 0;
	unsigned cols = 0, rows = 0;

	if (rc == 0)
		return 0;
	if (rc < 0 || sscanf(text, "%4ux%4u%n", &cols, &rows, &end) != 2 || text[end] ||
	    cols == 0 || rows == 0)
		return vio_err_set(err, -EINVAL, "size=%s: columns and rows, e.g. 80x24",
				   rc < 0 ? "(too long)" : text);
	c->cols = (uint16_t)cols;
	c->rows = (uint16_t)rows;
	return 0;
}

static int parse_spec(const char *spec, struct vio_console *c, struct vio_carrier_cfg *cfg,
		      char path[128], struct vio_err *err)
{
	static const char *const keys[] = {"socket", "pty", "size", NULL};
	char pty[128] = "";
	int rc = vio_spec_check("console", spec, keys, err), has_socket, has_pty;

	if (rc == 0)
		rc = parse_size(spec, c, err);
	if (rc)
		return rc;
	has_socket = vio_spec_get(spec, "socket", path, 128);
	has_pty = vio_spec_get(spec, "pty", pty, sizeof(pty));
	if (has_socket < 0 || has_pty < 0)
		return vio_err_set(err, -EINVAL, "its path is too long: at most 107 characters");
	if (has_socket == has_pty || (has_socket && !*path))
		return vio_err_set(
			err, -EINVAL,
			"say where it is carried to: socket=PATH, or pty=LINK (pty= for no link)");
	cfg->pty = has_pty;
	if (has_pty)
		memcpy(path, pty, sizeof(pty));
	cfg->path = path;
	return 0;
}

static int console_open(const char *spec, const struct vio_dev_env *env, struct vio_device **out,
			struct vio_err *err)
{
	struct vio_console *c =
		aligned_alloc(VIO_APART, VIO_ALIGN_UP(sizeof(*c), (size_t)VIO_APART));
	struct vio_carrier_cfg cfg;
	char path[128];
	int rc;

	(void)env;
	if (!c)
		return vio_err_set(err, -ENOMEM, "no memory");
	memset(c, 0, sizeof(*c));
	rc = parse_spec(spec, c, &cfg, path, err);
	if (rc == 0)
		rc = vio_carrier_open(&c->carrier, &cfg, err);
	if (rc) {
		free(c);
		return rc;
	}
	c->dev.kind = &vio_kind_console;
	snprintf(c->dev.what, sizeof(c->dev.what), "%s %s", cfg.pty ? "terminal" : "socket",
		 c->carrier.path);
	*out = &c->dev;
	return 0;
}

static void console_close(struct vio_device *dev)
{
	vio_carrier_close(&console_of(dev)->carrier);
	free(console_of(dev));
}

static uint16_t console_queues(const struct vio_device *dev, uint16_t most)
{
	(void)dev, (void)most;
	return N_QUEUES;
}

static void console_show(const struct vio_device *dev, struct vio_show *s)
{
	const struct vio_carrier *c = &console_of(dev)->carrier;

	s->text(s, "kind", "console");
	s->text(s, "what", dev->what);
	s->num(s, "connected", vio_load_relaxed(&c->connected));
	s->num(s, "connections", vio_load_relaxed(&c->connections));
	s->num(s, "refused", vio_load_relaxed(&c->refused));
	s->num(s, "bytes_to_guest", vio_load_relaxed(&c->bytes_in));
	s->num(s, "bytes_from_guest", vio_load_relaxed(&c->bytes_out));
	s->num(s, "bytes_lost", vio_load_relaxed(&c->bytes_lost));
}

/* ---------------------------------------------------------------------- configuration ---- */

static uint64_t console_features(const struct vio_device *dev)
{
	return console_of(dev)->cols ? 1ull << VIRTIO_CONSOLE_F_SIZE : 0;
}

static uint16_t console_config(const struct vio_device *dev, uint16_t num_queues, uint8_t *out)
{
	const struct vio_console *c = console_of(dev);
	struct virtio_console_config cfg;

	(void)num_queues;
	memset(&cfg, 0, sizeof(cfg));
	cfg.cols = vio_le16(c->cols);
	cfg.rows = vio_le16(c->rows);
	cfg.max_nr_ports = vio_le32(1);
	memcpy(out, &cfg, sizeof(cfg));
	return sizeof(cfg);
}

static uint8_t console_start(struct vio_device *dev, uint64_t features, uint64_t queues)
{
	(void)dev, (void)features;
	return queues == (1u << N_QUEUES) - 1 ? VIO_ST_OK : VIO_ST_QUEUE;
}

/* ----------------------------------------------------------------------------- queues ---- */

static void console_queue_ready(struct vio_squeue *q)
{
	struct vio_carrier *c = &console_of(q->dq->dev)->carrier;
	const bool to_guest = q->index == RECEIVEQ;

	vio_pull_queue_ready(q, (struct vio_pull){.bytes = to_guest ? &c->in : &c->out,
						  .to_guest = to_guest,
						  .per_chain = VIO_PULL_BYTES});
}

/* Both are on one lcore. */
static void console_queue_on(struct vio_squeue *q)
{
	vio_store_release(&console_of(q->dq->dev)->carrier.vcpu, q->vcpu); /* pair L */
}

static void console_queue_off(struct vio_squeue *q)
{
	vio_store_release(&console_of(q->dq->dev)->carrier.vcpu, NULL);
}

static unsigned console_turn(struct vio_squeue *q)
{
	uint32_t n = vio_pull_turn(q, vio_pull_of(q));

	if (n > 0)
		vio_bell_ring(&console_of(q->dq->dev)->carrier.bell);
	return n;
}

static const struct vio_dev_ops console_queue_ops = {.name = "console",
						     .one_lcore = true,
						     .long_chains = true,
						     .wants = vio_pull_queue_wants,
						     .turn = console_turn};

const struct vio_dev_kind vio_kind_console = {
	.row = {"console", "socket=PATH|pty=LINK[,size=COLSxROWS]",
		"a guest's terminal, carried to a UNIX socket that one person at a time connects to, or to a pseudo-terminal and a symbolic link to it (pty= for none)",
		VIO_OPTION_CALL, .set = vio_dev_option},
	.noun = "console",
	.type = VIRTIO_ID_CONSOLE,
	.min_proto = VIO_PROTO_V1,
	.queue = &console_queue_ops,
	.open = console_open,
	.close = console_close,
	.queues = console_queues,
	.show = console_show,
	.features = console_features,
	.config = console_config,
	.start = console_start,
	.queue_open = vio_pull_queue_open,
	.queue_close = vio_pull_queue_close,
	.queue_ready = console_queue_ready,
	.queue_on = console_queue_on,
	.queue_off = console_queue_off,
};
