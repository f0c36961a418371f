/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the file store share. After cmocka.h. */
#ifndef VIO_TEST_SERVER_FILE_TEST_H
#define VIO_TEST_SERVER_FILE_TEST_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "be_rig.h"
#include "server/store/file.h"

#define DISK (8u << 20)

static inline const char *image(const struct rig *g, char *path, size_t len, off_t size)
{
	int fd;

	snprintf(path, len, "%s/disk.img", g->dir);
	fd = open(path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
	return path;
}

static inline struct vio_file_queue *queue(struct rig *g)
{
	return vio_file_queue_of(g->bq);
}

/*
 * The memory of a few requests as a window: the others go the other way. A person without root may
 * pin 8 MiB.
 */
#define WINDOW (4ull * RIG_PIECE)
static inline void register_memory(struct rig *g)
{
	g->be->ops->window_add(g->bq, g->mem, WINDOW, true);
	assert_int_equal(queue(g)->n_fixed, 1);
}

/* Open with O_DIRECT, or say aloud that this machine's /var/tmp can't. */
static inline void open_direct(struct rig *g, const char *path)
{
	struct vio_err err = {""};
	struct vio_backend *be;
	char spec[200];

	snprintf(spec, sizeof(spec), "file,path=%s,direct=on", path);
	if (vio_backend_open(spec, NULL, &be, &err)) {
		print_message("/var/tmp takes no O_DIRECT: %s\n", err.msg);
		unlink(path);
		rig_stop(g);
		skip();
	}
	vio_backend_close(be);
	rig_open(g, "%s", spec);
	assert_non_null(strstr(g->be->what, "O_DIRECT"));
}

/* Is the file what the disk says it is? By another way than the backend's. */
static inline void file_equals_disk(struct rig *g, const char *path)
{
	uint8_t *buf = malloc(VIO_MAX_DATA);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_non_null(buf);
	for (uint64_t off = 0; off < g->be->size; off += VIO_MAX_DATA) {
		assert_int_equal(rig_one(g, VIO_IO_READ, off, VIO_MAX_DATA), 0);
		assert_int_equal(pread(fd, buf, VIO_MAX_DATA, (off_t)off), VIO_MAX_DATA);
		assert_memory_equal(buf, rig_piece(g, 0), VIO_MAX_DATA);
	}
	close(fd);
	free(buf);
}

#endif
