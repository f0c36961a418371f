/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of fake_*.c: the server's thread only.
 *
 *   fake_server.c   its messages, windows and life
 *   fake_ring.c     its side of the rings, and its disk
 *   fake_world.c    the machine, and how the server reaches the guest's memory
 */
#ifndef VIO_TEST_GUEST_FAKE_SERVER_PRIV_H
#define VIO_TEST_GUEST_FAKE_SERVER_PRIV_H

#include <stdlib.h>

#include "fake_server.h"

/* Server memory by logical address. */
#define M_CRQ   0x1000ull
#define M_STAGE 0x10000ull
#define M_DISK  0x100000ull

/* cmocka's assertions belong to the test's thread; a server that can't go on ends the program. */
#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: fake server: %s\n", __FILE__, __LINE__, #x);       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct ioba fs_local(const struct fake_server *s, uint64_t logical);
bool fs_copy(struct fake_server *s, struct ioba guest, uint64_t logical, uint32_t len,
	     bool to_guest);
void fs_send(struct fake_server *s, const struct vio_msg *m);
/* Its queue is new: size and parts are known. */
void fs_ring_init(struct fake_server *s, struct fs_queue *q);
/* What the guest has made available, if it may be taken now. Chains. */
unsigned fs_serve(struct fake_server *s, unsigned queue);

#endif
