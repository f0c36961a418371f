/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Uplinks over DPDK's own software ports, without hugepages or root: lending, copying, software
 * offload; rte_hash.
 */
#include "tests/unit/server/net/uplink_wire.h"

static uint8_t out[ROOM], in[ROOM];

/* ------------------------------------------------------------- a port with its wire in hand ---- */

/* out[] comes in, with these flags and tags in its mbuf. */
static void wire_put(struct wire *r, uint32_t len, uint64_t flags, uint16_t inner, uint16_t outer)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(r->pool);

	assert_non_null(m);
	memcpy(rte_pktmbuf_append(m, (uint16_t)len), out, len);
	m->ol_flags |= flags;
	m->vlan_tci = inner;
	m->vlan_tci_outer = outer;
	assert_int_equal(rte_ring_enqueue(r->rx, m), 0);
}

/*
 * Some drivers (af_packet) take tags off unasked and say so in the mbuf: the VLAN is the frame's
 * all the same.
 */
static void tag_that_the_driver_took_off_still_decides_the_vlan(void **state)
{
	const char *const spec[NW_GUESTS] = {"vlan=10", "vlan=20", "trunk=10+20"};
	const uint64_t one = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED,
		       two = one | RTE_MBUF_F_RX_QINQ | RTE_MBUF_F_RX_QINQ_STRIPPED;
	struct virtio_net_hdr_v1 h;
	struct wire r;
	struct nw *w;

	nw_setup_with(state, spec);
	w = *state;
	wire_up(w, &r, ",trunk=10+20,vlan=20");
	for (unsigned i = 0; i < NW_GUESTS; i++) {
		nw_up(w, &w->g[i], NW_ZERO_COPY, NW_ALL);
		nw_post(&w->g[i], 0, 20, 2048);
	}
	for (uint32_t len = 14; len < 200; len += 31) {
		nw_frame(out, len, 77, 99, len);
		wire_put(&r, len, one, 0x600a, 0); /* priority 3 */
		nw_run(w);
		assert_int_equal(nw_recv(&w->g[0], 0, in, &h), len);
		assert_memory_equal(in, out, len);
		assert_int_equal(nw_recv(&w->g[1], 0, in, &h), -1); /* the native VLAN's */
		assert_int_equal(nw_recv(&w->g[2], 0, in, &h), len + 4);
		assert_int_equal(vio_get_be16(in + 12), 0x8100);
		assert_int_equal(vio_get_be16(in + 14), 0x600a);
		assert_memory_equal(in, out, 12);
		assert_memory_equal(in + 16, out + 12, len - 12);
	}
	/* A VLAN that the port is not in. */
	wire_put(&r, 100, one, 11, 0);
	nw_run(w);
	assert_int_equal(r.port->stats.drop[VIO_DROP_VLAN], 1);
	/* Two tags: the outer one decides, and nobody gets the frame as one of the inner one's VLAN. */
	wire_put(&r, 100, two, 20, 10);
	nw_run(w);
	assert_int_equal(nw_recv(&w->g[0], 0, in, &h), -1);
	assert_int_equal(nw_recv(&w->g[1], 0, in, &h), -1);
	assert_int_equal(nw_recv(&w->g[2], 0, in, &h), 108);
	assert_int_equal(vio_get_be16(in + 14), 10);
	assert_int_equal(vio_get_be16(in + 18), 20);
	assert_memory_equal(in + 20, out + 12, 88);
	nw_teardown(state);
	wire_down(&r);
}

/* ------------------------------------------------------------------------------- a loop ---- */

/*
 * net_ring is a loop: what leaves comes in again. So a frame of guest 0 reaches guest 1 twice, the
 * second time from an mbuf whose body is guest 0's memory.
 */
static void frame_leaves_in_place_comes_back_and_is_returned(void **state)
{
	static const uint32_t sizes[] = {14, 60, 273, 274, 1514};

	(void)state;
	for (unsigned a = 0; a < nw_n_arms; a++) {
		struct virtio_net_hdr_v1 h;
		struct vio_uplink *u;
		struct nw *w;
		void *s;

		nw_setup(&s);
		w = s;
		u = uplink(w, "net_ring0");
		pair_up(w, &nw_arms[a]);
		for (unsigned i = 0; i < 40; i++) {
			uint32_t len = sizes[i % VIO_ARRAY_SIZE(sizes)], id, used;

			nw_frame(out, len, 77, 0, i);
			nw_send_cut(&w->g[0], 0, NULL, out, len, i % 26);
			nw_run(w);
			for (unsigned k = 0; k < 2; k++) {
				assert_int_equal(nw_recv(&w->g[1], 0, in, &h), len);
				assert_memory_equal(in, out, len);
			}
			assert_true(
				nw_used(&w->g[0], 1, &id, &used)); /* the port has let go of it */
			assert_int_equal(used, 0);
		}
		assert_int_equal(vio_uplink_port(u)->stats.in_place,
				 16); /* those of 274 and 1514 bytes */
		assert_int_equal(vio_uplink_port(u)->stats.out_frames, 40);
		nw_teardown(&s);
		assert_int_equal(vio_uplink_lent(u), 0);
		vio_uplink_destroy(u);
	}
}

