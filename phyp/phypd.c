/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phypd: builds a machine from a partition profile and keeps it. This file: options and the start.
 * The profile's format is in `help` below, for phypd --help too.
 */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "phyp/phypd.h"
#include "vio/number.h"

#define EXIT_USE 2

static const char help[] =
	"usage: phypd [--socket PATH] [--profile FILE | --guests N --server-memory MIB --guest-memory MIB --pages KIND]\n"
	"             [--cost SPEC] [--exposure] [--trace] [--ready-fd N]\n"
	"\n"
	"The hypervisor's control plane: hands partitions their memory, notices their deaths. Ends on SIGTERM or SIGINT.\n"
	"\n"
	"  --socket PATH        control socket (default /tmp/vio-phyp.sock); that of a dead phypd is replaced\n"
	"  --guests N           guests guest0... with an adapter each, besides the server vios: 1 to 15 (default 1)\n"
	"  --server-memory MIB  memory of vios, a multiple of 16 (default 128)\n"
	"  --guest-memory MIB   memory of each guest, a multiple of 16 (default 64)\n"
	"  --pages KIND         auto (2 MiB pages where enough are free), 4k or 2m (default auto)\n"
	"  --profile FILE       partitions and adapters from FILE instead\n"
	"  --cost SPEC          injected costs: free (default), vmexit, ibmvnic, ibmvnic-indirect, or hcall=NS,tce=NS,rdma=NS\n"
	"  --exposure           count how much guest memory TCEs expose, and for how long: each TCE call then costs tens of ns more\n"
	"  --trace              say on standard error who comes and goes\n"
	"  --ready-fd N         write a line to descriptor N when partitions can connect\n"
	"  --help               this text\n"
	"\n"
	"FILE is JSON:\n"
	"  { \"cost\": \"free\",                           optional\n"
	"    \"exposure\": false,                        optional: as --exposure\n"
	"    \"partitions\": [ { \"name\": \"vios\",       up to 31 characters\n"
	"                      \"memory_mib\": 256,    a multiple of lmb_mib, at most 256 LMBs\n"
	"                      \"lmb_mib\": 16,        optional: a power of two, 2 or more (16)\n"
	"                      \"pages\": \"auto\",      optional: auto, 4k, 2m\n"
	"                      \"numa_node\": -1 },    optional: -1 is the node of the core that starts the partition\n"
	"                    { \"name\": \"lpar1\", \"memory_mib\": 64 } ],\n"
	"    \"adapters\": [ { \"server\": \"vios\", \"client\": \"lpar1\",\n"
	"                    \"window_mib\": 0,        optional: each end's DMA window; 0 is twice the end's memory\n"
	"                    \"page_shift\": 12 } ] }  optional: size of a TCE's page, 12, 16 or 21\n";

struct options {
	struct phypd_cfg cfg;
	const char *profile, *cost;
	unsigned guests, server_mib, guest_mib;
	enum phyp_pages pages;
	bool exposure;
	bool sized; /* one of the options that --profile replaces was given */
};

static int number(const char *name, const char *text, unsigned min, unsigned max, unsigned *value,
		  struct vio_err *err)
{
	uint64_t v = 0;
	int rc = vio_option_number(name, text, min, max, &v, err);

	*value = rc ? *value : (unsigned)v;
	return rc;
}

static int option(struct options *o, int c, const char *name, const char *arg, struct vio_err *err)
{
	unsigned fd;
	int rc;

	switch (c) {
	case 's':
		o->cfg.socket = arg;
		return 0;
	case 'p':
		o->profile = arg;
		return 0;
	case 'c':
		o->cost = arg;
		return 0;
	case 'e':
		o->exposure = true;
		return 0;
	case 't':
		o->cfg.trace = true;
		return 0;
	case 'r':
		rc = number(name, arg, 0, 1u << 20, &fd, err);
		o->cfg.ready_fd = rc ? -1 : (int)fd;
		return rc;
	default:
		break;
	}
	o->sized = true;
	switch (c) {
	case 'g':
		return number(name, arg, 1, PHYP_MAX_PARTS - 1, &o->guests, err);
	case 'S':
		return number(name, arg, 16, 4096, &o->server_mib, err);
	case 'G':
		return number(name, arg, 16, 4096, &o->guest_mib, err);
	default:
		if (phypd_pages_parse(arg, &o->pages))
			return vio_err_set(err, -EINVAL, "--pages %s: must be auto, 4k or 2m", arg);
		return 0;
	}
}

/* 1: --help was given and answered. */
static int parse(int argc, char **argv, struct options *o, struct vio_err *err)
{
	static const struct option longs[] = {
		{"socket", 1, 0, 's'},        {"profile", 1, 0, 'p'},      {"guests", 1, 0, 'g'},
		{"server-memory", 1, 0, 'S'}, {"guest-memory", 1, 0, 'G'}, {"pages", 1, 0, 'P'},
		{"cost", 1, 0, 'c'},          {"exposure", 0, 0, 'e'},     {"trace", 0, 0, 't'},
		{"ready-fd", 1, 0, 'r'},      {"help", 0, 0, 'h'},         {0},
	};
	int c, i = 0, rc = 0;

	opterr = 0;
	while (rc == 0 && (c = getopt_long(argc, argv, ":h", longs, &i)) != -1) {
		if (c == ':')
			return vio_err_set(err, -EINVAL, "%s: a value is missing",
					   argv[optind - 1]);
		if (c == '?')
			return vio_err_set(err, -EINVAL,
					   "%s: unknown option; phypd --help lists them",
					   argv[optind - 1]);
		if (c == 'h') {
			fputs(help, stdout);
			return 1;
		}
		rc = option(o, c, longs[i].name, optarg, err);
	}
	if (rc == 0 && optind < argc)
		return vio_err_set(err, -EINVAL, "%s: unexpected; phypd takes options only",
				   argv[optind]);
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
		if (o->server_mib % 16 || o->guest_mib % 16)
			return vio_err_set(err, -EINVAL, "%s %u: must be a multiple of 16",
					   o->server_mib % 16 ? "--server-memory"
							      : "--guest-memory",
					   o->server_mib % 16 ? o->server_mib : o->guest_mib);
		phyp_profile_default(p, o->guests, o->server_mib, o->guest_mib);
		for (unsigned i = 0; i < p->n_parts; i++)
			p->part[i].pages = o->pages;
	}
	p->exposure |= o->exposure;
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
	o->cfg.socket = "/tmp/vio-phyp.sock";
	o->cfg.ready_fd = -1;
	o->guests = 1;
	o->server_mib = 128;
	o->guest_mib = 64;
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
