/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <string.h>

#include "guest/prog/tap/tap_announce.h"
#include "guest/prog/tap/tap_follow.h"

#define BIT(name) (1ull << VIRTIO_NET_F_##name)
#define USO       (BIT(GUEST_USO4) | BIT(GUEST_USO6))
#define WHOLE     (BIT(GUEST_TSO4) | BIT(GUEST_TSO6) | BIT(GUEST_ECN) | USO)

void vio_follow_init(struct vio_follow *f, struct vio_net *n, struct vio_tap *tap, bool filtered)
{
	const struct vio_net_info *i = vio_net_get_info(n);

	*f = (struct vio_follow){.n = n, .tap = tap, .filtered = filtered, .link_up = i->link_up};
	memcpy(f->mac, i->mac, 6);
	f->offloads = i->features & (BIT(GUEST_CSUM) | WHOLE);
}

static bool send_frame(void *ctx, const uint8_t *frame, unsigned len)
{
	struct vio_net *n = ctx;
	struct vio_net_buf *b;

	if (vio_net_tx_alloc(n, 0, &b, 1) == 0)
		return false;
	memcpy(b->data, frame, len);
	b->len = len;
	if (vio_net_tx_burst(n, 0, &b, 1) == 1)
		return true;
	vio_net_free(n, 0, &b, 1);
	return false;
}

static int announce_tap(struct vio_follow *f)
{
	struct vio_err err = {""};
	int n = vio_tap_announce(f->tap, send_frame, f->n), rc;

	if (n < 0)
		return n;
	rc = vio_net_announced(f->n, &err);
	if (rc !=
	    -ENOTCONN) /* else it is asked for anew when the server is back, if it still is to be */
		fprintf(stderr, "vio-tap: %s: %d address(es) announced%s%s\n", f->tap->name, n,
			rc ? ": " : "", rc ? err.msg : "");
	return 0;
}

int vio_follow_card(struct vio_follow *f)
{
	const struct vio_net_info *i = vio_net_get_info(f->n);
	struct vio_err err = {""};
	int rc = 0;

	if (i->link_up != f->link_up) {
		fprintf(stderr, "vio-tap: the card's link is %s\n", i->link_up ? "up" : "down");
		rc = vio_tap_carrier(f->tap, i->link_up, &err);
		f->link_up = i->link_up;
	}
	if (i->speed != f->speed) {
		vio_tap_speed(f->tap, i->speed);
		f->speed = i->speed;
	}
	if (rc == 0 && i->announce && i->link_up)
		rc = announce_tap(f);
	return rc;
}

/* The card's filter must let through what is sent to the tap's address, which anybody may change. */
static void follow_address(struct vio_follow *f)
{
	struct vio_err err = {""};
	uint8_t mac[6];
	int rc;

	if (vio_tap_mac(f->tap, mac) || !memcmp(mac, f->mac, 6))
		return;
	rc = vio_net_set_mac(f->n, mac, &err);
	if (rc == -ENOTCONN)
		return; /* at the next look */
	memcpy(f->mac, mac, 6);
	if (rc)
		fprintf(stderr, "vio-tap: %s: frames for the tap's new address don't arrive: %s\n",
			f->tap->name, err.msg);
}

/* What an old kernel can't take, and what nobody wants put together, is cut before it comes. */
static void follow_offloads(struct vio_follow *f)
{
	uint64_t want = vio_net_get_info(f->n)->features & (BIT(GUEST_CSUM) | WHOLE);
	struct vio_err err = {""};
	int rc;

	if (!f->tap->uso)
		want &= ~USO;
	if (!vio_tap_gro(f->tap))
		want &= ~WHOLE;
	if (want == f->offloads)
		return;
	rc = vio_net_set_offloads(f->n, want, &err);
	if (rc == -ENOTCONN)
		return;
	f->offloads = want;
	if (rc)
		fprintf(stderr, "vio-tap: %s: what the tap can take is not followed: %s\n",
			f->tap->name, err.msg);
}

void vio_follow_tap(struct vio_follow *f)
{
	if (f->filtered)
		follow_address(f);
	if (vio_net_get_info(f->n)->can_set_offloads)
		follow_offloads(f);
}
