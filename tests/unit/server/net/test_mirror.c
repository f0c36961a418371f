/* SPDX-License-Identifier: BSD-3-Clause */
/* A port's frames in a pcap file: each as it passed, once, and never a reason for a frame to wait. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <pcap/pcap.h>

#include <cmocka.h>

#include "net_packet.h"
#include "server/switch/mirror.h"

static char dir[64], file[100];

/* This test is the switch's lcore. */
static int call(void *ctx, vio_control_fn *fn, void *arg, struct vio_err *err)
{
	(void)ctx;
	return fn(arg, err);
}

static void set(struct nw *w, const char *why, const char *fmt, ...)
{
	const struct vio_port_set s = {.sw = w->sw, .call = call};
	struct vio_err err = {""};
	char params[5000];
	va_list ap;
	int rc;

	va_start(ap, fmt);
	vsnprintf(params, sizeof(params), fmt, ap);
	va_end(ap);
	rc = vio_mirror_set(&s, params, &err);
	if (rc < 0 && (!why || !strstr(err.msg, why)))
		fail_msg("%.200s: \"%s\"", params, err.msg);
	if (rc == 0 && why)
		fail_msg("%.200s: taken", params);
}

static int up(void **state, const char *const spec[NW_GUESTS], const struct nw_arm *arm)
{
	struct nw *w;

	strcpy(dir, "/tmp/vio-mirror-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/a.pcap", dir);
	nw_setup_with(state, spec);
	w = *state;
	for (unsigned i = 0; i < 2; i++) {
		nw_up(w, &w->g[i], arm, NW_ALL);
		nw_post(&w->g[i], 0, 100, 4096);
	}
	return 0;
}

static int plain(void **state)
{
	static const char *const spec[NW_GUESTS] = {"", "", ""};

	return up(state, spec, NW_ZERO_COPY);
}

static int down(void **state)
{
	unlink(file);
	rmdir(dir);
	return nw_teardown(state);
}

/* Frame i of the file: its bytes in in[], its length; -1: there are no more. */
static int next(pcap_t *p, struct pcap_pkthdr **h)
{
	const uint8_t *bytes;

	if (pcap_next_ex(p, h, &bytes) != 1)
		return -1;
	assert_int_equal((*h)->caplen, (*h)->len);
	memcpy(in, bytes, (*h)->len);
	return (int)(*h)->len;
}

static pcap_t *opened(void)
{
	char why[PCAP_ERRBUF_SIZE];
	pcap_t *p = pcap_open_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, why);

	if (!p)
		fail_msg("%s", why);
	assert_int_equal(pcap_datalink(p), DLT_EN10MB);
	return p;
}

static void every_frame_is_in_the_file_as_it_passed(void **state)
{
	static const char *const spec[NW_GUESTS] = {"trunk=10,vlan=1", "trunk=10,vlan=1", ""};
	static const char *const how[] = {"in", "out", "both"};

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		for (unsigned d = 0; d < VIO_ARRAY_SIZE(how); d++) {
			struct pcap_pkthdr *h;
			struct timespec now, last = {0, 0};
			struct nw *w;
			pcap_t *p;
			void *s;

			up(&s, spec, &nw_arms[a]);
			w = s;
			set(w, NULL, "1,file=%s,direction=%s", file, how[d]);
			for (unsigned i = 0; i < 40; i++) { /* to port 1 and from it, in turn */
				nw_frame(out, 60 + 30 * i, i % 2 ? 0 : 1, i % 2, i);
				if (i % 3 == 0) {
					vio_put_be16(out + 12, 0x8100);
					vio_put_be16(out + 14, 10);
				}
				nw_send(&w->g[i % 2], out, 60 + 30 * i);
				nw_run(w);
			}
			set(w, NULL, "1,off");
			nw_send(&w->g[0], out, 60); /* after its end */
			nw_run(w);
			clock_gettime(CLOCK_REALTIME, &now);
			p = opened();
			for (unsigned i = 0; i < 40; i++) {
				if (d != 2 && i % 2 != (d == 0))
					continue;
				assert_int_equal(next(p, &h), 60 + 30 * i);
				nw_frame(out, 60 + 30 * i, i % 2 ? 0 : 1, i % 2, i);
				if (i % 3 == 0) {
					vio_put_be16(out + 12, 0x8100);
					vio_put_be16(out + 14, 10);
				}
				assert_memory_equal(in, out, 60 + 30 * i);
				assert_in_range(h->ts.tv_sec, now.tv_sec - 60, now.tv_sec + 1);
				assert_in_range(h->ts.tv_usec, 0, 999999999);
				assert_true(h->ts.tv_sec >= last.tv_sec);
				last.tv_sec = h->ts.tv_sec;
			}
			assert_int_equal(next(p, &h), -1);
			pcap_close(p);
			assert_int_equal(w->g[1].net->port.stats.mirrored, d == 2 ? 40 : 20);
			assert_int_equal(w->g[1].net->port.stats.mirror_lost, 0);
			down(&s);
		}
	}
}

