/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "bench/limits/options.h"

/* A decimal CPU number, ending at `end`. A bound far above any machine keeps later arithmetic small. */
static bool cpu_number(const char **text, char end, unsigned *out)
{
	char *stop;
	unsigned long v;

	if (**text < '0' || **text > '9')
		return false;
	errno = 0;
	v = strtoul(*text, &stop, 10);
	if (errno || *stop != end || v > 65535)
		return false;
	*out = (unsigned)v;
	*text = stop + 1;
	return true;
}

int bench_set_cores(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	struct bench_core_option *o = to;
	const char *p = text;

	if (!cpu_number(&p, ',', &o->guest) || !cpu_number(&p, '\0', &o->server))
		return vio_err_set(err, -EINVAL, "--%s %s: must be two CPU numbers, as in --%s 2,3",
				   row->name, text, row->name);
	o->given = true;
	return 0;
}

const struct vio_option bench_rows[] = {
	{"cores", "G,S",
	 "CPU of the guest, CPU of the server (chosen by hwloc, see bench-topology)",
	 VIO_CALL(struct bench_common, cores, bench_set_cores)},
	{"seconds", "S", "total time, about, from 0.2 to 600",
	 VIO_REAL(struct bench_common, seconds, 0.2, 600), .def = "6"},
	VIO_ROW_JSON(struct bench_common, json, "-"),
	{0},
};

int bench_choose_cores(const struct bench_core_option *o, struct bench_cores *cores, bool *two,
		       struct vio_err *err)
{
	hwloc_topology_t topo;
	hwloc_bitmap_t allowed;
	struct vio_err why = {""};
	int rc = bench_topology_load(&topo, &allowed, err);

	if (rc)
		return rc;
	if (o->given)
		rc = bench_topology_describe(topo, allowed, o->guest, o->server, cores, &why);
	else
		rc = bench_topology_choose(topo, allowed, cores, &why);
	bench_topology_free(topo, allowed);
	if (rc < 0)
		return vio_err_set(err, rc, "%s%.300s", o->given ? "--cores: " : "", why.msg);
	*two = rc == 0;
	return 0;
}

int bench_write_json(json_t *j, FILE *f, const char *path, struct vio_err *err)
{
	int rc;

	if (!j)
		return vio_err_set(err, -ENOMEM, "no memory for the JSON");
	errno = 0;
	rc = json_dumpf(j, f, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
	json_decref(j);
	if (rc || fputc('\n', f) == EOF || fflush(f))
		return vio_err_set(err, -EIO, "can't write the JSON to %s: %s", path,
				   strerror(errno ? errno : EIO));
	return 0;
}
