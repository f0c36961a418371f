/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/peers/vhost_user.h"

enum {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24,
};

#define VERSION     1u
#define IS_REPLY    4u
#define NEED_REPLY  8u
#define F_PROTOCOL  (1ull << 30) /* among the virtio features */
#define P_REPLY_ACK (1ull << 3)
#define P_CONFIG    (1ull << 9)
#define CONFIG_MAX  256u
#define CONFIG_HEAD 12u
#define HUGE_PAGE   ((size_t)2 << 20)
#define PACKED_WRAP_0                                                                              \
	(1u << 15) /* SET_VRING_BASE of a packed ring: position 0, wrap counter 1, for both sides */

struct state {
	uint32_t index, num;
};
struct address {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};
struct table {
	uint32_t n, padding;
	uint64_t guest, size, user, offset;
};
struct config {
	uint32_t offset, size, flags;
	uint8_t region[CONFIG_MAX];
};
struct message {
	uint32_t request, flags, size;
	union {
		uint64_t u64;
		struct state state;
		struct address address;
		struct table table;
		struct config config;
	} __attribute__((packed)) p;
} __attribute__((packed));

#define HEAD offsetof(struct message, p)

static int vu_lost(struct vio_err *err, uint32_t request, ssize_t n)
{
	if (n >= 0 || errno == EPIPE || errno == ECONNRESET)
		return vio_err_set(err, -EPIPE,
				   "the vhost-user server closed the connection at message %u",
				   request);
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return vio_err_set(err, -ETIMEDOUT,
				   "the vhost-user server did not answer message %u within %d s",
				   request, VU_TIMEOUT_SECONDS);
	return vio_err_set(err, -errno, "vhost-user message %u: %s", request, strerror(errno));
}

static int send_message(struct vu *v, struct message *m, uint32_t size, int fd, struct vio_err *err)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {m, HEAD + size};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	m->flags |= VERSION;
	m->size = size;
	if (fd >= 0) {
		struct cmsghdr *c;

		h.msg_control = control.room;
		h.msg_controllen = sizeof(control.room);
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	n = sendmsg(v->fd, &h, MSG_NOSIGNAL);
	return n == (ssize_t)(HEAD + size) ? 0 : vu_lost(err, m->request, n);
}

