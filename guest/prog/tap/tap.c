/* SPDX-License-Identifier: BSD-3-Clause */
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if_arp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/prog/tap/tap.h"

int vio_netns_enter(const char *name, struct vio_err *err)
{
	char path[256];
	int fd, rc = 0;

	snprintf(path, sizeof(path), "/var/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return vio_err_set(err, -errno,
				   "--netns %s: %s: %s; make it with `ip netns add %s`", name, path,
				   strerror(errno), name);
	if (setns(fd, CLONE_NEWNET))
		rc = vio_err_set(err, -errno, "--netns %s: %s; CAP_SYS_ADMIN is needed", name,
				 strerror(errno));
	close(fd);
	return rc;
}

static int tap_fail(const struct vio_tap *t, const char *what, struct vio_err *err)
{
	const int rc = -errno;

	return vio_err_set(err, rc, "tap %s: %s: %s%s", t->name, what, strerror(-rc),
			   rc == -EPERM    ? "; CAP_NET_ADMIN is needed"
			   : rc == -EINVAL ? "; is there an interface of that name that is no tap?"
			   : rc == -EBUSY  ? "; another program has it: take another --tap"
					   : "");
}

#ifndef TUN_F_USO4 /* Linux 6.2 */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* What the kernel may leave to the card in frames that are read from the tap. */
static unsigned long offloads(const struct vio_net_info *card)
{
	unsigned long f = 0;

	if (!card->csum)
		return 0;
	f |= TUN_F_CSUM;
	f |= card->tso4 ? TUN_F_TSO4 : 0;
	f |= card->tso6 ? TUN_F_TSO6 : 0;
	f |= card->ecn && f & (TUN_F_TSO4 | TUN_F_TSO6) ? TUN_F_TSO_ECN : 0;
	return f;
}

static int tap_open_queue(struct vio_tap *t, const struct vio_net_info *card, struct vio_err *err)
{
	struct ifreq r = {0};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), hdr = VIO_NET_HDR,
	    little = 1;

	if (fd < 0)
		return vio_err_set(err, -errno, "/dev/net/tun: %s; is the tun module loaded?",
				   strerror(errno));
	t->fd[t->n_fds++] = fd;
	memcpy(r.ifr_name, t->name, IFNAMSIZ); /* as long, and ended: vio_tap_open() */
	r.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
			      (card->pairs > 1 ? IFF_MULTI_QUEUE : 0));
	if (ioctl(fd, TUNSETIFF, &r))
		return tap_fail(t, "TUNSETIFF", err);
	memcpy(t->name, r.ifr_name, IFNAMSIZ); /* "vio%d" has become a number */
	if (ioctl(fd, TUNSETVNETHDRSZ, &hdr))
		return tap_fail(t, "TUNSETVNETHDRSZ", err);
	if (ioctl(fd, TUNSETVNETLE, &little))
		return tap_fail(t, "TUNSETVNETLE", err);
	/* Older kernels know no datagrams; then they are not to come in either. */
	t->uso = card->uso &&
		 ioctl(fd, TUNSETOFFLOAD, offloads(card) | TUN_F_USO4 | TUN_F_USO6) == 0;
	if (!t->uso && ioctl(fd, TUNSETOFFLOAD, offloads(card)))
		return tap_fail(t, "TUNSETOFFLOAD", err);
	return 0;
}

void vio_tap_name(const struct vio_tap *t, char name[IFNAMSIZ])
{
	struct ifreq r = {0};

	memcpy(name, t->name, IFNAMSIZ);
	if (t->n_fds > 0 && ioctl(t->fd[0], TUNGETIFF, &r) == 0)
		memcpy(name, r.ifr_name, IFNAMSIZ);
}

static void tap_request(const struct vio_tap *t, struct ifreq *r)
{
	memset(r, 0, sizeof(*r));
	vio_tap_name(t, r->ifr_name);
}

int vio_tap_open(struct vio_tap *t, const char *name, const struct vio_net_info *card, unsigned mtu,
		 struct vio_err *err)
{
	struct ifreq r;
	int rc = 0;

	*t = (struct vio_tap){.control = -1};
	if (strlen(name) >= IFNAMSIZ)
		return vio_err_set(err, -EINVAL, "--tap %s: at most %d characters", name,
				   IFNAMSIZ - 1);
	strcpy(t->name, name);
	t->control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (t->control < 0)
		return vio_err_set(err, -errno, "socket: %s", strerror(errno));
	for (unsigned i = 0; rc == 0 && i < card->pairs; i++)
		rc = tap_open_queue(t, card, err);
	if (rc)
		return rc;
	tap_request(t, &r);
	r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(r.ifr_hwaddr.sa_data, card->mac, 6);
	if (ioctl(t->control, SIOCSIFHWADDR, &r))
		return tap_fail(t, "setting its address", err);
	tap_request(t, &r);
	r.ifr_mtu = (int)mtu;
	if (ioctl(t->control, SIOCSIFMTU, &r))
		return tap_fail(t, "setting its MTU", err);
	return 0;
}

void vio_tap_close(struct vio_tap *t)
{
	for (unsigned i = 0; i < t->n_fds; i++)
		close(t->fd[i]);
	if (t->control >= 0)
		close(t->control);
	*t = (struct vio_tap){.control = -1};
}

int vio_tap_up(const struct vio_tap *t, bool up, struct vio_err *err)
{
	struct ifreq r;

	tap_request(t, &r);
	if (ioctl(t->control, SIOCGIFFLAGS, &r))
		return tap_fail(t, "reading its flags", err);
	r.ifr_flags = (short)(up ? r.ifr_flags | IFF_UP : r.ifr_flags & ~IFF_UP);
	if (ioctl(t->control, SIOCSIFFLAGS, &r))
		return tap_fail(t, up ? "setting it up" : "setting it down", err);
	return 0;
}

int vio_tap_mac(const struct vio_tap *t, uint8_t mac[6])
{
	struct ifreq r = {0};

	/* Of the tap itself: it may be in another namespace by now. */
	if (ioctl(t->fd[0], SIOCGIFHWADDR, &r))
		return -errno;
	memcpy(mac, r.ifr_hwaddr.sa_data, 6);
	return 0;
}

bool vio_tap_gro(const struct vio_tap *t)
{
	struct ethtool_value v = {.cmd = ETHTOOL_GGRO};
	struct ifreq r;

	tap_request(t, &r);
	r.ifr_data = (void *)&v;
	return ioctl(t->control, SIOCETHTOOL, &r) || v.data;
}

void vio_tap_speed(const struct vio_tap *t, uint32_t mbps)
{
	struct ethtool_cmd c = {.cmd = ETHTOOL_GSET};
	struct ifreq r;

	tap_request(t, &r);
	r.ifr_data = (void *)&c;
	if (ioctl(t->control, SIOCETHTOOL, &r))
		return;
	c.cmd = ETHTOOL_SSET;
	ethtool_cmd_speed_set(&c, mbps ? mbps : (uint32_t)SPEED_UNKNOWN);
	c.duplex = mbps ? DUPLEX_FULL : DUPLEX_UNKNOWN;
	(void)ioctl(t->control, SIOCETHTOOL, &r);
}

int vio_tap_carrier(const struct vio_tap *t, bool on, struct vio_err *err)
{
	int v = on;

	return ioctl(t->fd[0], TUNSETCARRIER, &v) ? tap_fail(t, "TUNSETCARRIER", err) : 0;
}
