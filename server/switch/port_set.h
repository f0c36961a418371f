/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * "/vio/set/port,PORT,KEY=VALUE,...": a port of the switch is changed while frames flow. Keys: link=up or
 * down, vlan, trunk, mtu, storm as in --net. All are set, or none. trunk= makes a trunk of it (with
 * vlan= as native VLAN, or none); vlan= alone changes an access port's VLAN or a trunk's native one.
 */
#ifndef VIO_SERVER_PORT_SET_H
#define VIO_SERVER_PORT_SET_H

#include "server/core/control.h"
#include "server/switch/switch.h"

struct vio_port_set {
	struct vio_switch *sw; /* NULL: there is none, and every command is refused */
	/* Have fn called by the switch's lcore, and wait: vio_control_ask(). */
	int (*call)(void *ctx, vio_control_fn *fn, void *arg, struct vio_err *err);
	void *ctx;
};

/*
 * The port that `params` begins with, and what follows its number (a comma or nothing). -errno with a sentence.
 * Telemetry's thread, as are all here.
 */
int vio_port_named(const struct vio_port_set *s, const char *params, struct vio_port **p,
		   const char **rest, struct vio_err *err);
/*
 * `rest` (vio_port_named()) word by word into `text`, of `room` bytes, which stays the words' memory: word() for each of those
 * between commas, until one fails. Its answer, or -EINVAL: longer than that.
 */
int vio_port_words(const char *rest, char *text, size_t room,
		   int (*word)(void *ctx, char *text, struct vio_err *err), void *ctx,
		   struct vio_err *err);
/* `params`: what follows the command's name. 0, or -errno with a sentence. Telemetry's thread. */
int vio_port_set(const struct vio_port_set *s, const char *params, struct vio_err *err);

/*
 * Addresses of the table, as vio_switch_rows() answers them. Telemetry's thread; -errno with a sentence, or
 * their number.
 */
int vio_port_rows(const struct vio_port_set *s, uint32_t *at, struct vio_fdb_row *row, unsigned max,
		  struct vio_err *err);

#endif