/*
 * A port that never takes anything out of its ring fills up: drops are counted, chains come back,
 * nobody waits.
 */
static void full_port_drops_and_returns(void **state)
{
	struct vio_uplink *u;
	struct vio_port *p;
	struct nw *w;
	uint32_t id, used;

	nw_setup(state);
	w = *state;
	u = uplink(w, "net_memif0,role=server,socket=vio-test-memif,socket-abstract=yes");
	p = vio_uplink_port(u);
	/* Nobody is at its other end: link down. */
	assert_false(p->up);
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	for (unsigned i = 0; i < 5; i++) {
		nw_frame(out, 1000, 77, 0, i);
		nw_send(&w->g[0], out, 1000);
	}
	nw_run(w);
	assert_int_equal(p->stats.drop[VIO_DROP_LINK_DOWN], 5);
	for (unsigned i = 0; i < 5; i++)
		assert_true(nw_used(&w->g[0], 1, &id, &used));
	/* Link up by force: the port takes nothing. */
	vio_switch_link(p, true);
	for (unsigned i = 0; i < 5; i++)
		nw_send(&w->g[0], out, 1000);
	w->now = 0; /* no tick looks at the link */
	nw_run(w);
	assert_int_equal(p->stats.drop[VIO_DROP_NO_BUFFERS], 5);
	for (unsigned i = 0; i < 5; i++)
		assert_true(nw_used(&w->g[0], 1, &id, &used));
	assert_int_equal(vio_uplink_lent(u), 0);
	nw_teardown(state);
	vio_uplink_destroy(u);
}

/* ------------------------------------------------------------------------------ a pcap ---- */

static uint32_t tcp6_frame(uint32_t data)
{
	uint32_t len = 74 + data;
	uint8_t tail[4] = {0, 6, 0, 0};
	uint16_t csum;

	nw_frame(out, len, 77, 0, 3);
	vio_put_be16(out + 12, 0x86dd);
	memset(out + 14, 0, 60);
	out[14] = 0x60;
	vio_put_be16(out + 18, (uint16_t)(len - 54));
	out[20] = 6;
	out[21] = 64;
	out[37] = 1;
	out[53] = 2;
	vio_put_be16(out + 54, 5001);
	vio_put_be16(out + 56, 80);
	out[66] = 0x50;
	out[67] = 0x10;
	vio_put_be16(tail + 2, (uint16_t)(len - 54));
	csum = (uint16_t)~vio_csum_fold(
		vio_csum_add(vio_csum_add(0, out + 22, 32, false), tail, 4, false));
	memcpy(out + 70, &csum, 2);
	return len;
}

