/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages with descriptors. */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "phyp/carrier/wire.h"

union control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(WIRE_FDS * sizeof(int))];
};

int wire_send(int sock, const void *buf, size_t len, const int *fd, unsigned n_fds, int flags)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	union control c;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (n_fds > WIRE_FDS)
		return -EINVAL;
	if (n_fds > 0) {
		struct cmsghdr *h;

		memset(&c, 0, sizeof(c));
		msg.msg_control = c.buf;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		h = CMSG_FIRSTHDR(&msg);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(h), fd, n_fds * sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL | flags);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EMSGSIZE;
}

ssize_t wire_recv(int sock, void *buf, size_t len, int *fd, unsigned *n_fds, int flags)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	union control c;
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = c.buf,
			     .msg_controllen = sizeof(c.buf)};
	unsigned room = n_fds ? *n_fds : 0, got = 0;
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);
	while (n < 0 && errno == EINTR);
	if (n_fds)
		*n_fds = 0;
	if (n < 0)
		return -errno;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&msg); h; h = CMSG_NXTHDR(&msg, h)) {
		int x[WIRE_FDS];

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		got = (unsigned)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(x, CMSG_DATA(h), got * sizeof(int));
		for (unsigned i = 0; i < got; i++) {
			if (i < room)
				fd[i] = x[i];
			else
				close(x[i]);
		}
	}
	if (n_fds)
		*n_fds = got < room ? got : room;
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		while (n_fds && *n_fds > 0)
			close(fd[--*n_fds]);
		return -EMSGSIZE;
	}
	return n;
}

int wire_address(const char *path, struct sockaddr_un *sa, struct vio_err *err)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	if (path[0] == 0 || strlen(path) >= sizeof(sa->sun_path))
		return vio_err_set(err, -ENAMETOOLONG,
				   "socket path '%.200s': must have 1 to %zu characters", path,
				   sizeof(sa->sun_path) - 1);
	memcpy(sa->sun_path, path, strlen(path) + 1);
	return 0;
}
