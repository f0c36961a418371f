/* SPDX-License-Identifier: BSD-3-Clause */
/* RDMA and the partner's end: its old memory is not reached, holes in it end nobody, aliases go. */
#include "tests/unit/phyp/rdma_test.h"

/* Kill the guest, start it again, and look for the old one's memory in every mode. */
static void reborn(struct world *w)
{
	memset(mem(&w->g, 2 * MIB), 0x77, PAGE);
	assert_int_equal(pull(w, PAGE, 2 * MIB, 2 * MIB), H_SUCCESS);
	assert_int_equal(*mem(&w->s, 2 * MIB), 0x77);
	phyp_local_kill(w->m, "guest0");
	not_connected(w);
	end_close(&w->g);
	end_open(w->m, "guest0", &w->g);
	w->s.crq.next = 0;
	assert_int_equal(h_free_crq(w->s.v, w->s.u->unit), H_SUCCESS);
	connect_ends(w);
	map_tces(&w->g, 2 * MIB, 2 * MIB, 18 * MIB, TCE_READ | TCE_WRITE);
	assert_int_equal(pull(w, PAGE, 2 * MIB, 2 * MIB), H_SUCCESS);
	assert_int_equal(*mem(&w->s, 2 * MIB), 0);
	*mem(&w->s, 2 * MIB) = 0x55;
	assert_int_equal(push(w, 1, 2 * MIB, 2 * MIB), H_SUCCESS);
	assert_int_equal(*mem(&w->g, 2 * MIB), 0x55);
}

static void a_partner_that_died_is_never_reached_in_its_old_memory(void **state)
{
	open_windows(*state);
	each_alias(*state, reborn);
}

#define LIVES 30

struct reader {
	struct world *w;
	uint32_t stop;
	uint64_t reads, wrong;
};

/*
 * Reads the guest's word as fast as it can; what comes back must be of the guest's present life or
 * a later one.
 */
static void *read_for_ever(void *arg)
{
	struct reader *r = arg;
	struct world *w = r->w;
	uint64_t regs[PHYP_REGS], last = 0;
	struct phyp_vcpu *v;

	if (phyp_vcpu_create(w->s.part, &v, NULL)) {
		r->wrong++;
		return NULL;
	}
	while (!vio_load_acquire(&r->stop)) {
		struct ioba src = ioba_add(w->s.u->remote_window, 2 * MIB);
		int64_t rc = h_read_rdma(v, 8, R_LIOBN, src, regs);

		if (rc == H_SUCCESS) {
			r->wrong += regs[0] < last || regs[0] == 0;
			last = regs[0];
			vio_counter_add(&r->reads, 1u);
		} else {
			r->wrong += rc != H_SOURCE_PARM && rc != H_PERMISSION;
		}
	}
	phyp_vcpu_destroy(v);
	return NULL;
}

/*
 * A standing alias goes while another thread is in a call that uses it: no fault, no byte of a
 * former life.
 */
static void die_in_flight(struct world *w)
{
	struct reader r = {.w = w};
	pthread_t t;

	connect_ends(w);
	assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, PHYP_ALIAS_RDMA, NULL), 0);
	assert_int_equal(pthread_create(&t, NULL, read_for_ever, &r), 0);
	for (uint64_t life = 1; life <= LIVES; life++) {
		uint64_t before = vio_load_relaxed(&r.reads);

		memcpy(mem(&w->g, 2 * MIB), &life, sizeof(life));
		map_tces(&w->g, 2 * MIB, 2 * MIB, PAGE, TCE_READ);
		while (vio_load_relaxed(&r.reads) < before + 100)
			vio_cpu_relax();
		phyp_local_kill(w->m, "guest0");
		end_close(&w->g);
		end_open(w->m, "guest0", &w->g);
		crq_up(&w->g, 1);
	}
	vio_store_release(&r.stop, 1u);
	pthread_join(t, NULL);
	assert_int_equal(r.wrong, 0);
}

static void a_partner_may_die_while_calls_are_in_flight(void **state)
{
	die_in_flight(*state);
}

/* As on a kernel without membarrier(). */
static void a_partner_may_die_while_calls_with_fences_are_in_flight(void **state)
{
	struct world *w = *state;

	w->s.part->asymmetric = false;
	die_in_flight(w);
}

static struct phyp_part *owner_of_the_call;

static volatile sig_atomic_t holes;

static void on_bus(int sig, siginfo_t *info, void *context)
{
	(void)context;
	holes++;
	if (!phyp_hole(owner_of_the_call, info->si_addr))
		signal(sig, SIG_DFL);
}

/* A large page that the owner has thrown away, on a machine that has none left. */
static void a_hole_in_the_partners_memory_ends_neither_the_call_nor_the_caller(void **state)
{
	const struct sigaction sa = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
	struct world *w = *state;
	struct hv_alias *alias;
	int fd = memfd_create("hole", MFD_CLOEXEC);

	connect_ends(w);
	map_tces(&w->g, 2 * MIB, 2 * MIB, PAGE, TCE_READ | TCE_WRITE);
	map_tces(&w->s, 2 * MIB, 2 * MIB, PAGE, TCE_READ | TCE_WRITE);
	assert_int_equal(phyp_alias_set(w->s.part, w->s.u->unit, PHYP_ALIAS_RDMA, NULL), 0);
	alias = w->s.part->peer[w->g.part->idx]->alias;
	assert_ptr_not_equal(mmap(alias->base + 2 * MIB, PAGE, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_FIXED, fd, 0),
			     MAP_FAILED);
	owner_of_the_call = w->s.part;
	assert_int_equal(sigaction(SIGBUS, &sa, NULL), 0);
	assert_int_equal(h_copy_rdma(w->s.v, 512, w->s.u->remote_liobn, at(&w->g, 2 * MIB),
				     w->s.u->liobn, at(&w->s, 2 * MIB)),
			 H_SUCCESS);
	assert_int_equal(holes, 1);
	signal(SIGBUS, SIG_DFL);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(a_hole_in_the_partners_memory_ends_neither_the_call_nor_the_caller),
		WORLD_TEST(a_partner_that_died_is_never_reached_in_its_old_memory),
		WORLD_TEST(a_partner_may_die_while_calls_are_in_flight),
		WORLD_TEST(a_partner_may_die_while_calls_with_fences_are_in_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