static bool tcp6_checks_out(const uint8_t *f, uint32_t len)
{
	uint32_t sum = 6 + (len - 54);

	for (uint32_t i = 22; i < len; i += 2)
		sum += (uint32_t)f[i] << 8 | (i + 1 < len ? f[i + 1] : 0u);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

/* A port without offloads: the server cuts and sums. What is on the wire is what a tap of it shows. */
static void port_without_offloads_gets_whole_segments(void **state)
{
	static const struct virtio_net_hdr_v1 tso6 = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						      .gso_type = VIRTIO_NET_HDR_GSO_TCPV6,
						      .hdr_len = 74,
						      .gso_size = 1440,
						      .csum_start = 54,
						      .csum_offset = 16};
	char path[] = "/tmp/vio-test-XXXXXX", spec[128];
	uint32_t len = tcp6_frame(10000), rec[4], magic[6], got = 0;
	struct vio_uplink *u;
	struct nw *w;
	FILE *f;

	nw_setup(state);
	w = *state;
	close(mkstemp(path));
	snprintf(spec, sizeof(spec), "net_pcap0,tx_pcap=%s,trunk=1+5", path);
	u = uplink(w, spec);
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_send_cut(&w->g[0], 0, &tso6, out, len, 33);
	nw_run(w);
	assert_int_equal(vio_uplink_port(u)->stats.segmented, 1);
	assert_int_equal(vio_uplink_port(u)->stats.out_frames, 7);
	nw_teardown(state);
	vio_uplink_destroy(u); /* and the file is written */
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fread(magic, sizeof(magic), 1, f), 1);
	while (fread(rec, sizeof(rec), 1, f) == 1) {
		assert_int_equal(rec[2], rec[3]);
		assert_int_equal(fread(in, rec[2], 1, f), 1);
		/* Tagged as the trunk wants it; the tag off, it is a right frame. */
		assert_int_equal(vio_get_be16(in + 12), 0x8100);
		assert_int_equal(vio_get_be16(in + 14), 1);
		memmove(in + 4, in, 12);
		assert_true(tcp6_checks_out(in + 4, rec[2] - 4));
		assert_memory_equal(in + 4 + 74, out + 74 + got, rec[2] - 4 - 74);
		got += rec[2] - 4 - 74;
	}
	assert_int_equal(got, 10000);
	fclose(f);
	unlink(path);
}

/* ------------------------------------------------------------------------------- a tap ---- */

/* A packet socket on the kernel's end of tap `name`; -1: this process may not have one. */
static int listen_on(const char *name)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET,
				 .sll_protocol = htobe16(0x0003),
				 .sll_ifindex = (int)if_nametoindex(name)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htobe16(0x0003));

	if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Next frame from the guest's address into in[]; 0: none. */
static uint32_t heard(int fd)
{
	ssize_t n;

	while ((n = recv(fd, in, sizeof(in), 0)) > 0) {
		if (!memcmp(in + 6, out + 6, 6))
			return (uint32_t)n;
	}
	return 0;
}

/* An uplink over a tap called `name` (16 bytes); skips where taps are not to be had. */
static struct vio_uplink *tap_uplink(char *name, int *fd)
{
	struct vio_uplink *u;
	struct vio_err err = {""};
	char spec[64];

	snprintf(name, 16, "vt%d", (int)getpid() % 100000);
	snprintf(spec, sizeof(spec), "net_tap7,iface=%s", name);
	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) < 0 ||
	    vio_uplink_create(spec, &u, &err) < 0)
		skip(); /* not possible here */
	*fd = listen_on(name);
	assert_true(*fd >= 0);
	return u;
}

/* A tap sums by itself, and is not asked to cut. What comes out of it is right either way. */
static void tap_sends_right_sums_and_segments(void **state)
{
	static const struct virtio_net_hdr_v1 tso6 = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						      .gso_type = VIRTIO_NET_HDR_GSO_TCPV6,
						      .gso_size = 1440,
						      .csum_start = 54,
						      .csum_offset = 16},
					      csum = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						      .csum_start = 54,
						      .csum_offset = 16};
	struct vio_uplink *u;
	struct vio_err err = {""};
	uint32_t got = 0, n, len;
	char name[16];
	struct nw *w;
	int fd;

	u = tap_uplink(name, &fd);
	nw_setup(state);
	w = *state;
	assert_int_equal(vio_switch_add(w->sw, vio_uplink_port(u), &err), 0);
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	len = tcp6_frame(1001);
	nw_send_cut(&w->g[0], 0, &csum, out, len, 40);
	nw_run(w);
	assert_int_equal(heard(fd), len);
	assert_true(tcp6_checks_out(in, len));
	assert_memory_equal(in + 74, out + 74, len - 74);
	len = tcp6_frame(10000);
	nw_send_cut(&w->g[0], 0, &tso6, out, len, 33);
	nw_run(w);
	while ((n = heard(fd)) > 0) {
		assert_in_range(n, 75, 1514);
		assert_true(tcp6_checks_out(in, n));
		assert_memory_equal(in + 74, out + 74 + got, n - 74);
		got += n - 74;
	}
	assert_int_equal(got, 10000);
	assert_int_equal(vio_uplink_port(u)->stats.checksummed, 0);
	assert_int_equal(vio_uplink_port(u)->stats.segmented, 1);
	assert_int_equal(vio_uplink_port(u)->stats.in_place, 8);
	close(fd);
	nw_teardown(state);
	assert_int_equal(vio_uplink_lent(u), 0);
	vio_uplink_destroy(u);
}

