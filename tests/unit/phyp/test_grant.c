/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared logical resources: what may be granted, what accepting maps, and how it is taken back. */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "world.h"

#define RW GRANT_SYSTEM_MEMORY
#define RO (GRANT_SYSTEM_MEMORY | GRANT_NO_WRITE)

static uint64_t grant(struct world *w, uint64_t flags, uint64_t addr, uint64_t len)
{
	uint64_t cookie = 0;

	assert_int_equal(
		h_grant_logical(w->g.v, flags, (struct gla){addr}, len, w->g.u->unit, &cookie),
		H_SUCCESS);
	return cookie;
}

static int64_t try_grant(struct world *w, uint64_t flags, uint64_t addr, uint64_t len,
			 uint32_t unit)
{
	uint64_t cookie;

	return h_grant_logical(w->g.v, flags, (struct gla){addr}, len, unit, &cookie);
}

static int64_t accept_it(struct world *w, uint64_t cookie, struct gla *a)
{
	uint64_t len = 0, flags = 0;

	return h_accept_logical(w->s.v, cookie, a, &len, &flags);
}

static uint8_t *accepted(struct world *w, uint64_t cookie, uint64_t len)
{
	struct gla a = {0};
	uint8_t *p;

	assert_int_equal(accept_it(w, cookie, &a), H_SUCCESS);
	p = phyp_mem(w->s.part, a, len);
	assert_non_null(p);
	return p;
}

/* Can the kernel read this byte on our behalf? A fault shows as EFAULT, not as a signal. */
static bool readable(const void *p)
{
	int fd[2];
	bool ok;

	assert_int_equal(pipe(fd), 0);
	ok = write(fd[1], p, 1) == 1;
	close(fd[0]);
	close(fd[1]);
	return ok;
}

static void an_accepted_grant_is_the_owners_memory_both_ways(void **state)
{
	struct world *w = *state;
	uint64_t cookie = grant(w, RW, 3 * MIB, 2 * PAGE), len = 0, flags = 0,
		 r[PHYP_REGS] = {cookie};
	struct gla a = {0};
	uint8_t *p;

	assert_int_equal(h_accept_logical(w->s.v, cookie, &a, &len, &flags), H_SUCCESS);
	assert_int_equal(len, 2 * PAGE);
	assert_int_equal(flags, RW);
	assert_int_equal(a.v, HV_LOGICAL_BASE); /* the lowest suitable address */
	p = phyp_mem(w->s.part, a, len);
	*mem(&w->g, 3 * MIB + PAGE) = 0x42;
	assert_int_equal(p[PAGE], 0x42);
	p[5] = 0x24;
	assert_int_equal(*mem(&w->g, 3 * MIB + 5), 0x24);
	assert_null(phyp_mem(w->s.part, a, len + 1));
	assert_null(phyp_mem(w->s.part, gla_add(a, 1), len));
	assert_null(phyp_mem(w->s.part, gla_add(a, len), 1));
	assert_null(phyp_mem(w->s.part, (struct gla){UINT64_MAX}, 2));
	assert_null(phyp_mem(w->s.part, (struct gla){phyp_mem_size(w->s.part) - 1}, 2));
	assert_non_null(phyp_mem(w->s.part, (struct gla){phyp_mem_size(w->s.part) - 1}, 1));
	assert_int_equal(h_return_logical(w->s.v, cookie), H_SUCCESS);
	assert_int_equal(phyp_hcall(w->s.v, H_ACCEPT_LOGICAL, r, r), H_SUCCESS);
	assert_int_equal(r[3], w->s.u->unit);
}

/* In a child that writes to p: the signal it dies of, 0: none. */
static int signal_of_a_write(volatile uint8_t *p)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		*p = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void a_write_to_a_read_only_grant_faults(void **state)
{
	struct world *w = *state;
	uint8_t *ro = accepted(w, grant(w, RO, 3 * MIB, PAGE), PAGE);
	uint8_t *rw = accepted(w, grant(w, RW, 4 * MIB, PAGE), PAGE);

	*mem(&w->g, 3 * MIB) = 0x33;
	assert_int_equal(ro[0], 0x33);
	assert_int_equal(signal_of_a_write(rw), 0);
	assert_int_equal(*mem(&w->g, 4 * MIB), 1);
	assert_int_equal(signal_of_a_write(ro), SIGSEGV);
	assert_int_equal(*mem(&w->g, 3 * MIB), 0x33);
}

