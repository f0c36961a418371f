/* SPDX-License-Identifier: BSD-3-Clause */
/* What a file or block device can do, and which one it is. */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "server/store/file.h"

#define PAGE 4096u

/* Without statx's answer: does a read of so many bytes at 0 succeed? It changes nothing. */
static struct vio_file_dio probe_dio(int fd)
{
	struct vio_file_dio dio = {0, 0};
	void *buf;

	if (posix_memalign(&buf, PAGE, PAGE))
		return dio;
	for (uint32_t n = 512; n <= PAGE && !dio.offset_align; n *= 8)
		if (pread(fd, buf, n, 0) >= 0)
			dio = (struct vio_file_dio){n, n};
	free(buf);
	return dio;
}

/* What O_DIRECT asks for on this file. Leaves the descriptor without O_DIRECT. */
struct vio_file_dio vio_file_find_dio(int fd, bool regular)
{
	struct vio_file_dio dio = {0, 0};
	struct statfs fs;
	struct statx sx;

	/*
	 * These take the flag and then use the page cache, which is where the file is. (Of a device
	 * it tells /dev's.)
	 */
	if (regular && fstatfs(fd, &fs) == 0 &&
	    (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
		return dio;
	if (fcntl(fd, F_SETFL, O_DIRECT))
		return dio;
	memset(&sx, 0, sizeof(sx));
	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 && sx.stx_mask & STATX_DIOALIGN)
		dio = (struct vio_file_dio){sx.stx_dio_offset_align, sx.stx_dio_mem_align};
	else
		dio = probe_dio(fd);
	/* What isn't a power of two, or is larger than the aligned buffers can be, is no use. */
	if (dio.offset_align & (dio.offset_align - 1) || dio.mem_align & (dio.mem_align - 1) ||
	    dio.offset_align > 65536 || dio.mem_align > PAGE || !dio.mem_align)
		dio.offset_align = 0;
	fcntl(fd, F_SETFL, 0);
	return dio;
}

int vio_file_choose(enum vio_file_direct want, uint32_t block, struct vio_file_dio dio,
		    uint64_t size, struct vio_file_mode *mode, struct vio_err *err)
{
	*mode = (struct vio_file_mode){false, block ? block : VIO_DISK_UNIT, ""};
	/* A guest's partition table counts in these blocks: where the file lies must not change them. */
	if (!block && want == VIO_FILE_AUTO)
		block = VIO_DISK_UNIT;
	if (want == VIO_FILE_OFF)
		return 0;
	if (!dio.offset_align) {
		mode->why = " (its file system has no O_DIRECT)";
		if (want == VIO_FILE_ON)
			return vio_err_set(
				err, -EINVAL,
				"backend file: direct=on, but the file system does not take O_DIRECT; use direct=auto or direct=off");
		return 0;
	}
	if (block && block < dio.offset_align) {
		mode->why = " (O_DIRECT needs larger blocks here, see block=)";
		if (want == VIO_FILE_ON)
			return vio_err_set(
				err, -EINVAL,
				"backend file: O_DIRECT needs blocks of %u bytes here, and block=%u was asked for; leave block out, or use direct=off",
				dio.offset_align, block);
		return 0;
	}
	if (want == VIO_FILE_AUTO && size % dio.offset_align) {
		mode->why = " (O_DIRECT would cut off its last, incomplete block)";
		return 0;
	}
	mode->direct = true;
	if (mode->block_size < dio.offset_align)
		mode->block_size = dio.offset_align;
	return 0;
}

static unsigned long long sysfs_number(const struct stat *st, const char *where, const char *name)
{
	char path[128];
	unsigned long long v = 0;
	FILE *fp;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(st->st_rdev),
		 minor(st->st_rdev), where, name);
	fp = fopen(path, "re");
	if (!fp)
		return 0;
	if (fscanf(fp, "%llu", &v) != 1)
		v = 0;
	fclose(fp);
	return v;
}

/*
 * Can holes be punched? A file is asked where it has no bytes: behind its end, or where it is a hole
 * already. A block device has no such place; the kernel says what it can (a partition's limits are
 * those of the disk above it). Only a guess for the whole: what a place refuses later is answered then.
 */
bool vio_file_can_punch(int fd, const struct stat *st, uint64_t size)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	off_t hole;

	if (S_ISBLK(st->st_mode))
		return sysfs_number(st, "queue", "discard_max_bytes") > 0 ||
		       sysfs_number(st, "../queue", "discard_max_bytes") > 0;
	if (size < INT64_MAX - 2 * PAGE &&
	    fallocate(fd, mode, (off_t)VIO_ALIGN_UP(size, PAGE), PAGE) == 0)
		return true;
	hole = lseek(fd, 0, SEEK_HOLE);
	return hole >= 0 && (uint64_t)hole < size && lseek(fd, hole, SEEK_DATA) != hole &&
	       fallocate(fd, mode, hole, VIO_DISK_UNIT) == 0;
}

/* What tells a file from one that had its inode before: when it was made, or which use of the inode it is. */
static uint64_t hash_use(int fd, uint64_t h, bool *by_name)
{
	union {
		struct file_handle h;
		uint8_t room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} at = {.h.handle_bytes = MAX_HANDLE_SZ};
	struct statx sx;
	int mount;

	*by_name = false;
	memset(&sx, 0, sizeof(sx));
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &sx) == 0 && sx.stx_mask & STATX_BTIME)
		return vio_hash(h, &sx.stx_btime, sizeof(sx.stx_btime));
	if (name_to_handle_at(fd, "", &at.h, &mount, AT_EMPTY_PATH) == 0)
		return vio_hash(h, at.h.f_handle, at.h.handle_bytes);
	*by_name = true;
	return h;
}

/* One for each file, the same whenever it is served. */
uint64_t vio_file_hash(int fd, const struct stat *st, bool *by_name)
{
	uint64_t h = vio_hash(VIO_HASH_START, &st->st_dev, sizeof(st->st_dev));

	if (S_ISBLK(st->st_mode)) {
		unsigned long long seq = sysfs_number(st, ".", "diskseq");

		if (!seq) /* a partition */
			seq = sysfs_number(st, "..", "diskseq");
		h = vio_hash(h, &st->st_rdev, sizeof(st->st_rdev));
		*by_name = seq == 0;
		return vio_hash(h, &seq, sizeof(seq));
	}
	return hash_use(fd, vio_hash(h, &st->st_ino, sizeof(st->st_ino)), by_name);
}

const char *vio_file_format(int fd)
{
	static const struct {
		const char *name, *magic;
		unsigned at, len;
	} known[] = {
		{"qcow2", "QFI\xfb", 0, 4},
		{"qed", "QED\0", 0, 4},
		{"vmdk", "KDMV", 0, 4},
		{"vmdk", "COWD", 0, 4},
		{"vmdk", "# Disk DescriptorFile", 0, 21},
		{"vhdx", "vhdxfile", 0, 8},
		{"vpc", "conectix", 0, 8},
		{"vdi", "\x7f\x10\xda\xbe", 0x40, 4},
	};
	char head[512];

	if (pread(fd, head, sizeof(head), 0) != sizeof(head))
		return NULL;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(known); i++)
		if (memcmp(head + known[i].at, known[i].magic, known[i].len) == 0)
			return known[i].name;
	return NULL;
}

uint32_t vio_file_physical(int fd, const struct stat *st)
{
	unsigned n = (unsigned)st->st_blksize;

	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKPBSZGET, &n))
		return 0;
	return n & (n - 1) || n > 65536 ? 0 : n;
}
