/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phypd: builds a machine from a partition profile and keeps it. This file: options and the start.
 * The profile's format is in `program` below, for phypd --help too.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/option_rows.h"
#include "phyp/phypd/phypd.h"

#define EXIT_USE 2

struct options {
	struct phypd_cfg cfg;
	const char *profile, *cost;
	unsigned guests, server_mib, guest_mib;
	enum phyp_pages pages;
	bool exposure, freeze;
	bool sized; /* one of the options that --profile replaces was given */
};

static int set_pages(const struct vio_option *row, void *to, const char *text, struct vio_err *err)
{
	return phypd_pages_parse(text, to)
		       ? vio_err_set(err, -EINVAL, "--%s %s: must be auto, 4k or 2m", row->name,
				     text)
		       : 0;
}

#define O struct options
static const struct vio_option rows[] = {
	{"socket", "PATH", "control socket; that of a dead phypd is replaced",
	 VIO_TEXT(O, cfg.socket), .def = "/tmp/vio-phyp.sock"},
	{"guests", "N", "guests guest0... with an adapter each, besides the server vios",
	 VIO_NUMBER(O, guests, 1, PHYP_MAX_PARTS - 1), VIO_GIVEN(O, sized), .def = "1"},
	{"server-memory", "MIB", "memory of vios", VIO_NUMBER(O, server_mib, 16, 4096),
	 .multiple = 16, VIO_GIVEN(O, sized), .def = "128"},
	{"guest-memory", "MIB", "memory of each guest", VIO_NUMBER(O, guest_mib, 16, 4096),
	 .multiple = 16, VIO_GIVEN(O, sized), .def = "64"},
	{"pages", "KIND", "auto (2 MiB pages where enough are free), 4k or 2m",
	 VIO_CALL(O, pages, set_pages), VIO_GIVEN(O, sized), .def = "auto"},
	{"profile", "FILE", "partitions and adapters from FILE instead", VIO_TEXT(O, profile)},
	{"cost", "SPEC",
	 "injected costs: free, vmexit, ibmvnic, ibmvnic-indirect, or hcall=NS,tce=NS,rdma=NS (free)",
	 VIO_TEXT(O, cost)},
	{"exposure", NULL,
	 "count how much guest memory TCEs expose, and for how long: each TCE call then costs tens of ns more",
	 VIO_FLAG(O, exposure)},
	{"freeze", NULL,
	 "a DMA that an adapter's window refuses freezes the adapter until its driver resets it",
	 VIO_FLAG(O, freeze)},
	{"all-statistics", NULL,
	 "tell each partition the counters of all, not only its own: for measurements",
	 VIO_FLAG(O, cfg.all_statistics)},
	{"trace", NULL, "say on standard error who comes and goes", VIO_FLAG(O, cfg.trace)},
	VIO_ROW_READY_FD(O, cfg.ready_fd, "partitions can connect"),
	VIO_ROWS_SANDBOX(O, cfg.sandbox),
	{0},
};
#undef O

static const struct vio_program program = {
	.name = "phypd",
	.about =
		"phypd: the hypervisor's control plane: hands partitions their memory, notices their deaths. Ends on SIGTERM or SIGINT.\n\n",
	.tail = "\n"
		"FILE is JSON:\n"
		"  { \"cost\": \"free\",                           optional\n"
		"    \"exposure\": false,                        optional: as --exposure\n"
		"    \"freeze\": false,                          optional: as --freeze\n"
		"    \"partitions\": [ { \"name\": \"vios\",       up to 31 characters\n"
		"                      \"memory_mib\": 256,    a multiple of lmb_mib, at most 256 LMBs\n"
		"                      \"lmb_mib\": 16,        optional: a power of two, 2 or more (16)\n"
		"                      \"pages\": \"auto\",      optional: auto, 4k, 2m\n"
		"                      \"numa_node\": -1,      optional: -1 is the node of the core that starts the partition\n"
		"                      \"uid\": 1000 },        optional: only this user's processes may be it; without, phypd's user's and root's\n"
		"                    { \"name\": \"lpar1\", \"memory_mib\": 64 } ],\n"
		"    \"adapters\": [ { \"server\": \"vios\", \"client\": \"lpar1\",\n"
		"                    \"window_mib\": 0,        optional: each end's DMA window; 0 is twice the end's memory\n"
		"                    \"page_shift\": 12 } ] }  optional: size of a TCE's page, 12, 16 or 21\n",
	.rows = rows,
};

/* 1: --help was given and answered. */
static int parse(int argc, char **argv, struct options *o, struct vio_err *err)
{
	int rc = vio_options_parse(&program, o, argc, argv, err);

	if (rc == 0 && o->profile && o->sized)
		return vio_err_set(
			err, -EINVAL,
			"--profile %s: already says what --guests, --server-memory, --guest-memory and --pages say",
			o->profile);
	return rc;
}

static int make_profile(struct options *o, struct vio_err *err)
{
	struct phyp_profile *p = &o->cfg.profile;

	if (o->profile) {
		int rc = phypd_profile_read(o->profile, p, err);

		if (rc)
			return rc;
	} else {
		phyp_profile_default(p, o->guests, o->server_mib, o->guest_mib);
		for (unsigned i = 0; i < p->n_parts; i++)
			p->part[i].pages = o->pages;
	}
	p->exposure |= o->exposure;
	p->freeze |= o->freeze;
	return o->cost ? phyp_cost_parse(o->cost, &p->cost, err) : 0;
}

/* Pages that are asked for by size and are not there: said now rather than to the first partition. */
static int check_hugepages(const struct phyp_profile *p, struct vio_err *err)
{
	static const char path[] = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
	unsigned long need = 0, have = 0;
	FILE *f;

	for (unsigned i = 0; i < p->n_parts; i++)
		need += p->part[i].pages == PHYP_PAGES_2M ? p->part[i].memory_mib / 2 : 0;
	if (need == 0)
		return 0;
	f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%lu", &have) != 1)
			have = 0;
		fclose(f);
	}
	if (have >= need)
		return 0;
	return vio_err_set(
		err, -ENOMEM,
		"pages 2m: %lu pages of 2 MiB are needed, %lu are free; reserve them (as root: echo %lu > /proc/sys/vm/nr_hugepages), or choose auto or 4k",
		need, have, need);
}

int main(int argc, char **argv)
{
	struct options *o = calloc(1, sizeof(*o));
	struct vio_err err = {{0}};
	int rc;

	if (!o)
		return EXIT_FAILURE;
	/* Who reads its messages may go, and a file that they are in may be full: no end of the machine. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	o->cfg.ready_fd = -1;
	rc = parse(argc, argv, o, &err);
	if (rc == 0)
		rc = make_profile(o, &err);
	if (rc == 0)
		rc = check_hugepages(&o->cfg.profile, &err);
	if (rc == 0)
		rc = phypd_run(&o->cfg, &err);
	free(o);
	if (rc < 0)
		fprintf(stderr, "phypd: %s\n", err.msg);
	return rc < 0 ? EXIT_USE : EXIT_SUCCESS;
}
