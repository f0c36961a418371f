/* SPDX-License-Identifier: BSD-3-Clause */
/* Open a file or block device as a disk. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/store/file.h"
#include "vio/cycles.h"

/* How long to wait for another's lock, ns. */
#define LOCK_PATIENCE_NS 1000000000ull

struct options {
	char path[1024];
	unsigned direct; /* enum vio_file_direct */
	uint32_t block;  /* 0: not said */
	bool ro, lock;
	char id[VIO_ID_LEN]; /* all 0: not said */
};

static int parse(const char *spec, struct options *o, struct vio_err *err)
{
	static const char *const keys[] = {"path", "direct", "ro", "block", "lock", "serial", NULL};
	static const char *const directs[] = {"auto", "on", "off", NULL};
	static const char *const onoff[] = {"off", "on", NULL};
	static const char *const blocks[] = {"512", "4096", "auto", NULL};
	static const uint32_t sizes[] = {512, 4096, 0};
	unsigned v;
	int rc = vio_spec_check("file", spec, keys, err);

	if (rc)
		return rc;
	rc = vio_spec_get(spec, "path", o->path, sizeof(o->path));
	if (rc < 0)
		return vio_err_set(err, -ENAMETOOLONG,
				   "backend file: path is longer than %zu bytes",
				   sizeof(o->path) - 1);
	if (rc == 0 || !o->path[0])
		return vio_err_set(err, -EINVAL, "backend file: which file? Say path=...");
	rc = vio_spec_word("file", spec, "direct", directs, VIO_FILE_AUTO, &o->direct, err);
	if (rc == 0)
		rc = vio_spec_word("file", spec, "ro", onoff, 0, &v, err);
	if (rc)
		return rc;
	o->ro = v == 1;
	rc = vio_spec_word("file", spec, "block", blocks, 2, &v, err);
	if (rc)
		return rc;
	o->block = sizes[v];
	rc = vio_spec_word("file", spec, "lock", onoff, 1, &v, err);
	o->lock = v == 1;
	return rc ? rc : vio_spec_serial("file", spec, o->id, err);
}

static int open_failed(const struct options *o, int rc, struct vio_err *err)
{
	const char *p = o->path;

	switch (rc) {
	case -ENOENT:
		return vio_err_set(
			err, rc,
			"backend file: there is no file '%.200s'; make one, e.g. with truncate -s 1G",
			p);
	case -EACCES:
	case -EPERM:
	case -EROFS:
		return vio_err_set(err, rc, "backend file: no permission to %s '%.200s'%s",
				   o->ro ? "read" : "write", p,
				   o->ro ? "" : "; ro=on serves it read-only if it may be read");
	case -EBUSY:
		return vio_err_set(
			err, rc,
			"backend file: '%.200s' is in use by this system (mounted?); release it first",
			p);
	case -EISDIR:
		return vio_err_set(
			err, -EINVAL,
			"backend file: '%.200s' is a directory; a disk is a file or a block device",
			p);
	default:
		return vio_err_set(err, rc, "backend file: cannot open '%.200s': %s", p,
				   strerror(-rc));
	}
}

/* The kernel opens such a device for writing, and refuses each write. */
static bool is_read_only_device(int fd, const struct stat *st)
{
	int ro = 0;

	return S_ISBLK(st->st_mode) && ioctl(fd, BLKROGET, &ro) == 0 && ro;
}

