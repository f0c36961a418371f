/* SPDX-License-Identifier: BSD-3-Clause */
/* QEMU's ivshmem-doorbell, server end. */
#include "guest/carrier/ivshmem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/mailbox.h"
#include "vio/types.h"

#define IVSHMEM_PROTOCOL 0

static int ivshmem_send(int sock, int64_t value, int fd)
{
	uint64_t raw = htole64((uint64_t)value);
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {&raw, sizeof(raw)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;
	ssize_t n;

	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	n = sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n == sizeof(raw) ? 0 : n < 0 ? -errno : -EPIPE;
}

/* What a new client is told, in this order. */
static int ivshmem_greet(const struct vio_ivshmem *s, int sock)
{
	int rc = ivshmem_send(sock, IVSHMEM_PROTOCOL, -1);

	if (rc == 0)
		rc = ivshmem_send(sock, VIO_MB_GUEST, -1);
	if (rc == 0)
		rc = ivshmem_send(sock, -1, s->memory);
	if (rc == 0)
		rc = ivshmem_send(sock, VIO_MB_PEER, s->doorbell);
	if (rc == 0)
		rc = ivshmem_send(sock, VIO_MB_GUEST, s->interrupt);
	return rc;
}

/* Somebody listens at the address? */
static bool ivshmem_alive(const struct sockaddr_un *sa)
{
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes = s >= 0 && connect(s, (const struct sockaddr *)sa, sizeof(*sa)) == 0;

	if (s >= 0)
		close(s);
	return yes;
}

static int ivshmem_listen(struct vio_ivshmem *s, struct vio_err *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	mode_t mask;
	int rc;

	if (strlen(s->path) >= sizeof(sa.sun_path))
		return vio_err_set(err, -ENAMETOOLONG,
				   "--socket %s: a socket's path has at most %zu characters",
				   s->path, sizeof(sa.sun_path) - 1);
	strcpy(sa.sun_path, s->path);
	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listener < 0)
		return vio_err_set(err, -errno, "--socket %s: %s", s->path, strerror(errno));
	mask = umask(0077);
	rc = bind(s->listener, (struct sockaddr *)&sa, sizeof(sa));
	if (rc && errno == EADDRINUSE && !ivshmem_alive(&sa) && unlink(s->path) == 0)
		rc = bind(s->listener, (struct sockaddr *)&sa, sizeof(sa));
	rc = rc ? -errno : 0;
	umask(mask);
	if (rc) {
		close(s->listener);
		s->listener = -1;
		return vio_err_set(err, rc, "--socket %s: %s", s->path, strerror(-rc));
	}
	if (listen(s->listener, 4))
		return vio_err_set(err, -errno, "--socket %s: %s", s->path, strerror(errno));
	return 0;
}

int vio_ivshmem_open(struct vio_ivshmem *s, const char *path, size_t bytes, struct vio_err *err)
{
	int rc;

	*s = (struct vio_ivshmem){.memory = -1,
				  .doorbell = -1,
				  .interrupt = -1,
				  .listener = -1,
				  .client = -1,
				  .va = MAP_FAILED,
				  .bytes = bytes,
				  .path = path};
	s->memory = memfd_create("vio-mailbox", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	s->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	/* Sealed: who is given it can't cut it short under us. */
	if (s->memory >= 0 && ftruncate(s->memory, (off_t)bytes) == 0 &&
	    fcntl(s->memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		s->va = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->memory, 0);
	if (s->va == MAP_FAILED || s->doorbell < 0 || s->interrupt < 0) {
		rc = vio_err_set(err, -errno, "no memory to share with a virtual machine: %s",
				 strerror(errno));
		vio_ivshmem_close(s);
		return rc;
	}
	rc = ivshmem_listen(s, err);
	if (rc)
		vio_ivshmem_close(s);
	return rc;
}

void vio_ivshmem_close(struct vio_ivshmem *s)
{
	const int fd[] = {s->client, s->memory, s->doorbell, s->interrupt, s->listener};

	if (s->va != MAP_FAILED)
		munmap(s->va, s->bytes);
	if (s->listener >= 0)
		unlink(s->path);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(fd); i++) {
		if (fd[i] >= 0)
			close(fd[i]);
	}
	s->va = MAP_FAILED;
	s->client = s->memory = s->doorbell = s->interrupt = s->listener = -1;
}

static enum vio_ivshmem_event ivshmem_accept(struct vio_ivshmem *s)
{
	int sock = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock < 0)
		return VIO_IVSHMEM_NOTHING;
	if (s->client >= 0 || ivshmem_greet(s, sock)) {
		close(sock);
		return s->client >= 0 ? VIO_IVSHMEM_REFUSED : VIO_IVSHMEM_NOTHING;
	}
	s->client = sock;
	return VIO_IVSHMEM_CAME;
}

enum vio_ivshmem_event vio_ivshmem_look(struct vio_ivshmem *s)
{
	char byte[64];
	ssize_t n;

	if (s->client >= 0) {
		/* A client has nothing to say; what it says is thrown away. */
		n = recv(s->client, byte, sizeof(byte), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			close(s->client);
			s->client = -1;
			return VIO_IVSHMEM_WENT;
		}
	}
	return ivshmem_accept(s);
}

void vio_ivshmem_interrupt(struct vio_ivshmem *s)
{
	const uint64_t one = 1;

	while (s->client >= 0 && write(s->interrupt, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void vio_ivshmem_answer_doorbell(struct vio_ivshmem *s)
{
	uint64_t n;

	while (read(s->doorbell, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}
