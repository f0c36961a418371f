/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loads: how often the compiled code loads each byte that a guest can write, instruction by instruction. A compiler may load twice what
 * the source loads once (XSA-155), so it is the object code that is asked: that of the server's library, as it is linked into vios.
 *
 * The server's mappings of the guest's memory are closed while it works on requests. Each access to them is then a fault; its
 * instruction is decoded, what it loads is counted by byte, the mappings are opened for this one instruction (the processor's trap
 * flag), and closed again. A byte of a descriptor, an entry, a header, a range, a table or a frame that is loaded by two instructions
 * fails the run. Two loads that overlap and are equally long, from different places, are one copy (30 bytes are copied as 16 and
 * 16); and a chain at which the short way of plain chains stops is loaded again by the long one, which uses nothing of what was seen
 * before (struct vio_ring_ops). Data is not counted: nobody judges it, and the C library's memcpy loads some of it twice. x86-64 only.
 *
 * -x: a server without snapshots (VIO_SNAPSHOTS=0), of which every arm must fail.
 */
#include <capstone/capstone.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "tests/hostile/rig.h"

#define TRAP_FLAG 0x100
#define BYTES     RIG_BUFLEN /* of the largest window */

/* Who loaded a byte last. */
struct byte {
	uint8_t times;
	uint8_t size;
	uint64_t at, ip;
};

/* A signal handler gets no argument. */
static struct watch {
	struct rig *g;
	csh decoder;
	cs_insn *insn;
	bool open;
	uint64_t instructions, bytes;
	struct byte byte[RIG_WINDOWS][BYTES];
	/* The first byte that was loaded twice, beyond what it may be. */
	unsigned twice;
	uint64_t ip[2], at;
} watch;

static void set_panes(bool open)
{
	for (unsigned i = 0; i < RIG_WINDOWS; i++) {
		const struct rig_window *w = &watch.g->window[i];
		const int prot = w->perm & TCE_WRITE ? PROT_READ | PROT_WRITE : PROT_READ;

		mprotect(w->va, w->len, open ? prot : PROT_NONE);
	}
	watch.open = open;
}

/* How many bytes the instruction loads from memory; 0: it stores only. */
static unsigned load_size(const uint8_t *ip)
{
	const uint8_t *code = ip;
	uint64_t address = (uintptr_t)ip;
	size_t left = 16;

	FUZZ_CHECK(cs_disasm_iter(watch.decoder, &code, &left, &address, watch.insn));
	for (unsigned i = 0; i < watch.insn->detail->x86.op_count; i++) {
		const cs_x86_op *op = &watch.insn->detail->x86.operands[i];

		/* Of `movs` the second is what is read; an access that the decoder does not know counts as a load. */
		if (op->type == X86_OP_MEM && (op->access == 0 || (op->access & CS_AC_READ)))
			return op->size;
	}
	return 0;
}

static void count(unsigned window, uint64_t off, unsigned size, uint64_t ip)
{
	watch.instructions += size > 0;
	watch.bytes += size;
	for (unsigned i = 0; i < size && off + i < BYTES; i++) {
		struct byte *b = &watch.byte[window][off + i];
		const bool one_copy = b->times > 0 && b->size == size && b->at != off;

		if (b->times == 0 || !one_copy)
			b->times++;
		if (b->times == 2 && watch.ip[1] == 0) {
			watch.ip[0] = b->ip;
			watch.ip[1] = ip;
		}
		b->size = (uint8_t)size;
		b->at = off;
		b->ip = ip;
	}
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	const uint8_t *addr = info->si_addr;

	for (unsigned i = 0; !watch.open && i < RIG_WINDOWS; i++) {
		const struct rig_window *w = &watch.g->window[i];
		const uint64_t ip = (uint64_t)u->uc_mcontext.gregs[REG_RIP];

		if (addr < w->va || addr >= w->va + w->len)
			continue;
		count(i, (uint64_t)(addr - w->va), load_size((const uint8_t *)(uintptr_t)ip), ip);
		set_panes(true);
		u->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
		return;
	}
	signal(sig, SIG_DFL); /* a real one */
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)sig;
	(void)info;
	set_panes(false);
	u->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}

static void begin(void)
{
	memset(watch.byte, 0, sizeof(watch.byte));
	watch.ip[0] = watch.ip[1] = 0;
	set_panes(false);
}

/* Bytes [off, +len) of a window that were loaded more often than `most`. */
static void expect(unsigned window, uint64_t off, uint64_t len, unsigned most, const char *what)
{
	for (uint64_t i = 0; i < len; i++) {
		const struct byte *b = &watch.byte[window][off + i];

		if (b->times <= most)
			continue;
		if (watch.twice++ == 0)
			printf("  %s, byte %llu of its window: loaded %u times, at last at 0x%llx\n",
			       what, (unsigned long long)(off + i), b->times,
			       (unsigned long long)b->ip);
	}
}