static void what_may_not_be_granted_is_refused(void **state)
{
	struct world *w = *state;
	uint32_t unit = w->g.u->unit;
	uint64_t size = phyp_mem_size(w->g.part), r[PHYP_REGS] = {RW, 1, 0, PAGE, unit};

	assert_int_equal(try_grant(w, 0, 0, PAGE, unit), H_PARAMETER);
	assert_int_equal(try_grant(w, 2, 0, PAGE, unit), H_PARAMETER);
	assert_int_equal(try_grant(w, RW | 0x100, 0, PAGE, unit), H_PARAMETER);
	assert_int_equal(try_grant(w, RW | GRANT_NO_READ | GRANT_NO_WRITE, 0, PAGE, unit),
			 H_PARAMETER);
	assert_int_equal(try_grant(w, RW, 0, 0, unit), H_PARAMETER);
	assert_int_equal(try_grant(w, RW, 8, PAGE, unit), H_PARAMETER);
	assert_int_equal(try_grant(w, RW, 0, PAGE + 8, unit), H_PARAMETER);
	assert_int_equal(try_grant(w, RW, size, PAGE, unit), H_PARAMETER);
	assert_int_equal(try_grant(w, RW, UINT64_MAX & ~0xfffull, PAGE, unit), H_PERMISSION);
	assert_int_equal(try_grant(w, RW, 16 * MIB - PAGE, 2 * PAGE, unit),
			 H_PARAMETER); /* over an LMB's end */
	assert_int_equal(try_grant(w, RW, 0, 16 * MIB, unit), H_SUCCESS);
	assert_int_equal(try_grant(w, RW, 0, PAGE, w->s.u->unit), H_PARAMETER);
	assert_int_equal(try_grant(w, RW, 0, PAGE, 0), H_PARAMETER);
	assert_int_equal(try_grant(w, RW, HV_LOGICAL_BASE, PAGE, unit), H_PERMISSION);
	assert_int_equal(phyp_hcall(w->g.v, H_GRANT_LOGICAL, r, r), H_PARAMETER);
}

static void only_the_partner_may_accept_and_only_once_at_a_time(void **state)
{
	struct world *w = *state;
	uint64_t cookie = grant(w, RW, 3 * MIB, PAGE), len, flags;
	struct gla a;

	assert_int_equal(h_accept_logical(w->g.v, cookie, &a, &len, &flags), H_PARAMETER);
	assert_int_equal(accept_it(w, cookie + (1ull << 16), &a), H_PARAMETER);
	assert_int_equal(accept_it(w, cookie ^ 1, &a), H_PARAMETER);
	assert_int_equal(accept_it(w, 0, &a), H_PARAMETER);
	assert_int_equal(accept_it(w, UINT64_MAX, &a), H_PARAMETER);
	assert_int_equal(accept_it(w, cookie, &a), H_SUCCESS);
	assert_int_equal(accept_it(w, cookie, &a), H_PARAMETER);
}

static void a_returned_grant_can_be_accepted_again_while_it_lives(void **state)
{
	struct world *w = *state;
	uint64_t cookie = grant(w, RW, 3 * MIB, PAGE);
	struct gla a;
	uint8_t *p = accepted(w, cookie, PAGE);

	assert_true(readable(p));
	assert_int_equal(h_return_logical(w->s.v, cookie), H_SUCCESS);
	assert_false(readable(p));
	assert_null(phyp_mem(w->s.part, (struct gla){HV_LOGICAL_BASE}, 1));
	assert_int_equal(h_return_logical(w->s.v, cookie), H_PARAMETER);
	assert_int_equal(h_return_logical(w->g.v, cookie), H_PARAMETER);
	assert_int_equal(accept_it(w, cookie, &a), H_SUCCESS);
	assert_int_equal(h_return_logical(w->s.v, cookie), H_SUCCESS);
	assert_int_equal(h_rescind_logical(w->g.v, RESCIND_NORMAL, cookie), H_SUCCESS);
	assert_int_equal(accept_it(w, cookie, &a), H_RESCINDED);
	assert_int_equal(h_return_logical(w->s.v, cookie), H_RESCINDED);
	assert_int_equal(h_rescind_logical(w->g.v, RESCIND_NORMAL, cookie), H_RESCINDED);
}

