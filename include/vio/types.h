/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0 */
/*
 * One struct type per address space and per byte order.
 *
 * A number is an address only together with the space it counts in. A guest-logical address
 * (`struct gla`) names a byte of a partition's own memory; an I/O bus address (`struct ioba`) names
 * a byte of a DMA window and means something only with the liobn of that window. Neither can be
 * dereferenced or added to a pointer: the one way from a gla to a pointer is phyp_mem(), the one
 * way from an ioba is a TCE table or an accepted window.
 *
 * Bytes that another partition reads have a declared order: PAPR structures are big-endian (`struct
 * be64`), virtio structures little-endian (VIRTIO 1.2 section 2.6; the kernel's __virtio16 etc. are
 * read with vio_le16()).
 */
#ifndef VIO_TYPES_H
#define VIO_TYPES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest-logical address: byte offset in a partition's logical address space. 0 is valid memory. */
struct gla {
	uint64_t v;
};

/* I/O bus address inside the DMA window of one liobn. */
struct ioba {
	uint64_t v;
};

/* Big-endian storage, for PAPR and for this project's CRQ messages and device header. */
struct be16 {
	uint16_t raw;
};
struct be32 {
	uint32_t raw;
};
struct be64 {
	uint64_t raw;
};

/* A number as it is stored, and back. Any thread, data path. */
static inline struct be16 vio_to_be16(uint16_t v)
{
	return (struct be16){htobe16(v)};
}
static inline struct be32 vio_to_be32(uint32_t v)
{
	return (struct be32){htobe32(v)};
}
static inline struct be64 vio_to_be64(uint64_t v)
{
	return (struct be64){htobe64(v)};
}
static inline uint16_t vio_from_be16(struct be16 b)
{
	return be16toh(b.raw);
}
static inline uint32_t vio_from_be32(struct be32 b)
{
	return be32toh(b.raw);
}
static inline uint64_t vio_from_be64(struct be64 b)
{
	return be64toh(b.raw);
}

/*
 * The kernel's virtio structs carry __virtio16/32/64 and __le16/32/64, plain integers to a C
 * compiler. These convert a value that has already been loaded (see vio/atomics.h for the load);
 * they are their own inverse.
 */
static inline uint16_t vio_le16(uint16_t v)
{
	return le16toh(v);
}
static inline uint32_t vio_le32(uint32_t v)
{
	return le32toh(v);
}
static inline uint64_t vio_le64(uint64_t v)
{
	return le64toh(v);
}

/* IOBA arithmetic stays inside the type. */
static inline struct ioba ioba_add(struct ioba a, uint64_t n)
{
	return (struct ioba){a.v + n};
}
static inline struct gla gla_add(struct gla a, uint64_t n)
{
	return (struct gla){a.v + n};
}

/* What structures are laid out by: on every processor that this runs on no line is shorter. */
#define VIO_CACHE_LINE 64
/* So far apart is what different cores write: POWER's lines are 128 bytes. */
#if defined(__powerpc64__)
#define VIO_APART 128
#else
#define VIO_APART VIO_CACHE_LINE
#endif

#define VIO_ARRAY_SIZE(a)         (sizeof(a) / sizeof((a)[0]))
#define VIO_ALIGN_UP(x, a)        (((x) + ((__typeof__(x))(a)-1)) & ~((__typeof__(x))(a)-1))
#define vio_likely(x)             __builtin_expect(!!(x), 1)
#define vio_unlikely(x)           __builtin_expect(!!(x), 0)
#define vio_container_of(p, t, m) ((t *)((char *)(p)-offsetof(t, m)))
/* For a const expression and for run time both: is [off, off+len) inside [0, size)? Cannot overflow. */
static inline bool vio_range_ok(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

#endif