/* Open for the lifetime of the disk. Never waits: not for a FIFO's writer, not for a tape. */
static int open_file(const struct options *o, int *fd, struct stat *st, struct vio_err *err)
{
	int flags = (o->ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, rc;

	if (stat(o->path, st))
		return open_failed(o, -errno, err);
	if (S_ISDIR(st->st_mode))
		return open_failed(o, -EISDIR, err);
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return vio_err_set(err, -EINVAL,
				   "backend file: '%.200s' is neither a file nor a block device",
				   o->path);
	if (S_ISBLK(st->st_mode) && !o->ro)
		flags |= O_EXCL; /* Linux: EBUSY while it is mounted or part of something */
	*fd = open(o->path, flags);
	if (*fd < 0)
		return open_failed(o, -errno, err);
	/* io_uring would answer EAGAIN in place of waiting, if O_NONBLOCK stayed. */
	rc = fstat(*fd, st) || fcntl(*fd, F_SETFL, 0) ? -errno : 0;
	if (rc == 0 && !o->ro && is_read_only_device(*fd, st))
		rc = -EROFS;
	if (rc) {
		close(*fd);
		*fd = -1;
		return open_failed(o, rc, err);
	}
	return 0;
}

/* Has this very server the file already, for another of its disks? */
static bool is_ours(const struct vio_backend_env *env, const struct stat *st)
{
	for (unsigned i = 0; env && i < env->n_others; i++) {
		const struct vio_backend *be = env->others[i];
		const struct vio_file *f;

		if (!be || be->ops != &vio_backend_file)
			continue;
		f = vio_container_of(be, const struct vio_file, be);
		if (f->dev == st->st_dev && f->ino == st->st_ino)
			return true;
	}
	return false;
}

/* A file system without locks is no reason not to serve. */
static int lock_file(const struct options *o, int fd, const struct stat *st,
		     const struct vio_backend_env *env, struct vio_err *err)
{
	const char *why;

	if (!o->lock || vio_file_lock(fd, !o->ro, &why) != -EBUSY)
		return 0;
	if (is_ours(env, st))
		return vio_err_set(
			err, -EADDRINUSE,
			"backend file: this server has '%.200s' already, for another guest: one --disk with a file of its own for each guest, or the same one read-only for all (ro=on)",
			o->path);
	return vio_err_set(
		err, -EBUSY,
		"backend file: '%.200s' is locked: %s; stop that one%s, or serve it all the same (lock=off)",
		o->path, why, o->ro ? "" : ", serve it read-only in both (ro=on)");
}

static int file_size(const struct options *o, int fd, const struct stat *st, uint64_t *size,
		     struct vio_err *err)
{
	*size = (uint64_t)st->st_size;
	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, size))
		return vio_err_set(err, -errno,
				   "backend file: cannot tell the size of '%.200s': %s", o->path,
				   strerror(errno));
	if (*size < VIO_DISK_UNIT)
		return vio_err_set(
			err, -EINVAL,
			"backend file: '%.200s' has %llu bytes, too small for a disk: it needs 512 or more (truncate -s SIZE makes it larger)",
			o->path, (unsigned long long)*size);
	return 0;
}

/* Can this process have rings at all? Better said now than when the guest's driver starts. */
static int check_rings(struct vio_err *err)
{
	struct io_uring ring;
	int rc = vio_file_ring(8, &ring);

	if (rc == -ENOMEM)
		return vio_err_set(
			err, rc,
			"backend file: no memory for an io_uring ring; the limit on locked memory is too low (raise ulimit -l)");
	if (rc)
		return vio_err_set(
			err, rc,
			"backend file: io_uring is not available (%s); allow it (sysctl kernel.io_uring_disabled=0, the container's seccomp profile) or use the nbd backend",
			strerror(-rc));
	io_uring_queue_exit(&ring);
	return 0;
}

static void describe(struct vio_file *f, const struct options *o, const struct vio_file_mode *m,
		     uint64_t cut)
{
	size_t n = strlen(o->path);
	char note[48] = "";

	if (cut)
		snprintf(note, sizeof(note), ", last %u bytes left out", (unsigned)cut);
	snprintf(f->be.what, sizeof(f->be.what), "file %s%s, %s%s%s%s", n > 60 ? "..." : "",
		 o->path + (n > 60 ? n - 57 : 0), m->direct ? "O_DIRECT" : "page cache", m->why,
		 o->ro ? ", read-only" : "", note);
}

/* The descriptor is open and locked: how to serve it. *sector: what a block device works in, 0 for a file. */
static int choose(const struct vio_file *f, const struct options *o, const struct stat *st,
		  uint64_t size, struct vio_file_dio *dio, int *sector, struct vio_file_mode *mode,
		  struct vio_err *err)
{
	uint32_t block = o->block;
	int rc;

	*sector = 0;
	if (S_ISBLK(st->st_mode) && ioctl(f->fd, BLKSSZGET, sector))
		return vio_err_set(err, -errno,
				   "backend file: cannot tell the sector size of '%.200s': %s",
				   o->path, strerror(errno));
	if (!block)
		block = (uint32_t)*sector;
	*dio = vio_file_find_dio(f->fd, S_ISREG(st->st_mode));
	rc = vio_file_choose(o->direct, block, *dio, size, mode, err);
	if (rc)
		return rc;
	if (size < mode->block_size)
		return vio_err_set(
			err, -EINVAL,
			"backend file: '%.200s' has %llu bytes, too small for one block of %u",
			o->path, (unsigned long long)size, mode->block_size);
	return check_rings(err);
}