static void a_normal_rescind_waits_for_the_return(void **state)
{
	struct world *w = *state;
	uint64_t cookie = grant(w, RW, 3 * MIB, PAGE);
	uint8_t *p = accepted(w, cookie, PAGE);

	assert_int_equal(h_rescind_logical(w->g.v, RESCIND_NORMAL, cookie), H_RESOURCE);
	assert_true(readable(p));
	assert_int_equal(h_return_logical(w->s.v, cookie), H_SUCCESS);
	assert_int_equal(h_rescind_logical(w->g.v, RESCIND_NORMAL, cookie), H_SUCCESS);
	assert_int_equal(h_rescind_logical(w->s.v, RESCIND_NORMAL, cookie), H_RESCINDED);
}

static void a_forced_rescind_removes_the_translation(void **state)
{
	struct world *w = *state;
	uint64_t cookie = grant(w, RW, 3 * MIB, PAGE), other;
	struct gla a;
	uint8_t *p = accepted(w, cookie, PAGE);
	int64_t rc;
	unsigned partial = 0;

	assert_int_equal(h_rescind_logical(w->s.v, RESCIND_FORCED, cookie), H_PARAMETER);
	assert_int_equal(h_rescind_logical(w->g.v, 2, cookie), H_PARAMETER);
	while ((rc = h_rescind_logical(w->g.v, RESCIND_FORCED, cookie)) == H_PARTIAL)
		assert_true(++partial < 1000);
	assert_int_equal(rc, H_SUCCESS);
	assert_false(readable(p));
	assert_null(phyp_mem(w->s.part, (struct gla){HV_LOGICAL_BASE}, 1));
	/*
	 * Its place stays empty until the sharer returns it: a pointer that is still around meets
	 * no other grant.
	 */
	other = grant(w, RW, 4 * MIB, PAGE);
	assert_ptr_not_equal(accepted(w, other, PAGE), p);
	assert_false(readable(p));
	assert_int_equal(h_return_logical(w->s.v, cookie), H_RESCINDED);
	assert_int_equal(accept_it(w, cookie, &a), H_RESCINDED);
	assert_ptr_equal(accepted(w, grant(w, RW, 3 * MIB, PAGE), PAGE), p);
	/* One that nobody accepted goes at once. */
	assert_int_equal(h_rescind_logical(w->g.v, RESCIND_FORCED, grant(w, RW, 3 * MIB, PAGE)),
			 H_SUCCESS);
}

static void grants_of_many_sizes_come_and_go_without_meeting(void **state)
{
	struct world *w = *state;
	struct {
		uint64_t cookie, len;
		struct gla a;
		bool in;
	} x[16] = {{0}};
	uint64_t len, flags, seed = 1;

	for (unsigned i = 0; i < 16; i++) {
		x[i].len = (1 + i * 5 % 7) * 128 * PAGE;
		x[i].cookie = grant(w, RW, (i % 2) * 16 * MIB, x[i].len);
	}
	for (unsigned turn = 0; turn < 400; turn++) {
		unsigned i = (unsigned)((seed = seed * 6364136223846793005ull + 1) >> 60);

		if (x[i].in) {
			assert_int_equal(h_return_logical(w->s.v, x[i].cookie), H_SUCCESS);
			assert_null(phyp_mem(w->s.part, x[i].a, x[i].len));
		} else {
			assert_int_equal(
				h_accept_logical(w->s.v, x[i].cookie, &x[i].a, &len, &flags),
				H_SUCCESS);
			assert_int_equal(len, x[i].len);
		}
		x[i].in = !x[i].in;
		for (unsigned k = 0; k < 16; k++) {
			if (!x[k].in)
				continue;
			assert_non_null(phyp_mem(w->s.part, x[k].a, x[k].len));
			for (unsigned l = 0; l < k; l++)
				assert_true(!x[l].in || x[l].a.v + x[l].len <= x[k].a.v ||
					    x[k].a.v + x[k].len <= x[l].a.v);
		}
	}
}

