/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mailboxes served: calls that a virtual machine leaves in shared memory (proto/mailbox.h) are made on the
 * partition's virtual processor, with the numbers, arguments and codes that any partition's calls have.
 *
 * What the virtual machine writes is its own affair: each word is read once, a call is made with what was
 * read, and one mailbox has one call at a time. Whatever it does it can do to itself only: it is one
 * partition, and the hypervisor judges its calls as everybody's.
 *
 * Thread: that of the vcpu. Functions answer 0 or -errno.
 */
#ifndef VIO_GUEST_CARRIER_MAILBOX_H
#define VIO_GUEST_CARRIER_MAILBOX_H

#include <stdio.h>

#include "proto/mailbox.h"
#include "vio/phyp.h"

#define VIO_MB_MAX_BOXES 16u

struct vio_mb_server {
	struct phyp_vcpu *vcpu;
	struct phyp_part *part;
	struct vio_mb_head *head;
	struct vio_mailbox *box;
	FILE *trace; /* each CRQ message and call a line; NULL off */
	/* Grants that the partition has made: to be taken back when it begins anew. */
	uint64_t *cookie;
	unsigned n_cookies, room;
	bool owed; /* a new beginning that is not complete: the last one, whoever asked for it */
	/* Totals. */
	uint64_t calls, refused, unknown, anew;
};

/* Lay out `memory` (VIO_MB_BYTES, zero) for the vcpu's partition. -ENOMEM, with a sentence. */
int vio_mb_open(struct vio_mb_server *s, struct phyp_vcpu *vcpu, void *memory, struct vio_err *err);
void vio_mb_close(struct vio_mb_server *s);

/* Make the calls that wait, at most one a mailbox. How many. */
unsigned vio_mb_serve(struct vio_mb_server *s);
/* Say that a call needs the doorbell from now on (asleep), and look once more: true, there is one already. */
bool vio_mb_sleep(struct vio_mb_server *s);
void vio_mb_wake(struct vio_mb_server *s);
/*
 * The partition begins anew: its CRQs are freed, its grants taken back by force, its TCEs cleared, as when
 * a partition's process ends. False, and `owed`: some grants are still in use by a server that hangs; again
 * later, unless a new virtual machine's own call has done it by then.
 */
bool vio_mb_anew(struct vio_mb_server *s);
/* Valid TCEs in all windows of the partition, by asking for each. */
uint64_t vio_mb_tces(struct vio_mb_server *s);

#endif
