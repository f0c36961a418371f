/* SPDX-License-Identifier: BSD-3-Clause */
/* Attributes of a link: rtnetlink(7). */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/prog/tap/tap.h"

#define IPV4_MAX_SIZE 63 /* IFLA_GSO_IPV4_MAX_SIZE: Linux 6.3 */
#define LEGACY_MAX    65536u
/* One extension header, of the longest that there is (RFC 8200, 4.2). */
#define EXTENSION_MAX 2048u
/* As many as Linux's senders of datagrams ask for, mostly (UDP_MAX_SEGMENTS until 6.9). */
#define MAX_SEGMENTS 64u

struct set_link {
	struct nlmsghdr h;
	struct ifinfomsg i;
	struct {
		struct rtattr a;
		uint32_t v;
	} attr[3];
};

/* The kernel's answer to the one request. */
static int acknowledged(int fd)
{
	union {
		struct nlmsghdr h;
		char room[1024];
	} m;
	const struct nlmsgerr *e = NLMSG_DATA(&m.h);
	ssize_t n = recv(fd, &m, sizeof(m), 0);

	if (n < 0)
		return -errno;
	return (size_t)n >= NLMSG_LENGTH(sizeof(*e)) && m.h.nlmsg_type == NLMSG_ERROR ? e->error
										      : -EPROTO;
}

int vio_tap_limits(const struct vio_tap *t, unsigned mtu)
{
	const uint32_t room = mtu < EXTENSION_MAX ? mtu : EXTENSION_MAX;
	struct set_link m = {
		.h = {.nlmsg_len = sizeof(m),
		      .nlmsg_type = RTM_NEWLINK,
		      .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.i = {.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(t->name)},
		.attr = {{{8, IFLA_GSO_MAX_SEGS}, MAX_SEGMENTS},
			 {{8, IFLA_GSO_MAX_SIZE}, LEGACY_MAX - room},
			 {{8, IPV4_MAX_SIZE}, LEGACY_MAX}},
	};
	int fd, rc;

	static_assert(sizeof(m) == NLMSG_LENGTH(sizeof(m.i)) + sizeof(m.attr), "no padding");
	if (m.i.ifi_index == 0)
		return -errno;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		return -errno;
	rc = send(fd, &m, sizeof(m), 0) < 0 ? -errno : acknowledged(fd);
	close(fd);
	return rc;
}
