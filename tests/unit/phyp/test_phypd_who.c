/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * phypd: who may be which partition, how long a connection may be nobody, what it is told of others.
 * Usage: test_phypd_who PHYPD.
 */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <signal.h>
#include <unistd.h>

#include "child.h"
#include "phyp/carrier/wire.h"
#include "world.h"

struct place {
	char dir[64], sock[96], log[96], file[96];
	struct child phypd;
};

static const char *phypd_path;

static int up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	strcpy(p->dir, "/tmp/vio-phypd-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->sock, sizeof(p->sock), "%s/sock", p->dir);
	snprintf(p->log, sizeof(p->log), "%s/log", p->dir);
	snprintf(p->file, sizeof(p->file), "%s/profile", p->dir);
	*state = p;
	return 0;
}

static int down(void **state)
{
	struct place *p = *state;

	if (p->phypd.pid)
		assert_int_equal(child_kill(&p->phypd, SIGTERM), 0);
	unlink(p->log);
	unlink(p->file);
	assert_int_equal(rmdir(p->dir), 0); /* the socket has gone */
	free(p);
	return 0;
}

/* phypd with a profile of vios, guest0 and guest1; `user`: what the profile says of guest1 besides. */
static void start(struct place *p, const char *user, const char *option)
{
	char *argv[] = {(char *)(uintptr_t)phypd_path,
			(char *)(uintptr_t) "--socket",
			p->sock,
			(char *)(uintptr_t) "--profile",
			p->file,
			(char *)(uintptr_t)option,
			NULL};
	FILE *f = fopen(p->file, "w");

	assert_non_null(f);
	fprintf(f,
		"{\"partitions\": [{\"name\": \"vios\", \"memory_mib\": 16, \"pages\": \"4k\"},"
		" {\"name\": \"guest0\", \"memory_mib\": 16, \"pages\": \"4k\"},"
		" {\"name\": \"guest1\", \"memory_mib\": 16, \"pages\": \"4k\"%s}],"
		" \"adapters\": [{\"server\": \"vios\", \"client\": \"guest0\"},"
		" {\"server\": \"vios\", \"client\": \"guest1\"}]}",
		user);
	fclose(f);
	p->phypd = child_start(argv, false, p->log);
}

/* phyp_connect() waits for a phypd that was started a moment ago. */
static struct phyp_part *be(const struct place *p, const char *partition)
{
	struct phyp_part *part = NULL;
	struct vio_err err = {{0}};

	if (phyp_connect(p->sock, partition, &part, &err))
		fail_msg("%s: %s", partition, err.msg);
	return part;
}

/* A connection that has said nothing. What phypd never says is not waited for without end. */
static int dial(const struct place *p)
{
	const struct timeval patience = {.tv_sec = 30};
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", p->sock);
	assert_int_equal(connect(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return s;
}

static int ask(int s, uint32_t op, const char *name)
{
	struct wire_req req = {.version = WIRE_VERSION, .op = op, .node = -1};
	struct wire_rep rep = {0};
	unsigned n = 1;
	int fd = -1;

	strcpy(req.name, name);
	assert_int_equal(wire_send(s, &req, sizeof(req), NULL, 0, 0), 0);
	assert_int_equal(wire_recv(s, &rep, sizeof(rep), &fd, &n, 0), sizeof(rep));
	if (fd >= 0)
		close(fd);
	return rep.rc;
}

static void connections_that_are_partitions_no_more_keep_nobody_out(void **state)
{
	struct place *p = *state;
	int s[70];

	start(p, "", NULL);
	phyp_close(be(p, "vios"));
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(s); i++) {
		s[i] = dial(p);
		assert_int_equal(ask(s[i], WIRE_HELLO, "guest1"), 0);
		assert_int_equal(ask(s[i], WIRE_BYE, ""), 0);
	}
	phyp_close(be(p, "guest0"));
	for (unsigned i = 0; i < VIO_ARRAY_SIZE(s); i++)
		close(s[i]);
}

static void who_is_no_partition_is_shown_out_after_a_while(void **state)
{
	struct place *p = *state;
	int silent, over;
	char c;

	start(p, "", NULL);
	phyp_close(be(p, "vios"));
	silent = dial(p);
	over = dial(p);
	assert_int_equal(ask(over, WIRE_HELLO, "guest1"), 0);
	assert_int_equal(ask(over, WIRE_BYE, ""), 0);
	assert_int_equal(recv(silent, &c, 1, 0), 0);
	assert_int_equal(recv(over, &c, 1, 0), 0);
	close(silent);
	close(over);
}

static void a_partition_of_another_user_is_refused_with_a_sentence(void **state)
{
	struct place *p = *state;
	struct phyp_part *part;
	struct vio_err err = {{0}};
	char user[64];

	snprintf(user, sizeof(user), ", \"uid\": %u", (unsigned)geteuid() + 1);
	start(p, user, NULL);
	phyp_close(be(p, "guest0"));
	assert_int_equal(phyp_connect(p->sock, "guest1", &part, &err), -EACCES);
	assert_non_null(strstr(err.msg, "guest1"));
	assert_non_null(strstr(err.msg, "uid"));
}

static void a_partition_of_this_user_is_given(void **state)
{
	struct place *p = *state;
	char user[64];

	snprintf(user, sizeof(user), ", \"uid\": %u", (unsigned)geteuid());
	start(p, user, NULL);
	phyp_close(be(p, "guest1"));
}

/* Whatever the umask of who started it. */
static void the_socket_is_its_owners_only(void **state)
{
	struct place *p = *state;
	mode_t old = umask(0);
	struct stat st;

	start(p, "", NULL);
	umask(old);
	phyp_close(be(p, "vios"));
	assert_int_equal(stat(p->sock, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static unsigned known(struct phyp_part *part, struct phyp_part_stats st[PHYP_MAX_PARTS])
{
	unsigned n = PHYP_MAX_PARTS;
	struct vio_err err = {{0}};

	if (phyp_machine_stats(part, st, &n, &err))
		fail_msg("%s", err.msg);
	return n;
}

static void a_partition_is_told_its_own_counters_only(void **state)
{
	struct phyp_part_stats st[PHYP_MAX_PARTS];
	struct place *p = *state;
	struct phyp_part *part;

	start(p, "", NULL);
	part = be(p, "guest1");
	assert_int_equal(known(part, st), 1);
	assert_string_equal(st[0].name, "guest1");
	assert_true(st[0].active);
	phyp_close(part);
}

static void a_measurement_is_told_everybodys_counters(void **state)
{
	struct phyp_part_stats st[PHYP_MAX_PARTS];
	struct place *p = *state;
	struct phyp_part *part;

	start(p, "", "--all-statistics");
	part = be(p, "guest1");
	assert_int_equal(known(part, st), 3);
	assert_string_equal(st[0].name, "vios");
	phyp_close(part);
}

int main(int argc, char **argv)
{
#define T(t) cmocka_unit_test_setup_teardown(t, up, down)
	const struct CMUnitTest tests[] = {
		T(connections_that_are_partitions_no_more_keep_nobody_out),
		T(who_is_no_partition_is_shown_out_after_a_while),
		T(a_partition_of_another_user_is_refused_with_a_sentence),
		T(a_partition_of_this_user_is_given),
		T(the_socket_is_its_owners_only),
		T(a_partition_is_told_its_own_counters_only),
		T(a_measurement_is_told_everybodys_counters),
	};

	if (argc != 2)
		return 2;
	phypd_path = argv[1];
	return cmocka_run_group_tests_name("phypd: who", tests, NULL, NULL);
}