/*
 * The length of a TCP header is the guest's word. A driver that is told of one beyond the frame
 * reads there, or (tap) gives up the burst: the frame before it and the one behind it must get
 * through, and it itself too.
 */
static void tcp_header_longer_than_its_frame_is_not_left_to_the_port(void **state)
{
	static const struct virtio_net_hdr_v1 csum = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 54, .csum_offset = 16};
	static const uint8_t offset[] = {0x50, 0xf0, 0x40, 0x00,
					 0x50}; /* words of the header, upper four bits */
	const uint32_t len = tcp6_frame(10);
	struct vio_err err = {""};
	struct vio_uplink *u;
	char name[16];
	struct nw *w;
	int fd;

	u = tap_uplink(name, &fd);
	nw_setup(state);
	w = *state;
	assert_int_equal(vio_switch_add(w->sw, vio_uplink_port(u), &err), 0);
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(offset); i++) {
		out[66] = offset[i];
		nw_send_cut(&w->g[0], 0, &csum, out, len, 0);
	}
	nw_run(w);
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(offset); i++) {
		assert_int_equal(heard(fd), len);
		assert_int_equal(in[66], offset[i]);
		assert_true(tcp6_checks_out(in, len));
	}
	assert_int_equal(vio_uplink_port(u)->stats.checksummed, 3); /* the wrong ones, by us */
	close(fd);
	nw_teardown(state);
	vio_uplink_destroy(u);
}

/* More windows than DPDK's table has room for: each refusal says why, and frames still leave. */
static void
windows_beyond_what_dpdk_takes_are_refused_with_a_reason_and_frames_still_leave(void **state)
{
	enum { N = 160, PAGE = 4096 };
	uint8_t *mem =
		mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vio_err err = {""};
	unsigned n = 0;
	struct wire r;
	struct nw *w;

	assert_ptr_not_equal(mem, MAP_FAILED);
	nw_setup(state);
	w = *state;
	wire_up(w, &r, "");
	while (n < N && vio_uplink_mem_add(&r.u, 1, mem + n * PAGE, PAGE, &err) == 0)
		assert_string_equal(err.msg, ""), n++;
	assert_in_range(n, 16, N - 1);
	assert_non_null(strstr(err.msg, "no more windows"));
	nw_up(w, &w->g[0], NW_ZERO_COPY, NW_ALL);
	nw_frame(out, 1000, 77, 0, 1);
	nw_send(&w->g[0], out, 1000);
	nw_run(w);
	assert_int_equal(r.port->stats.out_frames, 1);
	assert_true(wire_take(&r, 1));
	/* And there is room again when some are gone. */
	vio_uplink_mem_del(&r.u, 1, mem, PAGE);
	err.msg[0] = '\0';
	assert_int_equal(vio_uplink_mem_add(&r.u, 1, mem, PAGE, &err), 0);
	assert_string_equal(err.msg, "");
	while (n-- > 0)
		vio_uplink_mem_del(&r.u, 1, mem + n * PAGE, PAGE);
	munmap(mem, N * PAGE);
	nw_teardown(state);
	wire_down(&r);
}

static void bad_uplinks_are_refused_with_a_reason(void **state)
{
	static const struct {
		const char *spec, *says;
	} bad[] = {{"net_no_such0", "can't make"},    {"", "wants the arguments"},
		   {"vlan=3", "wants the arguments"}, {"net_null9,vlan=0", "vlan=0"},
		   {"net_null9,trunk=9-3", "trunk"},  {"net_null9,mtu=20", "mtu"}};

	(void)state;
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(bad); i++) {
		struct vio_uplink *u;
		struct vio_err err = {""};

		assert_true(vio_uplink_create(bad[i].spec, &u, &err) < 0);
		assert_non_null(strstr(err.msg, bad[i].says));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_leaves_in_place_comes_back_and_is_returned),
		cmocka_unit_test(tag_that_the_driver_took_off_still_decides_the_vlan),
		cmocka_unit_test(full_port_drops_and_returns),
		cmocka_unit_test(port_without_offloads_gets_whole_segments),
		cmocka_unit_test(tap_sends_right_sums_and_segments),
		cmocka_unit_test(tcp_header_longer_than_its_frame_is_not_left_to_the_port),
		cmocka_unit_test(
			windows_beyond_what_dpdk_takes_are_refused_with_a_reason_and_frames_still_leave),
		cmocka_unit_test(bad_uplinks_are_refused_with_a_reason),
	};

	if (!eal_begin())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