static void a_partition_has_room_for_its_share_of_the_grants_and_says_when_it_is_full(void **state)
{
	struct world *w = *state;
	uint64_t cookie = 0;

	for (unsigned i = 0; i < w->g.part->seg->grants_each; i++)
		cookie = grant(w, RW, (i % 1024) * PAGE, PAGE);
	assert_int_equal(try_grant(w, RW, 0, PAGE, w->g.u->unit), H_NO_MEM);
	assert_int_equal(h_rescind_logical(w->g.v, RESCIND_NORMAL, cookie), H_SUCCESS);
	assert_int_equal(try_grant(w, RW, 0, PAGE, w->g.u->unit), H_SUCCESS);
}

static void a_dead_owners_grants_are_taken_back(void **state)
{
	struct world *w = *state;
	uint64_t cookie = grant(w, RW, 3 * MIB, PAGE), other = grant(w, RW, 4 * MIB, PAGE);
	uint8_t *p = accepted(w, cookie, PAGE);
	struct gla a;

	assert_true(readable(p));
	phyp_local_kill(w->m, "guest0");
	assert_false(readable(p));
	assert_int_equal(accept_it(w, other, &a), H_RESCINDED);
	assert_int_equal(h_return_logical(w->s.v, cookie), H_RESCINDED);
	end_close(&w->g);
	end_open(w->m, "guest0", &w->g);
	assert_int_equal(accept_it(w, cookie, &a), H_RESCINDED);
	*mem(&w->g, 3 * MIB) = 0x66;
	assert_int_equal(*accepted(w, grant(w, RO, 3 * MIB, PAGE), PAGE), 0x66);
}

static void a_dead_sharer_has_returned_what_it_had(void **state)
{
	struct world *w = *state;
	uint64_t cookie = grant(w, RW, 3 * MIB, PAGE);

	accepted(w, cookie, PAGE);
	phyp_local_kill(w->m, "vios");
	end_close(&w->s);
	end_open(w->m, "vios", &w->s);
	accepted(w, cookie, PAGE);
	end_close(&w->s);
	end_open(w->m, "vios", &w->s);
	assert_int_equal(h_rescind_logical(w->g.v, RESCIND_NORMAL, cookie), H_SUCCESS);
}

/* No other page of the guest is in the sharer's range for grants. */
static void only_the_granted_pages_are_mapped(void **state)
{
	struct world *w = *state;
	uint8_t *p = accepted(w, grant(w, RO, 3 * MIB, 3 * PAGE), 3 * PAGE);
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512], perm[8];
	uint64_t bytes = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;

		if (!strstr(line, "guest0") || sscanf(line, "%lx-%lx %7s", &from, &to, perm) != 3)
			continue;
		if (vio_range_ok(from - (uintptr_t)w->g.part->mem, 1, w->g.part->mem_bytes))
			continue; /* the guest's own, in this process too */
		assert_int_equal(from, (uintptr_t)p);
		assert_string_equal(perm, "r--s");
		bytes += to - from;
	}
	fclose(f);
	assert_int_equal(bytes, 3 * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(an_accepted_grant_is_the_owners_memory_both_ways),
		WORLD_TEST(a_write_to_a_read_only_grant_faults),
		WORLD_TEST(what_may_not_be_granted_is_refused),
		WORLD_TEST(only_the_partner_may_accept_and_only_once_at_a_time),
		WORLD_TEST(a_returned_grant_can_be_accepted_again_while_it_lives),
		WORLD_TEST(a_normal_rescind_waits_for_the_return),
		WORLD_TEST(a_forced_rescind_removes_the_translation),
		WORLD_TEST(grants_of_many_sizes_come_and_go_without_meeting),
		WORLD_TEST(
			a_partition_has_room_for_its_share_of_the_grants_and_says_when_it_is_full),
		WORLD_TEST(a_dead_owners_grants_are_taken_back),
		WORLD_TEST(a_dead_sharer_has_returned_what_it_had),
		WORLD_TEST(only_the_granted_pages_are_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