/* As many as there is room for; what is not in it is in a counter, and all of it reached its receiver. */
static void frames_that_find_no_room_are_counted_and_arrive_all_the_same(void **state)
{
	static const struct shape tcp = {"IPv4", 6, false, 0};
	struct nw *w = *state;
	struct pcap_pkthdr *h;
	unsigned n = 0;
	pcap_t *p;

	set(w, NULL, "0,file=%s,direction=in", file);
	for (unsigned i = 0; i < 400; i++) { /* three times what the ring holds */
		struct virtio_net_hdr_v1 hdr = wants(&tcp, 1400);

		nw_send_cut(&w->g[0], 0, &hdr, out, packet(&tcp, 60000), 0);
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[1], 0, in, &hdr), 60054);
		nw_post(&w->g[1], 0, 15, 4096);
	}
	set(w, NULL, "0,off");
	p = opened();
	while (next(p, &h) == 60054)
		n++;
	pcap_close(p);
	assert_true(n > 0);
	assert_int_equal(w->g[0].net->port.stats.mirrored, n);
	assert_int_equal(n + w->g[0].net->port.stats.mirror_lost, 400);
}

static void a_file_is_no_longer_than_its_limit_and_whole(void **state)
{
	struct nw *w = *state;
	struct pcap_pkthdr *h;
	unsigned n = 0;
	struct stat st;
	pcap_t *p;

	set(w, NULL, "0,file=%s,limit=5000", file);
	for (unsigned i = 0; i < 50; i++) {
		nw_frame(out, 1000, 1, 0, i);
		nw_send(&w->g[0], out, 1000);
		nw_run(w);
	}
	set(w, NULL, "0,off");
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_size, 24 + 4 * (16 + 1000));
	assert_int_equal(st.st_mode & 0777, 0600);
	p = opened();
	while (next(p, &h) == 1000)
		n++;
	pcap_close(p);
	assert_int_equal(n, 4);
}

static char heard[256];

static void hear(void *ctx, const char *fmt, ...)
{
	va_list ap;

	(void)ctx;
	va_start(ap, fmt);
	vsnprintf(heard, sizeof(heard), fmt, ap);
	va_end(ap);
}

/* The limit on a file's size stands for a file system that is full: what is there is written, the rest is not. */
static void
a_file_that_can_not_be_written_ends_with_a_whole_frame_and_the_reason_is_said(void **state)
{
	struct rlimit had, now;
	struct nw *w = *state;
	struct pcap_pkthdr *h;
	unsigned n = 0;
	pcap_t *p;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &had), 0);
	signal(SIGXFSZ, SIG_IGN);
	vio_switch_set_say(w->sw, hear, NULL);
	set(w, NULL, "0,file=%s", file);
	now = (struct rlimit){.rlim_cur = 150000, .rlim_max = had.rlim_max};
	setrlimit(RLIMIT_FSIZE, &now);
	for (unsigned i = 0; i < 300 || !heard[0]; i++) {
		nw_frame(out, 1000, 1, 0, i);
		nw_send(&w->g[0], out, 1000);
		nw_run(w);
		vio_switch_poll(w->sw, (i + 1) * 1000000000ull);
		if (i >= 300)
			usleep(1000);
	}
	set(w, NULL, "0,off");
	setrlimit(RLIMIT_FSIZE, &had);
	assert_non_null(strstr(heard, "File too large"));
	p = opened();
	while (next(p, &h) == 1000)
		n++;
	assert_string_equal(pcap_geterr(p), ""); /* not the half of a frame */
	pcap_close(p);
	assert_in_range(n, (150000 - 65536 - 24) / 1016, (150000 - 24) / 1016);
}

static void what_can_not_be_mirrored_is_refused_with_the_reason(void **state)
{
	struct nw *w = *state;
	struct stat st;
	FILE *f;

	set(w, "wants PORT", "file=x");
	set(w, "no port", "9,file=/tmp/x");
	set(w, "wants PORT,file", "0");
	set(w, "wants PORT,file", "0,direction=in");
	set(w, "wants PORT,file", "0,off,file=%s", file);
	set(w, "in, out or both", "0,file=%s,direction=up", file);
	set(w, "1024 at least", "0,file=%s,limit=10", file);
	set(w, "1024 at least", "0,file=%s,limit=-5000", file);
	set(w, "no such key", "0,file=%s,colour=red", file);
	set(w, "no such key", "0,file=");
	set(w, "KEY=VALUE", "0,file");
	set(w, "No such file", "0,file=%s/none/a.pcap", dir);
	set(w, "is not mirrored", "0,off");
	set(w, "characters", "0,file=%04999d", 0);
	f = fopen(file, "w");
	assert_non_null(f);
	fputs("mine", f);
	fclose(f);
	set(w, "not written over", "0,file=%s", file);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_size, 4);
	unlink(file);
	set(w, NULL, "0,file=%s", file);
	set(w, "already", "0,file=%s2", file);
	snprintf((char *)in, sizeof(in), "%s2", file);
	assert_int_equal(access((char *)in, F_OK), -1);
	set(w, NULL, "0,off");
	set(w, NULL, "1,file=%s3", file);
	vio_mirror_stop_all(w->sw);
	assert_null(w->g[1].net->port.mirror_in);
	snprintf((char *)in, sizeof(in), "%s3", file);
	assert_int_equal(unlink((char *)in), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_frame_is_in_the_file_as_it_passed),
		cmocka_unit_test_setup_teardown(
			frames_that_find_no_room_are_counted_and_arrive_all_the_same, plain, down),
		cmocka_unit_test_setup_teardown(a_file_is_no_longer_than_its_limit_and_whole, plain,
						down),
		cmocka_unit_test_setup_teardown(
			a_file_that_can_not_be_written_ends_with_a_whole_frame_and_the_reason_is_said,
			plain, down),
		cmocka_unit_test_setup_teardown(what_can_not_be_mirrored_is_refused_with_the_reason,
						plain, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
