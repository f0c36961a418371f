/* SPDX-License-Identifier: BSD-3-Clause */
/* vio-9p: a guest partition that looks into a shared folder, and carries a file of it to or from this program's standard output or input. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/dev/9p/p9.h"
#include "common/option_rows.h"
#include "guest/prog/common.h"

#define PIECE   65536u
#define FILE_ID 1u /* fids of our own */
#define DIR_ID  2u
#define ENTRIES 64u

static volatile sig_atomic_t
	stop_now; /* set by the signal handler: the one mutable global, as main's */

static void nine_signal(int sig)
{
	(void)sig;
	stop_now = 1;
}

struct opts {
	struct vio_common c;
	const char *aname, *list, *get, *put;
};

#define O struct opts
static const struct vio_option rows[] = {
	VIO_ROWS(O, c, vio_rows_machine),
	VIO_ROWS(O, c, vio_rows_design),
	VIO_ROWS(O, c, vio_rows_spin),
	VIO_ROW_IDLE(O, c, "never"),
	VIO_LINES("work; one of --list, --get and --put\n"),
	{"aname", "PATH", "which of its server's folders it is: with diod the folder's path there",
	 VIO_TEXT(O, aname), .def = ""},
	{"list", "PATH", "the names in a folder of the shared one, / is that itself",
	 VIO_TEXT(O, list)},
	{"get", "PATH", "a file's bytes to standard output", VIO_TEXT(O, get)},
	{"put", "PATH", "standard input to a file, which is made or replaced", VIO_TEXT(O, put)},
	VIO_ROW_INFO(O, c.info_only),
	VIO_ROW_TRACE(O, c.trace),
	VIO_ROW_FAULT(O, c.fault),
	VIO_ROWS(O, c, vio_rows_end),
	{0},
};
#undef O

static const struct vio_program program = {
	.name = "vio-9p",
	.about =
		"vio-9p: a guest partition that looks into a shared folder, reads and writes files of it\n\n",
	.tail = "Exit code: 0 done, 1 failed, 2 wrong use.\n",
	.version = VIO_VERSION,
	.rows = rows,
};

static int call_failed(struct vio_err *err, int64_t rc, const char *what, const char *path)
{
	return vio_err_set(err, (int)rc, "%s %s: %s", what, path, strerror((int)-rc));
}

static int nine_list(struct vio_9p_fs *fs, const char *path, struct vio_err *err)
{
	static const uint32_t folder = O_RDONLY;
	struct vio_9p_entry *e = calloc(ENTRIES, sizeof(*e));
	uint64_t at = 0;
	int rc = e ? vio_9p_walk(fs, VIO_9P_ROOT, DIR_ID, path) : -ENOMEM;

	if (rc == 0)
		rc = vio_9p_lopen(fs, DIR_ID, folder);
	while (rc >= 0 && !stop_now && (rc = vio_9p_readdir(fs, DIR_ID, at, e, ENTRIES)) > 0) {
		for (int i = 0; i < rc; i++)
			puts(e[i].name);
		at = e[rc - 1].next;
	}
	free(e);
	return rc < 0 ? call_failed(err, rc, "list", path) : 0;
}

static int nine_get(struct vio_9p_fs *fs, const char *path, uint8_t *buf, struct vio_err *err)
{
	uint64_t at = 0;
	int64_t n = vio_9p_walk(fs, VIO_9P_ROOT, FILE_ID, path);

	if (n == 0)
		n = vio_9p_lopen(fs, FILE_ID, O_RDONLY);
	while (n >= 0 && !stop_now && (n = vio_9p_read(fs, FILE_ID, at, buf, PIECE)) > 0) {
		if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
			return call_failed(err, -errno, "write", "standard output");
		at += (uint64_t)n;
	}
	return n < 0 ? call_failed(err, n, "get", path) : 0;
}

/* FILE_ID becomes the file, empty and open. */
static int nine_make(struct vio_9p_fs *fs, const char *path)
{
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	char folder[1024] = "";
	int rc = vio_9p_walk(fs, VIO_9P_ROOT, FILE_ID, path);

	if (rc == 0)
		return vio_9p_lopen(fs, FILE_ID, O_WRONLY | O_TRUNC);
	if (rc != -ENOENT)
		return rc;
	if ((size_t)(name - path) >= sizeof(folder))
		return -ENAMETOOLONG;
	memcpy(folder, path, (size_t)(name - path));
	rc = vio_9p_walk(fs, VIO_9P_ROOT, FILE_ID, folder);
	return rc ? rc : vio_9p_create(fs, FILE_ID, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
}

static int nine_put(struct vio_9p_fs *fs, const char *path, uint8_t *buf, struct vio_err *err)
{
	uint64_t at = 0;
	int64_t rc = nine_make(fs, path);

	while (rc >= 0 && !stop_now) {
		size_t n = fread(buf, 1, PIECE, stdin);

		if (n == 0)
			break;
		rc = vio_9p_write(fs, FILE_ID, at, buf, (uint32_t)n);
		at += n;
	}
	if (rc >= 0)
		rc = vio_9p_clunk(fs, FILE_ID);
	return rc < 0 ? call_failed(err, rc, "put", path) : 0;
}

static int nine_work(struct vio_9p_fs *fs, const struct opts *o, struct vio_err *err)
{
	uint8_t *buf = malloc(PIECE);
	int rc = buf ? vio_9p_mount(fs, o->aname) : -ENOMEM;

	if (rc)
		rc = call_failed(err, rc, "mount", fs->name);
	if (rc == 0 && o->list)
		rc = nine_list(fs, o->list, err);
	if (rc == 0 && o->put)
		rc = nine_put(fs, o->put, buf, err);
	if (rc == 0 && o->get)
		rc = nine_get(fs, o->get, buf, err);
	free(buf);
	return rc == 0 && stop_now ? vio_err_set(err, -EINTR, "ended by a signal") : rc;
}

static int nine_run(struct phyp_part *part, void *ctx, struct vio_err *err)
{
	struct opts *o = ctx;
	const struct vio_buffered_cfg cfg = {
		.transport = o->c.transport,
		.waits = {o->c.spin_ns, o->c.idle_ns, vio_front_one_core()},
		.copybreak = o->c.copybreak,
		.defer_batch = o->c.defer_batch,
		.quota_pages = o->c.quota_pages};
	struct vio_9p_fs *fs;
	struct vio_mem mem;
	int rc;

	vio_mem_init(&mem, part);
	rc = vio_9p_open(part, &mem, &cfg, &fs, err);
	if (rc)
		return rc;
	if (o->c.info_only)
		fprintf(stderr, "vio-9p: protocol %u, arm %s, queue of %u, mount tag %s\n",
			fs->d->info.version, fs->d->info.arm.name, fs->d->info.queue_size,
			fs->name);
	else
		rc = nine_work(fs, o, err);
	vio_9p_close(fs);
	return rc;
}

int main(int argc, char **argv)
{
	struct vio_err err = {{0}};
	struct opts o = {0};
	int rc;

	vio_common_defaults(&o.c);
	rc = vio_common_parse(&program, &o, &o.c, argc, argv, &err);
	if (rc == 0 && !o.c.info_only && !o.list + !o.get + !o.put != 2)
		rc = vio_err_set(&err, -EINVAL, "one of --list, --get and --put is needed");
	return vio_prog_main(&o.c, "vio-9p", rc, nine_signal, nine_run, &o, &err);
}
