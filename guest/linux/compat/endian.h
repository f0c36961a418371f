/* SPDX-License-Identifier: GPL-2.0 */
/* glibc's <endian.h> for the shared headers, in terms of the kernel's byte order helpers. */
#ifndef _VIO_COMPAT_ENDIAN_H
#define _VIO_COMPAT_ENDIAN_H

#include <asm/byteorder.h>

#define htobe16(x) ((__force uint16_t)cpu_to_be16(x))
#define htobe32(x) ((__force uint32_t)cpu_to_be32(x))
#define htobe64(x) ((__force uint64_t)cpu_to_be64(x))
#define be16toh(x) be16_to_cpu((__force __be16)(x))
#define be32toh(x) be32_to_cpu((__force __be32)(x))
#define be64toh(x) be64_to_cpu((__force __be64)(x))
#define le16toh(x) le16_to_cpu((__force __le16)(x))
#define le32toh(x) le32_to_cpu((__force __le32)(x))
#define le64toh(x) le64_to_cpu((__force __le64)(x))

#endif
