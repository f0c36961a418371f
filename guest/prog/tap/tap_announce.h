/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the tap's stations are, said to the network after a change-over (GUEST_ANNOUNCE). */
#ifndef VIO_GUEST_PROG_TAP_ANNOUNCE_H
#define VIO_GUEST_PROG_TAP_ANNOUNCE_H

#include "guest/prog/tap/tap.h"

#define VIO_ANNOUNCE_MAX 128u /* bytes of a frame */

/* A gratuitous ARP request, an unsolicited neighbour advertisement; vid 0: without a tag. Bytes. */
unsigned vio_announce_arp(uint8_t *to, const uint8_t mac[6], uint16_t vid, const uint8_t ip[4]);
unsigned vio_announce_na(uint8_t *to, const uint8_t mac[6], uint16_t vid, const uint8_t ip[16]);
/*
 * One for each address of the tap and of VLAN interfaces on it, given to send() (false: it was not sent). How many
 * were; -errno: the interface is gone. The thread that is in the tap's namespace.
 */
int vio_tap_announce(const struct vio_tap *t,
		     bool (*send)(void *ctx, const uint8_t *frame, unsigned len), void *ctx);

#endif
