/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk that completes every request at once and moves no data: what is left is the cost of the
 * way there.
 */
#include <stdlib.h>
#include <string.h>

#include "server/store/priv.h"

static void null_close(struct vio_backend *be)
{
	free(be);
}

static int null_open(const char *spec, const struct vio_backend_env *env, struct vio_backend **out,
		     struct vio_err *err)
{
	static const char *const keys[] = {"size", "short", "serial", NULL};
	struct vio_backend *be;
	uint64_t size;
	uint32_t block;
	char id[VIO_ID_LEN];
	int rc = vio_spec_check("null", spec, keys, err);

	(void)env;
	if (rc == 0)
		rc = vio_spec_size("null", spec, 1ull << 30, &size, err);
	if (rc == 0)
		rc = vio_spec_short("null", spec, &block, err);
	if (rc == 0)
		rc = vio_spec_serial("null", spec, id, err);
	if (rc)
		return rc;
	be = calloc(1, sizeof(*be));
	if (!be)
		return vio_err_set(err, -ENOMEM, "backend null: no memory");
	*be = (struct vio_backend){
		.ops = &vio_backend_null,
		.size = size,
		.block_size = block,
		.can_discard = true,
		.can_zero = true,
		.can_flush = true,
	};
	be->by_name = !id[0];
	if (!id[0])
		memcpy(id, "vio-null", strlen("vio-null"));
	vio_backend_make_id(be, id, 0);
	vio_backend_identify(be, be->id, sizeof(be->id));
	snprintf(be->what, sizeof(be->what), "null, %llu bytes, touches no data%s",
		 (unsigned long long)size,
		 block < VIO_DISK_UNIT ? ", short requests (not VIRTIO)" : "");
	*out = be;
	return 0;
}

static int null_queue_open(struct vio_backend *be, unsigned depth, struct vio_backend_queue **out,
			   struct vio_err *err)
{
	struct vio_backend_queue *bq = calloc(1, sizeof(*bq));

	(void)depth;
	if (!bq)
		return vio_err_set(err, -ENOMEM, "backend null: no memory");
	bq->be = be;
	*out = bq;
	return 0;
}

static void null_queue_close(struct vio_backend_queue *bq)
{
	free(bq);
}

static unsigned null_submit(struct vio_backend_queue *bq, struct vio_io *const r[], unsigned n,
			    struct vio_io *done[])
{
	(void)bq;
	for (unsigned i = 0; i < n; i++) {
		r[i]->result = 0;
		done[i] = r[i];
	}
	return n;
}

static unsigned null_poll(struct vio_backend_queue *bq, struct vio_io *done[], unsigned max)
{
	(void)bq;
	(void)done;
	(void)max;
	return 0;
}

const struct vio_backend_ops vio_backend_null = {
	.name = "null",
	.usage =
		"null[,size=1G][,short=on][,serial=ID]             completes at once, touches no data",
	.open = null_open,
	.close = null_close,
	.queue_open = null_queue_open,
	.queue_close = null_queue_close,
	.submit = null_submit,
	.poll = null_poll,
};
