/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Does the NBD server still hold a connection whose client is gone? Such a connection may have a
 * write in it that the server has not executed yet, and it would land after everything that is
 * written from now on (docs/decisions/0011). Servers close a connection when they have finished
 * what they read from it, so its end is the fence.
 *
 * The kernel knows on a UNIX socket of this network namespace: sock_diag(7) shows the server's end
 * of each connection, and who is at the other end. On TCP it does not: a connection that was reset
 * disappears at once, whatever the server is still doing for it.
 */
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/store/nbd.h"

#define LISTENING 10 /* TCP_LISTEN: the kernel's states of any stream socket */

/* One socket of the kernel's list. */
struct sock_entry {
	uint32_t ino, peer; /* peer 0: gone */
	bool connected;
	bool has_file;
	struct unix_diag_vfs file; /* of the path that the listener was bound to */
};

typedef void entry_fn(void *ctx, const struct sock_entry *e);

static int ask(int s)
{
	const struct {
		struct nlmsghdr h;
		struct unix_diag_req r;
	} req = {
		.h = {.nlmsg_len = sizeof(req),
		      .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		      .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.r = {.sdiag_family = AF_UNIX,
		      .udiag_states = UINT32_MAX,
		      .udiag_show = UDIAG_SHOW_VFS | UDIAG_SHOW_PEER},
	};

	return send(s, &req, sizeof(req), 0) == (ssize_t)sizeof(req) ? 0 : -errno;
}

static void take(const struct nlmsghdr *h, entry_fn *fn, void *ctx)
{
	const struct unix_diag_msg *m = NLMSG_DATA(h);
	size_t at = NLMSG_LENGTH(sizeof(*m));
	struct sock_entry e = {.ino = m->udiag_ino, .connected = m->udiag_state != LISTENING};

	while (at + sizeof(struct rtattr) <= h->nlmsg_len) {
		const struct rtattr *a = (const void *)((const uint8_t *)h + at);

		at += RTA_ALIGN(a->rta_len > sizeof(*a) ? a->rta_len : sizeof(*a));
		if (a->rta_type == UNIX_DIAG_PEER)
			memcpy(&e.peer, RTA_DATA(a), sizeof(e.peer));
		if (a->rta_type == UNIX_DIAG_VFS) {
			memcpy(&e.file, RTA_DATA(a), sizeof(e.file));
			e.has_file = true;
		}
	}
	fn(ctx, &e);
}

/* All UNIX sockets of this network namespace. -errno: the kernel does not say. */
static int each_socket(entry_fn *fn, void *ctx)
{
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), rc;
	uint64_t buf[4096]; /* 32 KiB: what the kernel sends at most in one message */

	if (s < 0)
		return -errno;
	rc = ask(s);
	while (rc == 0) {
		ssize_t n = recv(s, buf, sizeof(buf), 0);
		const struct nlmsghdr *h = (const void *)buf;

		if (n <= 0)
			rc = n < 0 ? -errno : -EPROTO;
		for (uint32_t left = (uint32_t)(n > 0 ? n : 0); rc == 0 && NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				rc = 1;
			else if (h->nlmsg_type == NLMSG_ERROR)
				rc = -EPROTO;
			else
				take(h, fn, ctx);
		}
	}
	close(s);
	return rc < 0 ? rc : 0;
}

struct search {
	uint32_t own;           /* inode of our end */
	uint32_t peer;          /* of the server's end of our connection; 0: not found yet */
	struct sock_entry seen; /* the server's end */
	bool found;
	unsigned orphans;
};

static void find_own(void *ctx, const struct sock_entry *e)
{
	struct search *s = ctx;

	if (e->ino == s->own)
		s->peer = e->peer;
}

static void find_server(void *ctx, const struct sock_entry *e)
{
	struct search *s = ctx;

	if (e->ino == s->peer && e->has_file) {
		s->seen = *e;
		s->found = true;
	}
}

static void count_orphans(void *ctx, const struct sock_entry *e)
{
	struct search *s = ctx;

	s->orphans += e->connected && e->has_file && e->peer == 0 &&
		      e->file.udiag_vfs_ino == s->seen.file.udiag_vfs_ino &&
		      e->file.udiag_vfs_dev == s->seen.file.udiag_vfs_dev;
}

enum vio_nbd_fence vio_nbd_look_fence(struct nbd_handle *h)
{
	struct search s = {0};
	struct stat st;
	int fd = nbd_aio_get_fd(h);

	if (fd < 0 || fstat(fd, &st))
		return VIO_NBD_FENCE_UNKNOWN;
	s.own = (uint32_t)st.st_ino;
	if (each_socket(find_own, &s) || s.peer == 0)
		return VIO_NBD_FENCE_UNKNOWN; /* TCP, or the kernel has no sock_diag */
	/* A server of another network namespace shows nothing, and nothing must not mean "none". */
	if (each_socket(find_server, &s) || !s.found || each_socket(count_orphans, &s))
		return VIO_NBD_FENCE_UNKNOWN;
	return s.orphans ? VIO_NBD_FENCE_HELD : VIO_NBD_FENCE_CLEAR;
}

int vio_nbd_fence_start(struct vio_nbd *n, struct nbd_handle *h, struct vio_err *err)
{
	const struct timespec pause = {.tv_nsec = VIO_NBD_FENCE_NS};
	enum vio_nbd_fence f =
		n->fence == VIO_NBD_RULE_OFF ? VIO_NBD_FENCE_CLEAR : vio_nbd_look_fence(h);

	n->be.unfenced = n->fence == VIO_NBD_RULE_REFUSE || f == VIO_NBD_FENCE_UNKNOWN;
	if (n->fence == VIO_NBD_RULE_WAIT && f == VIO_NBD_FENCE_UNKNOWN)
		return vio_err_set(
			err, -EOPNOTSUPP,
			"backend nbd: fence=wait, but whether %.120s still works for an earlier connection can be told on a UNIX socket of this machine only; use one, or fence=refuse (what was in flight fails) or fence=off (it may be executed late)",
			n->uri);
	if (n->be.unfenced || f == VIO_NBD_FENCE_CLEAR)
		return 0;
	vio_backend_say(
		&n->be,
		"%.120s still works on requests of a connection whose client is gone; waiting for their end before the disk is served",
		n->uri);
	while ((f = vio_nbd_look_fence(h)) == VIO_NBD_FENCE_HELD)
		nanosleep(&pause, NULL); /* a signal ends the program */
	if (f == VIO_NBD_FENCE_UNKNOWN)
		return vio_err_set(err, -ECONNRESET,
				   "backend nbd: %.120s closed the connection meanwhile", n->uri);
	vio_backend_say(&n->be, "the earlier connection has ended");
	return 0;
}
