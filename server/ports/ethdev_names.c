/* SPDX-License-Identifier: BSD-3-Clause */
/* What devices are called. */
#include <stdio.h>
#include <string.h>

#include "server/ports/ethdev.h"

bool vio_uplink_is_pci(const char *spec, char *addr, size_t len)
{
	unsigned v[4];
	int end = 0;

	if (sscanf(spec, "%4x:%2x:%2x.%1x%n", &v[0], &v[1], &v[2], &v[3], &end) != 4 ||
	    (spec[end] && spec[end] != ','))
		return false;
	snprintf(addr, len, "%.*s", end, spec);
	return true;
}

/* DPDK would take the second for the first. */
static bool same_device(const char *a, const char *b)
{
	size_t n = strcspn(a, ",");

	return n == strcspn(b, ",") && !strncmp(a, b, n);
}

/* Number i of the ones and the others together. */
static const char *nth(const char *const uplink[], unsigned n_uplinks, const char *const vdev[],
		       unsigned i)
{
	return i < n_uplinks ? uplink[i] : vdev[i - n_uplinks];
}

int vio_uplinks_differ(const char *const uplink[], unsigned n_uplinks, const char *const vdev[],
		       unsigned n_vdevs, struct vio_err *err)
{
	for (unsigned i = 1; i < n_uplinks + n_vdevs; i++) {
		for (unsigned k = 0; k < i; k++) {
			const char *a = nth(uplink, n_uplinks, vdev, i),
				   *b = nth(uplink, n_uplinks, vdev, k);

			if (same_device(a, b))
				return vio_err_set(
					err, -EINVAL,
					"%s and %s are one device to DPDK: give the second another name, e.g. the next number behind net_tap",
					b, a);
		}
	}
	return 0;
}
