/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-console front end (VIRTIO 1.2, section 5.3): one port, bytes in both directions. One thread. What was written
 * when the server went is sent again to the next one: nothing is lost, but the person may see some of it twice.
 */
#ifndef VIO_GUEST_DEV_CONSOLE_H
#define VIO_GUEST_DEV_CONSOLE_H

#include "guest/dev/buffered.h"

struct vio_console;

/* As vio_buffered_open(). */
int vio_console_open(struct phyp_part *part, struct vio_mem *mem,
		     const struct vio_buffered_cfg *cfg, struct vio_console **out,
		     struct vio_err *err);
void vio_console_close(struct vio_console *c);
const struct vio_transport_info *vio_console_get_info(const struct vio_console *c);
/* The person's screen, as the server says; false: it does not. */
bool vio_console_size(const struct vio_console *c, uint16_t *cols, uint16_t *rows);
/* Up to `len` bytes that have arrived: how many, 0: none now. -EIO: the device will not come back. */
int vio_console_read(struct vio_console *c, void *to, uint32_t len);
/* How many of `len` bytes were taken, in order; 0: no room now. -EIO. */
int vio_console_write(struct vio_console *c, const void *from, uint32_t len);
/* Would a write take something? */
bool vio_console_room(struct vio_console *c);
/* Bytes that were written and that the server has not taken: 0, or how many buffers of them. Looks at the device. */
unsigned vio_console_unsent(struct vio_console *c);
/* Until something arrived or there may be room, or one of fds is ready. */
void vio_console_idle(struct vio_console *c, struct pollfd *fds, unsigned n_fds,
		      uint64_t timeout_ns);

#endif
