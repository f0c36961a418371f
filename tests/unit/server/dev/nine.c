/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/server/dev/nine.h"
#include "vio/cycles.h"

#define PATIENCE_NS 20000000000ull

static const struct {
	enum vio_ring_access ring;
	enum vio_payload payload;
} nine_ways[NINE_WAYS] = {
	{VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT},
	{VIO_RING_COPY, VIO_PAYLOAD_RDMA},
};

void nine_patient(const struct nine *t, const char *what)
{
	if (vio_now_ns() > t->end)
		fail_msg("waited in vain for %s", what);
}

static void serve(struct nine *t)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};

	strcpy(to.sun_path, t->path);
	t->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(t->listener, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(listen(t->listener, 4), 0);
}

void nine_queue(struct nine *t, unsigned way)
{
	struct w_cfg cfg = {.ring = nine_ways[way].ring,
			    .payload = nine_ways[way].payload,
			    .notify = VIO_NOTIFY_POLL,
			    .size = NINE_SIZE,
			    .event_idx = true};
	struct vio_err err = {""};

	w_queue(t->w, &cfg);
	assert_int_equal(vio_kind_9p.queue_open(t->dev, NINE_SIZE, &t->w->q->dq, &err), 0);
	t->w->q->dev = vio_kind_9p.queue;
	vio_kind_9p.queue_on(t->w->q);
}

void nine_up(struct nine *t, struct world *w, unsigned way)
{
	const struct vio_dev_env env = {0};
	struct vio_err err = {""};
	char spec[160];

	*t = (struct nine){.w = w, .peer = -1, .listener = -1, .end = vio_now_ns() + PATIENCE_NS};
	strcpy(t->dir, "/tmp/vio-9p-XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	snprintf(t->path, sizeof(t->path), "%s/s", t->dir);
	snprintf(spec, sizeof(spec), "tag=share,socket=%s", t->path);
	if (vio_kind_9p.open(spec, &env, &t->dev, &err))
		fail_msg("%s", err.msg);
	nine_queue(t, way);
}

void nine_down(struct nine *t)
{
	vio_kind_9p.queue_off(t->w->q);
	vio_kind_9p.queue_close(t->w->q->dq);
	vio_kind_9p.close(t->dev);
	if (t->peer >= 0)
		close(t->peer);
	if (t->listener >= 0)
		close(t->listener);
	unlink(t->path);
	rmdir(t->dir);
}

void nine_chain(struct nine *t, unsigned head, uint8_t type, uint16_t tag, uint32_t size,
		uint32_t there, uint32_t room)
{
	uint8_t *m = t->w->gmem + NINE_AT(head);

	memset(m, 0xaa, NINE_PLACE);
	memcpy(m, &size, 4);
	m[4] = type;
	memcpy(m + 5, &tag, 2);
	for (uint32_t i = VIO_9P_HDR; i < there && i < NINE_PLACE / 2; i++)
		m[i] = (uint8_t)(i + tag);
	w_desc(t->w, head, NINE_AT(head), there, room ? VRING_DESC_F_NEXT : 0, head + 1);
	if (room)
		w_desc(t->w, head + 1, NINE_ROOM(head), room, VRING_DESC_F_WRITE, 0);
	w_avail(t->w, (uint16_t)head);
}

void nine_ask(struct nine *t, unsigned head, uint8_t type, uint16_t tag, uint32_t size)
{
	nine_chain(t, head, type, tag, size, size, NINE_PLACE / 2);
	w_publish(t->w);
	vio_squeue_poll(t->w->q);
}

void nine_back(struct nine *t, unsigned head, uint32_t bytes)
{
	uint32_t id, len;

	while (!w_used(t->w, &id, &len)) {
		vio_squeue_poll(t->w->q);
		nine_patient(t, "a chain");
	}
	assert_int_equal(id, head);
	assert_int_equal(len, bytes);
	assert_int_equal(t->w->gmem[NINE_ROOM(head) + bytes], 0xaa); /* and not a byte more */
}

void nine_back_with_error(struct nine *t, unsigned head, uint16_t tag, uint32_t why)
{
	const uint8_t *m = t->w->gmem + NINE_ROOM(head);

	nine_back(t, head, VIO_9P_ERROR);
	assert_int_equal(m[0] | m[1] << 8, VIO_9P_ERROR);
	assert_int_equal(m[4], VIO_9P_RLERROR);
	assert_int_equal(m[5] | m[6] << 8, tag);
	assert_int_equal(m[7] | m[8] << 8, why);
}

void nine_read(struct nine *t, void *to, size_t len)
{
	uint8_t *p = to;

	while (len > 0) {
		ssize_t n = recv(t->peer, p, len, MSG_DONTWAIT);

		vio_squeue_poll(t->w->q);
		nine_patient(t, "a message at the server");
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
		assert_true(n != 0);
	}
}

void nine_gets(struct nine *t, uint8_t type, uint16_t tag, uint32_t size)
{
	uint8_t m[VIO_9P_MSIZE];
	uint32_t is;

	nine_read(t, m, size);
	memcpy(&is, m, 4);
	assert_int_equal(is, size);
	assert_int_equal(m[4], type);
	assert_int_equal(m[5] | m[6] << 8, tag);
	for (uint32_t i = VIO_9P_HDR; i < size && type == NINE_T; i++)
		assert_int_equal(m[i], (uint8_t)(i + tag));
}

void nine_says(struct nine *t, uint8_t type, uint16_t tag, uint32_t size, uint32_t there)
{
	uint8_t m[VIO_9P_MSIZE] = {0};

	memcpy(m, &size, 4);
	m[4] = type;
	memcpy(m + 5, &tag, 2);
	for (uint32_t i = VIO_9P_HDR; i < there; i++)
		m[i] = (uint8_t)(i + tag);
	assert_int_equal(send(t->peer, m, there, MSG_NOSIGNAL), there);
}

void nine_meet(struct nine *t, unsigned head)
{
	if (t->listener < 0)
		serve(t);
	if (t->peer >= 0)
		close(t->peer);
	nine_ask(t, head, VIO_9P_TVERSION, VIO_9P_NO_TAG, 21);
	while ((t->peer = accept4(t->listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
		nine_patient(t, "a connection");
	nine_gets(t, VIO_9P_TVERSION, VIO_9P_NO_TAG, 21);
	nine_says(t, VIO_9P_TVERSION + 1, VIO_9P_NO_TAG, 21, 21);
	nine_back(t, head, 21);
}
