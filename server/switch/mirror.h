/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames of a port, copied into a pcap file while they flow. The switch's lcore copies them into a ring of bytes
 * (pair H) and never waits: what finds no room is counted. A thread of the mirror's own writes the file; it looks
 * every few milliseconds, so that the lcore need not wake it.
 */
#ifndef VIO_SERVER_SWITCH_MIRROR_H
#define VIO_SERVER_SWITCH_MIRROR_H

#include "server/dev/net/frame.h"
#include "server/switch/port_set.h"

struct vio_mirror;

struct vio_mirror_cfg {
	const char *path; /* a new file: one that is there is not touched */
	uint64_t limit;   /* bytes that the file may have, at least a header's; 0: any number */
};
#define VIO_MIRROR_MIN 1024u

/*
 * -errno with a sentence: -EEXIST, or whatever the file system says. Not a data lcore's thread, as is that of stop,
 * which writes what is in the ring, and frees *m: nobody gives it frames any more.
 */
int vio_mirror_start(const struct vio_mirror_cfg *cfg, struct vio_mirror **out,
		     struct vio_err *err);
void vio_mirror_stop(struct vio_mirror *m);
/* Why the file can't be written any more, an errno, once; 0: it can, or that was told. The switch's lcore. */
int vio_mirror_why(struct vio_mirror *m);
/* A burst as it came in at the port, or as it leaves (by_port: tags as the port puts them). The switch's lcore. */
void vio_mirror_in(struct vio_port *p, const struct vio_frame *f, unsigned n);
void vio_mirror_out(struct vio_port *p, struct vio_frame *const f[], unsigned n);

/*
 * "/vio/set/mirror,PORT,file=PATH[,direction=in|out|both][,limit=BYTES]", or "PORT,off". As vio_port_set(). A port
 * has one mirror.
 */
int vio_mirror_set(const struct vio_port_set *s, const char *params, struct vio_err *err);
/* All that are left. The switch is not used any more. */
void vio_mirror_stop_all(struct vio_switch *sw);

#endif