/* Find out all about it. */
static int set_up(struct vio_file *f, const struct options *o, const struct stat *st,
		  const struct vio_backend_env *env, struct vio_err *err)
{
	const char *format = vio_file_format(f->fd);
	struct vio_file_dio dio;
	struct vio_file_mode mode;
	uint64_t size;
	int sector, rc = file_size(o, f->fd, st, &size, err);
	bool whole_sectors;

	if (rc == 0)
		rc = choose(f, o, st, size, &dio, &sector, &mode, err);
	if (rc)
		return rc;
	/*
	 * Smaller blocks than a device's sectors go through the page cache, but it can't forget
	 * half a sector.
	 */
	whole_sectors = mode.block_size >= (uint32_t)sector;
	f->be = (struct vio_backend){
		.ops = &vio_backend_file,
		.size = size - size % mode.block_size,
		.block_size = mode.block_size,
		.read_only = o->ro,
		.touches_data = true,
		.can_discard = !o->ro && whole_sectors && vio_file_can_punch(f->fd, st, size),
		.can_zero = !o->ro,
		.can_flush = true,
	};
	f->be.can_unmap = f->be.can_discard;
	f->be.physical = vio_file_physical(f->fd, st);
	f->regular = S_ISREG(st->st_mode);
	f->no_zero = whole_sectors ? 0 : 1u << VIO_FILE_PUNCH_HOLE | 1u << VIO_FILE_ZERO_RANGE;
	f->direct = mode.direct;
	f->mem_align = dio.mem_align;
	if (f->direct && fcntl(f->fd, F_SETFL, O_DIRECT))
		return vio_err_set(err, -errno, "backend file: O_DIRECT on '%.200s': %s", o->path,
				   strerror(errno));
	f->dev = st->st_dev;
	f->ino = st->st_ino;
	vio_backend_make_id(&f->be, o->id, vio_file_hash(f->fd, st, &f->be.by_name));
	f->be.by_name &= !o->id[0];
	/* A copy has another id, or a serial says what is to count as the same. */
	vio_backend_identify(&f->be, f->be.id, sizeof(f->be.id));
	describe(f, o, &mode, size % mode.block_size);
	if (env) {
		f->be.say = env->say;
		f->be.say_ctx = env->say_ctx;
	}
	if (format)
		vio_backend_say(
			&f->be,
			"begins as a %s image, and is served as it lies: the guest sees the image and not the disk in it; for that there is qemu-nbd and --disk nbd",
			format);
	return 0;
}

static int file_look_size(struct vio_backend *be, uint64_t *size)
{
	const struct vio_file *f = vio_container_of(be, struct vio_file, be);
	struct stat st;

	if (fstat(f->fd, &st))
		return -errno;
	*size = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(f->fd, BLKGETSIZE64, size))
		return -errno;
	*size -= *size % be->block_size;
	return 0;
}

static void file_close(struct vio_backend *be)
{
	struct vio_file *f = vio_container_of(be, struct vio_file, be);

	if (f->zeroes)
		munmap(f->zeroes, VIO_FILE_ZEROES);
	if (f->fd >= 0) {
		/* The kernel takes rings apart later, and they hold the file; nobody need wait for that. */
		vio_file_unlock(f->fd);
		close(f->fd);
	}
	free(f);
}

/*
 * A server that was killed leaves rings that the kernel first takes apart, requests in flight
 * included. Until then the file is rightly locked: wait for it, but not for a server that lives.
 */
static int open_and_lock(const struct options *o, const struct vio_backend_env *env, int *fd,
			 struct stat *st, struct vio_err *err)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000000};
	uint64_t end = vio_now_ns() + LOCK_PATIENCE_NS;
	int rc;

	for (;;) {
		rc = open_file(o, fd, st, err);
		if (rc == 0) {
			rc = lock_file(o, *fd, st, env, err);
			if (rc == 0)
				return 0;
			close(*fd);
			*fd = -1;
		}
		if (rc != -EBUSY || vio_now_ns() >= end)
			return rc;
		nanosleep(&pause, NULL);
	}
}

static int file_open(const char *spec, const struct vio_backend_env *env, struct vio_backend **out,
		     struct vio_err *err)
{
	struct options o = {.direct = VIO_FILE_AUTO};
	struct vio_file *f;
	struct stat st;
	void *zeroes;
	int rc = parse(spec, &o, err);

	if (rc)
		return rc;
	f = calloc(1, sizeof(*f));
	zeroes = mmap(NULL, VIO_FILE_ZEROES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f && zeroes != MAP_FAILED) {
		f->zeroes = zeroes;
		f->fd = -1;
		rc = open_and_lock(&o, env, &f->fd, &st, err);
		if (rc == 0)
			rc = set_up(f, &o, &st, env, err);
		if (rc)
			file_close(&f->be);
		else
			*out = &f->be;
		return rc;
	}
	if (zeroes != MAP_FAILED)
		munmap(zeroes, VIO_FILE_ZEROES);
	free(f);
	return vio_err_set(err, -ENOMEM, "backend file: no memory");
}

const struct vio_backend_ops vio_backend_file = {
	.name = "file",
	.usage =
		"file,path=P[,direct=auto|on|off][,ro=on][,block=512|4096][,lock=off][,serial=ID]    a file or block device, io_uring",
	.open = file_open,
	.close = file_close,
	.queue_open = vio_file_queue_open,
	.queue_close = vio_file_queue_close,
	.look_size = file_look_size,
	.window_add = vio_file_window_add,
	.window_del = vio_file_window_del,
	.submit = vio_file_submit,
	.poll = vio_file_poll,
};
