/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who else has an image open, as QEMU's image locking keeps it (its block driver for files): a byte
 * for each thing that a program does to an image, and one for each that it can't bear others to do.
 * All locks are for reading; what would be in the way is asked for as a lock for writing. So each
 * sees the other, in both directions: vios, QEMU, qemu-nbd, and what else keeps to this.
 */
#include <fcntl.h>

#include "server/store/file.h"

#define DOES_BASE   100
#define FORBID_BASE 200

/* QEMU's numbers; it has others that no disk of ours needs. */
enum { CONSISTENT_READ = 0, WRITE = 1, RESIZE = 3, N_PERM = 4 };

static int lock_byte(int fd, int type, off_t at, int how)
{
	struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

	if (fcntl(fd, how, &l))
		return -errno;
	return how == F_OFD_GETLK && l.l_type != F_UNLCK ? -EAGAIN : 0;
}

int vio_file_lock(int fd, bool write, const char **why)
{
	const unsigned does = 1u << CONSISTENT_READ | (write ? 1u << WRITE : 0),
		       forbids = 1u << WRITE | 1u << RESIZE;
	int rc = 0;

	*why = "another program has locked all of it";
	for (unsigned i = 0; rc == 0 && i < N_PERM; i++) {
		if (does >> i & 1)
			rc = lock_byte(fd, F_RDLCK, DOES_BASE + i, F_OFD_SETLK);
		if (rc == 0 && forbids >> i & 1)
			rc = lock_byte(fd, F_RDLCK, FORBID_BASE + i, F_OFD_SETLK);
	}
	/* After ours are there: of two that start at once, one at least sees the other. */
	for (unsigned i = 0; rc == 0 && i < N_PERM; i++) {
		if (forbids >> i & 1) {
			*why = "another program has it open for writing";
			rc = lock_byte(fd, F_WRLCK, DOES_BASE + i, F_OFD_GETLK);
		}
		if (rc == 0 && does >> i & 1) {
			*why = "another program has it open and wants nobody to write";
			rc = lock_byte(fd, F_WRLCK, FORBID_BASE + i, F_OFD_GETLK);
		}
	}
	if (rc == 0)
		return 0;
	vio_file_unlock(fd);
	return rc == -EAGAIN || rc == -EACCES ? -EBUSY : -ENOLCK;
}

void vio_file_unlock(int fd)
{
	struct flock l = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	fcntl(fd, F_OFD_SETLK, &l);
}
