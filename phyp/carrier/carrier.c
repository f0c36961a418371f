/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of carriers, and the choice among them by text. */
#include "phyp/carrier/carrier.h"

#include <string.h>

/* The first that has open() is meant when no row is named. */
static const struct hv_carrier *const hv_carriers[] = {
	&hv_carrier_local,
	&hv_carrier_phypd,
	&hv_carrier_mailbox,
};

int phyp_connect(const char *where, const char *partition, struct phyp_part **out,
		 struct vio_err *err)
{
	const struct hv_carrier *usual = NULL;

	for (unsigned i = 0; i < VIO_ARRAY_SIZE(hv_carriers); i++) {
		const struct hv_carrier *c = hv_carriers[i];
		size_t n = strlen(c->name);

		if (!c->open)
			continue;
		if (!strncmp(where, c->name, n) && where[n] == ':')
			return c->open(where + n + 1, partition, out, err);
		if (!usual)
			usual = c;
	}
	return usual->open(where, partition, out, err);
}
