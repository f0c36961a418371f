/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-9p's queue between a hand-driven driver and a hand-driven 9P server, both of which may do what none should. All of it
 * fails the test when it waits in vain.
 */
#ifndef VIO_TEST_SERVER_NINE_H
#define VIO_TEST_SERVER_NINE_H

#include "server/dev/9p/p9.h"
#include "tests/unit/server/core/world.h"

#define NINE_SIZE       128u
#define NINE_PLACE      0x4000u /* of the guest's memory for one message, and as much for its answer */
#define NINE_AT(head)   (W_BUF + (head)*NINE_PLACE)
#define NINE_ROOM(head) (NINE_AT(head) + NINE_PLACE / 2)
#define NINE_T          120u
#define NINE_R          121u

#define NINE_WAYS 2u

/* The machine with the device, and the other end of its socket. */
struct nine {
	struct world *w;
	struct vio_device *dev;
	int listener, peer; /* peer: -1 until met() */
	char dir[64], path[96];
	uint64_t end; /* of our patience, ns */
};

void nine_patient(const struct nine *t, const char *what);
void nine_queue(struct nine *t, unsigned way);
void nine_up(struct nine *t, struct world *w, unsigned way);
void nine_down(struct nine *t);
/* A message at the head's place, `there` bytes of it in the chain; descriptors head and head + 1. */
void nine_chain(struct nine *t, unsigned head, uint8_t type, uint16_t tag, uint32_t size,
		uint32_t there, uint32_t room);
void nine_ask(struct nine *t, unsigned head, uint8_t type, uint16_t tag, uint32_t size);
/* The next chain that comes back is `head`, with so many bytes. */
void nine_back(struct nine *t, unsigned head, uint32_t bytes);
void nine_back_with_error(struct nine *t, unsigned head, uint16_t tag, uint32_t why);
void nine_read(struct nine *t, void *to, size_t len);
/* The server gets exactly this message. */
void nine_gets(struct nine *t, uint8_t type, uint16_t tag, uint32_t size);
/* The server says this, whatever it means; `there` bytes of it. */
void nine_says(struct nine *t, uint8_t type, uint16_t tag, uint32_t size, uint32_t there);
/* A session: the device connects at a Tversion. */
void nine_meet(struct nine *t, unsigned head);

#endif