/* Slots 2 and 3 of a network card are no plain chains: the short way looks at them first. */
static unsigned most_of(const struct rig *g, unsigned slot)
{
	return g->arm.dev >= RIG_TX && slot >= 2 ? 2 : 1;
}

static void check_ring(const struct rig *g, uint16_t from)
{
	if (g->arm.layout & 1ull << VIRTIO_F_RING_PACKED) {
		for (uint16_t i = from; i != g->next; i++)
			expect(2, 16ull * (i & (RIG_SIZE - 1)), 16, g->arm.dev >= RIG_TX ? 2 : 1,
			       "a packed descriptor");
		return;
	}
	for (unsigned k = 0; k < RIG_SLOTS; k++) {
		expect(3, 4 + 2ull * ((from + k) & (RIG_SIZE - 1)), 2, most_of(g, k),
		       "an available entry");
		expect(2, 64ull * k, 64, most_of(g, k), "a descriptor");
	}
}

static void check_round(const struct rig *g, uint16_t from)
{
	check_ring(g, from);
	for (unsigned k = 0; k < RIG_SLOTS; k++) {
		const uint64_t slot = k * RIG_SLOT;

		expect(0, slot + RIG_HDR, 16, 1, "a disk's header");
		expect(0, slot + RIG_RANGES, 16, 1, "a range");
		expect(0, slot + RIG_TABLE, 64, 1, "an indirect table");
		expect(0, slot + RIG_FRAME, RIG_FRAME_LEN, 1, "a frame");
	}
}

/* Does the arm load everything once? */
static bool one_arm(const struct rig_arm *arm)
{
	static struct rig g;
	char name[120];

	rig_name(arm, name, sizeof(name));
	rig_open(&g, arm);
	g.quiet = true;
	watch.g = &g;
	watch.twice = 0;
	watch.instructions = watch.bytes = 0;
	for (unsigned round = 0; round < 6; round++) {
		const uint16_t from = g.next;

		rig_publish(&g);
		begin();
		rig_work(&g);
		set_panes(true);
		FUZZ_CHECK(g.q.fault == VIO_ST_OK && rig_taken(&g));
		check_round(&g, from);
	}
	printf("%-56s %5llu loads of %6llu bytes, %u bytes loaded again\n", name,
	       (unsigned long long)watch.instructions, (unsigned long long)watch.bytes,
	       watch.twice);
	FUZZ_CHECK(g.violations == 0);
	rig_close(&g);
	return watch.twice == 0;
}

/* What a double fetch looks like: judged, then loaded again. */
__attribute__((noinline)) static uint64_t planted(const volatile uint64_t *field)
{
	return *field > 7 ? 0 : *field + 1;
}

static bool planted_is_found(void)
{
	static const struct rig_arm arm = {VIO_RING_DIRECT, VIO_PAYLOAD_DIRECT, 0, RIG_STORE};
	static struct rig g;
	uint64_t v;

	rig_open(&g, &arm);
	watch.g = &g;
	watch.twice = 0;
	begin();
	v = planted((const volatile uint64_t *)(const void *)(g.window[0].va + RIG_HDR + 8));
	set_panes(true);
	FUZZ_CHECK(v == 4);
	expect(0, RIG_HDR + 8, 8, 1, "planted, to be found");
	rig_close(&g);
	return watch.twice == 8;
}

int main(int argc, char **argv)
{
	const struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	const struct sigaction trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	const bool expect_twice = argc == 2 && strcmp(argv[1], "-x") == 0;
	unsigned arms = 0, wrong = 0;
	struct rig_arm arm;

	FUZZ_CHECK(cs_open(CS_ARCH_X86, CS_MODE_64, &watch.decoder) == CS_ERR_OK);
	cs_option(watch.decoder, CS_OPT_DETAIL, CS_OPT_ON);
	watch.insn = cs_malloc(watch.decoder);
	FUZZ_CHECK(watch.insn);
	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGTRAP, &trap, NULL);
	if (!planted_is_found()) {
		printf("FAILED: a planted double load was not found\n");
		return 1;
	}
	for (unsigned i = 0; rig_arm_at(i, &arm); i++) {
		if (arm.ring != VIO_RING_DIRECT || arm.payload != VIO_PAYLOAD_DIRECT)
			continue; /* there the hypervisor copies */
		arms++;
		wrong += one_arm(&arm) == expect_twice;
	}
	printf("%u arms in place, %u %s\n", arms, wrong,
	       expect_twice ? "without a second load, though built to have one"
			    : "with something loaded again");
	return wrong || arms == 0 ? 1 : 0;
}
