/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of vio-net, and what it prints: schema "vio-net/1", keys in docs/results.md. */
#ifndef VIO_GUEST_PROG_NET_OPTIONS_H
#define VIO_GUEST_PROG_NET_OPTIONS_H

#include "guest/prog/common.h"
#include "guest/prog/measure.h"
#include "guest/prog/net/net_load.h"

struct vio_net_opts {
	struct vio_common c;
	struct vio_net_cfg net;
	struct vio_nl_cfg load;
	bool mac_given, promisc_given, promisc;
	uint8_t mac[6];
	int ready_fd; /* -1: none */
};

/* 0; 1 after --help or --version; -EINVAL with a sentence. Strings point into argv. */
int vio_net_opts_parse(struct vio_net_opts *o, int argc, char **argv, struct vio_err *err);
/* Rows of struct vio_net_opts that every program with a card has: its buffers, its address, when it is ready. */
extern const struct vio_option vio_rows_card[], vio_rows_address[], vio_rows_ready[];
/* The common part of a front end's configuration. */
void vio_net_cfg_from(struct vio_net_cfg *n, const struct vio_common *c);

/* ready_ns: from process start to DRIVER_OK. -errno when o->c.json can't be written. */
int vio_net_report_info(struct vio_net *n, const struct vio_net_opts *o, uint64_t ready_ns,
			struct vio_err *err);
int vio_net_report_result(struct vio_net *n, const struct vio_net_opts *o, uint64_t ready_ns,
			  const struct vio_snapshot at[2], const struct vio_nl_result *res,
			  uint64_t tick_hz, struct vio_err *err);

#endif