static int vu_receive(struct vu *v, void *to, size_t len, uint32_t request, struct vio_err *err)
{
	uint8_t *p = to;

	while (len > 0) {
		ssize_t n = recv(v->fd, p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return vu_lost(err, request, n);
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The answer to *m, into *m; its payload must have `size` bytes. */
static int vu_answer(struct vu *v, struct message *m, uint32_t size, struct vio_err *err)
{
	const uint32_t request = m->request;
	int rc = vu_receive(v, m, HEAD, request, err);

	if (rc)
		return rc;
	if (m->request != request || !(m->flags & IS_REPLY) || m->size != size)
		return vio_err_set(
			err, -EPROTO,
			"the vhost-user server answered message %u with message %u, flags 0x%x, %u bytes; %u were due",
			request, m->request, m->flags, m->size, size);
	return vu_receive(v, &m->p, size, request, err);
}

static int vu_get(struct vu *v, uint32_t request, uint64_t *value, struct vio_err *err)
{
	struct message m = {.request = request};
	int rc = send_message(v, &m, 0, -1, err);

	if (rc == 0)
		rc = vu_answer(v, &m, sizeof(m.p.u64), err);
	if (rc == 0)
		*value = m.p.u64;
	return rc;
}

/* Send; wait for the acknowledgement where there are any. */
static int set(struct vu *v, struct message *m, uint32_t size, int fd, struct vio_err *err)
{
	int rc;

	if (v->acks)
		m->flags |= NEED_REPLY;
	rc = send_message(v, m, size, fd, err);
	if (rc || !v->acks)
		return rc;
	rc = vu_answer(v, m, sizeof(m->p.u64), err);
	if (rc == 0 && m->p.u64 != 0)
		return vio_err_set(err, -EPROTO,
				   "the vhost-user server refused message %u (%" PRIu64 ")",
				   m->request, m->p.u64);
	return rc;
}

int vu_connect(struct vu *v, const char *path, struct vio_err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	const struct timeval limit = {.tv_sec = VU_TIMEOUT_SECONDS};

	memset(v, 0, sizeof(*v));
	v->fd = v->kick = v->call = v->mem_fd = -1;
	if (strlen(path) >= sizeof(a.sun_path))
		return vio_err_set(err, -ENAMETOOLONG,
				   "--socket %s: longer than the %zu bytes of a socket's path",
				   path, sizeof(a.sun_path) - 1);
	strcpy(a.sun_path, path);
	v->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	v->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	v->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->fd < 0 || v->kick < 0 || v->call < 0)
		return vio_err_set(err, -errno, "no socket or eventfd: %s", strerror(errno));
	setsockopt(v->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(v->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(v->fd, (struct sockaddr *)&a, sizeof(a)))
		return vio_err_set(err, -errno,
				   "--socket %s: %s; is the vhost-user server running?", path,
				   strerror(errno));
	return 0;
}

int vu_negotiate(struct vu *v, uint64_t wanted, struct vio_err *err)
{
	uint64_t offered = 0, protocol = 0;
	struct message m = {.request = SET_OWNER};
	int rc = vu_get(v, GET_FEATURES, &offered, err);

	if (rc == 0 && (wanted & ~offered))
		return vio_err_set(err, -ENOTSUP,
				   "the vhost-user server offers features 0x%" PRIx64
				   " and not 0x%" PRIx64 "%s",
				   offered, wanted & ~offered,
				   wanted & ~offered & 1ull << 34 ? ": no packed ring" : "");
	if (rc == 0)
		rc = send_message(v, &m, 0, -1, err);
	wanted |= offered & F_PROTOCOL;
	if (rc == 0 && (wanted & F_PROTOCOL)) {
		rc = vu_get(v, GET_PROTOCOL_FEATURES, &protocol, err);
		protocol &= P_REPLY_ACK | P_CONFIG;
		m = (struct message){.request = SET_PROTOCOL_FEATURES, .p.u64 = protocol};
		if (rc == 0)
			rc = send_message(v, &m, sizeof(m.p.u64), -1, err);
		v->config = protocol & P_CONFIG;
		v->acks = protocol & P_REPLY_ACK;
	}
	m = (struct message){.request = SET_FEATURES, .p.u64 = wanted};
	if (rc == 0)
		rc = set(v, &m, sizeof(m.p.u64), -1, err);
	v->features = wanted;
	return rc;
}

int vu_get_config(struct vu *v, void *to, uint32_t len, struct vio_err *err)
{
	struct message m = {.request = GET_CONFIG, .p.config.size = len};
	int rc;

	if (!v->config || len > CONFIG_MAX)
		return vio_err_set(
			err, -ENOTSUP,
			"the vhost-user server does not tell the disk's size (protocol feature CONFIG)");
	rc = send_message(v, &m, CONFIG_HEAD + len, -1, err);
	if (rc == 0)
		rc = vu_answer(v, &m, CONFIG_HEAD + len, err);
	if (rc == 0)
		memcpy(to, m.p.config.region, len);
	return rc;
}

static void *vu_map(struct vu *v, unsigned flags)
{
	void *p;

	v->mem_fd = memfd_create("vhost-user", MFD_CLOEXEC | flags);
	if (v->mem_fd < 0 || ftruncate(v->mem_fd, (off_t)v->mem_len))
		return MAP_FAILED;
	p = mmap(NULL, v->mem_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, v->mem_fd, 0);
	return p;
}

int vu_share(struct vu *v, size_t len, struct vio_err *err)
{
	struct message m = {.request = SET_MEM_TABLE};
	void *p;

	v->mem_len = (len + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	p = vu_map(v, MFD_HUGETLB | MFD_HUGE_2MB);
	v->huge = p != MAP_FAILED;
	if (p == MAP_FAILED) {
		if (v->mem_fd >= 0)
			close(v->mem_fd);
		p = vu_map(v, 0);
	}
	if (p == MAP_FAILED)
		return vio_err_set(err, -errno, "no shared memory of %zu bytes: %s", v->mem_len,
				   strerror(errno));
	v->mem = p;
	memset(v->mem, 0, v->mem_len);
	m.p.table = (struct table){
		.n = 1, .guest = (uintptr_t)p, .size = v->mem_len, .user = (uintptr_t)p};
	return set(v, &m, sizeof(m.p.table), v->mem_fd, err);
}

static int set_state(struct vu *v, uint32_t request, uint32_t num, struct vio_err *err)
{
	struct message m = {.request = request, .p.state = {0, num}};

	return set(v, &m, sizeof(m.p.state), -1, err);
}

static int set_fd(struct vu *v, uint32_t request, int fd, struct vio_err *err)
{
	struct message m = {.request = request, .p.u64 = 0};

	return set(v, &m, sizeof(m.p.u64), fd, err);
}

int vu_start(struct vu *v, unsigned size, const void *desc, const void *driver, const void *device,
	     bool packed, struct vio_err *err)
{
	struct message m = {.request = SET_VRING_ADDR,
			    .p.address = {.desc = (uintptr_t)desc,
					  .used = (uintptr_t)device,
					  .avail = (uintptr_t)driver}};
	int rc = set_state(v, SET_VRING_NUM, size, err);

	if (rc == 0)
		rc = set_state(v, SET_VRING_BASE, packed ? PACKED_WRAP_0 | PACKED_WRAP_0 << 16 : 0,
			       err);
	if (rc == 0)
		rc = set(v, &m, sizeof(m.p.address), -1, err);
	if (rc == 0)
		rc = set_fd(v, SET_VRING_CALL, v->call, err);
	if (rc == 0)
		rc = set_fd(v, SET_VRING_KICK, v->kick, err);
	if (rc == 0 && (v->features & F_PROTOCOL))
		rc = set_state(v, SET_VRING_ENABLE, 1, err);
	return rc;
}

bool vu_gone(const struct vu *v)
{
	struct pollfd p = {.fd = v->fd, .events = POLLIN | POLLRDHUP};

	/* Nothing is due from the server once the ring runs: whatever comes is its end. */
	return poll(&p, 1, 0) > 0;
}

void vu_close(struct vu *v)
{
	const int fds[] = {v->fd, v->kick, v->call, v->mem_fd};

	for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (v->mem)
		munmap(v->mem, v->mem_len);
	v->mem = NULL;
	v->fd = v->kick = v->call = v->mem_fd = -1;
}
