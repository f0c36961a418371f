/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-9p front end: the few calls of 9P2000.L that mount a shared folder, look into it, and read and write files.
 * One thread; a call waits for its answer, reading and writing have several messages out.
 *
 * Calls return -errno: what the server said, or -EIO when the device will not come back, -EPROTO for an answer that is
 * none, -ETIMEDOUT after vio_9p_fs.patience_ns. After a server's death every call fails until vio_9p_mount().
 */
#ifndef VIO_GUEST_DEV_9P_H
#define VIO_GUEST_DEV_9P_H

#include "guest/dev/buffered.h"

#define VIO_9P_MESSAGE 4096u /* the longest one, bytes */
#define VIO_9P_ROOT    0u    /* fid of the mounted folder */
#define VIO_9P_NAME    256u  /* bytes, the zero at the end included */

struct vio_9p_fs {
	struct vio_buffered *d;
	char name[VIO_9P_NAME]; /* the mount tag */
	uint32_t msize;         /* as agreed in vio_9p_mount() */
	uint16_t tag;           /* of the last message */
	uint64_t patience_ns;   /* for one answer; UINT64_MAX: no end */
};

struct vio_9p_entry {
	uint64_t next; /* offset to go on at */
	uint8_t type;  /* d_type */
	char name[VIO_9P_NAME];
};

/* As vio_buffered_open(). */
int vio_9p_open(struct phyp_part *part, struct vio_mem *mem, const struct vio_buffered_cfg *cfg,
		struct vio_9p_fs **out, struct vio_err *err);
void vio_9p_close(struct vio_9p_fs *fs);

/* Begin a session: version, and attach the folder, which its server knows as `aname`, as VIO_9P_ROOT. */
int vio_9p_mount(struct vio_9p_fs *fs, const char *aname);
/* `path` from fid `from` on ("a/b"; "": the same place), as fid `to`. -ENAMETOOLONG: more than 16 names, or too long. */
int vio_9p_walk(struct vio_9p_fs *fs, uint32_t from, uint32_t to, const char *path);
/* flags, mode: Linux's. create: a new file in the folder `fid`, which then is the file, open. */
int vio_9p_lopen(struct vio_9p_fs *fs, uint32_t fid, uint32_t flags);
int vio_9p_create(struct vio_9p_fs *fs, uint32_t fid, const char *name, uint32_t flags,
		  uint32_t mode);
int vio_9p_mkdir(struct vio_9p_fs *fs, uint32_t fid, const char *name, uint32_t mode);
int vio_9p_clunk(struct vio_9p_fs *fs, uint32_t fid);
/* Bytes read: fewer than len at the end of the file only. Bytes written: all. */
int64_t vio_9p_read(struct vio_9p_fs *fs, uint32_t fid, uint64_t at, void *to, uint32_t len);
int64_t vio_9p_write(struct vio_9p_fs *fs, uint32_t fid, uint64_t at, const void *from,
		     uint32_t len);
/* Entries of an open folder from offset `at` on (0: all), `max` at most: how many, 0: no more. */
int vio_9p_readdir(struct vio_9p_fs *fs, uint32_t fid, uint64_t at, struct vio_9p_entry *to,
		   unsigned max);

/*
 * One message of the caller's own, of a type that 9P has an answer to: fmt is b, w, d, q (1 to 8 bytes), s (a string). Its tag is chosen.
 * *body: the answer behind its header, valid until the next call; its bytes, or -errno.
 */
int vio_9p_call(struct vio_9p_fs *fs, const uint8_t **body, uint8_t type, const char *fmt, ...);

#endif
