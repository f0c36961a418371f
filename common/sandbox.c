/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "vio/types.h"

struct call {
	int nr;
	unsigned need; /* any of these; 0: every program */
};

#define CALL(name) SCMP_SYS(name)
/* Calls that take any argument. Those that take some only are in add_argument_rules(). */
static const struct call calls[] = {
	/* What is open already. */
	{CALL(read), 0},
	{CALL(readv), 0},
	{CALL(pread64), 0},
	{CALL(preadv), 0},
	{CALL(preadv2), 0},
	{CALL(write), 0},
	{CALL(writev), 0},
	{CALL(pwrite64), 0},
	{CALL(pwritev), 0},
	{CALL(pwritev2), 0},
	{CALL(close), 0},
	{CALL(close_range), 0},
	{CALL(lseek), 0},
	{CALL(fstat), 0},
	{CALL(newfstatat), 0}, /* glibc's fstat() */
	{CALL(statx), 0},
	{CALL(fcntl), 0},
	{CALL(dup), 0},
	{CALL(dup2), 0},
	{CALL(dup3), 0},
	{CALL(pipe2), 0},
	{CALL(poll), 0},
	{CALL(ppoll), 0},
	{CALL(select), 0},
	{CALL(pselect6), 0},
	/* The older one is DPDK's thread of interrupts', each time a source comes or goes. */
	{CALL(epoll_create), 0},
	{CALL(epoll_create1), 0},
	{CALL(epoll_ctl), 0},
	{CALL(epoll_wait), 0},
	{CALL(epoll_pwait), 0},
	{CALL(epoll_pwait2), 0},
	{CALL(eventfd2), 0},
	{CALL(timerfd_create), 0},
	{CALL(timerfd_settime), 0},
	{CALL(send), 0}, /* POWER's glibc, and 32 bits; nowhere else a call of its own */
	{CALL(recv), 0},
	{CALL(sendto), 0},
	{CALL(sendmsg), 0},
	{CALL(sendmmsg), 0},
	{CALL(recvfrom), 0},
	{CALL(recvmsg), 0},
	{CALL(recvmmsg), 0},
	{CALL(shutdown), 0},
	{CALL(getsockopt), 0},
	{CALL(setsockopt), 0},
	{CALL(getsockname), 0},
	{CALL(getpeername), 0},
	{CALL(accept), 0},
	{CALL(accept4), 0},
	/* Memory, but for code: mmap() and mprotect() are below. */
	{CALL(brk), 0},
	{CALL(munmap), 0},
	{CALL(mremap), 0},
	{CALL(madvise), 0},
	{CALL(mlock), 0},
	{CALL(mlock2), 0},
	{CALL(munlock), 0},
	{CALL(mincore), 0},
	{CALL(msync), 0},
	/* Threads and time. */
	{CALL(futex), 0},
	{CALL(futex_waitv), 0},
	{CALL(set_robust_list), 0},
	{CALL(get_robust_list), 0},
	{CALL(rseq), 0},
	{CALL(membarrier), 0},
	{CALL(sched_yield), 0},
	{CALL(sched_getaffinity), 0},
	{CALL(sched_setaffinity), 0},
	{CALL(sched_getparam), 0},
	{CALL(sched_getscheduler), 0},
	{CALL(sched_get_priority_max), 0},
	{CALL(sched_get_priority_min), 0},
	{CALL(getcpu), 0},
	{CALL(nanosleep), 0},
	{CALL(clock_nanosleep), 0},
	{CALL(clock_gettime), 0},
	{CALL(clock_getres), 0},
	{CALL(gettimeofday), 0},
	{CALL(time), 0},
	{CALL(getrandom), 0},
	{CALL(restart_syscall), 0},
	{CALL(exit), 0},
	{CALL(exit_group), 0},
	/* Itself. */
	{CALL(getpid), 0},
	{CALL(gettid), 0},
	{CALL(getuid), 0},
	{CALL(geteuid), 0},
	{CALL(getgid), 0},
	{CALL(getegid), 0},
	{CALL(getrusage), 0},
	{CALL(sysinfo), 0},
	{CALL(uname), 0},
	{CALL(getrlimit), 0},
	{CALL(rt_sigaction), 0},
	{CALL(rt_sigprocmask), 0},
	{CALL(rt_sigreturn), 0},
	{CALL(rt_sigtimedwait), 0},
	{CALL(rt_sigpending), 0},
	{CALL(rt_sigsuspend), 0},
	{CALL(sigaltstack), 0},
	/* Harmless, and some version of a library may ask for them. */
	{CALL(eventfd), 0},
	{CALL(pipe), 0},
	{CALL(signalfd4), 0},
	{CALL(getppid), 0},
	{CALL(getpriority), 0},
	{CALL(times), 0},
	{CALL(arch_prctl), 0},

	{CALL(open), VIO_NEED_OPEN},
	{CALL(openat), VIO_NEED_OPEN},
	{CALL(access), VIO_NEED_OPEN},
	{CALL(faccessat), VIO_NEED_OPEN},
	{CALL(faccessat2), VIO_NEED_OPEN},
	{CALL(stat), VIO_NEED_OPEN},
	{CALL(lstat), VIO_NEED_OPEN},
	{CALL(readlink), VIO_NEED_OPEN},
	{CALL(readlinkat), VIO_NEED_OPEN},
	{CALL(getdents64), VIO_NEED_OPEN},
	{CALL(getcwd), VIO_NEED_OPEN},
	{CALL(statfs), VIO_NEED_OPEN},
	{CALL(fstatfs), VIO_NEED_OPEN},
	{CALL(ftruncate), VIO_NEED_OPEN | VIO_NEED_MEMORY},
	{CALL(rename), VIO_NEED_OPEN},
	{CALL(unlink), VIO_NEED_OPEN},
	{CALL(unlinkat), VIO_NEED_OPEN},
	{CALL(rmdir), VIO_NEED_OPEN},

	{CALL(fsync), VIO_NEED_STORE},
	{CALL(fdatasync), VIO_NEED_STORE},
	{CALL(sync_file_range), VIO_NEED_STORE},
	{CALL(fallocate), VIO_NEED_STORE | VIO_NEED_MEMORY},
	{CALL(fadvise64), VIO_NEED_STORE},
	{CALL(flock), VIO_NEED_STORE},
	{CALL(ioctl), VIO_NEED_STORE | VIO_NEED_NET},
	{CALL(io_uring_enter), VIO_NEED_STORE},
	{CALL(io_uring_register), VIO_NEED_STORE},
	{CALL(io_uring_setup), VIO_NEED_STORE},

	{CALL(connect), VIO_NEED_CONNECT | VIO_NEED_NET},
	{CALL(bind), VIO_NEED_CONNECT | VIO_NEED_NET},
	{CALL(listen), VIO_NEED_CONNECT},
	{CALL(socketpair), VIO_NEED_CONNECT},

	{CALL(pidfd_open), VIO_NEED_WATCH},

	{CALL(memfd_create), VIO_NEED_MEMORY},
	{CALL(mbind), VIO_NEED_MEMORY},
	{CALL(get_mempolicy), VIO_NEED_MEMORY},
	{CALL(set_mempolicy), VIO_NEED_MEMORY},
	{CALL(move_pages), VIO_NEED_MEMORY},
};

static int allow_socket(scmp_filter_ctx f, int family)
{
	return seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(socket), 1,
				SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)family));
}

/* Calls of which some uses only are a need. */
static int add_argument_rules(scmp_filter_ctx f, unsigned needs)
{
	const scmp_datum_t exec = PROT_EXEC, thread = CLONE_THREAD;
	const int maps[] = {CALL(mmap), CALL(mprotect)};
	scmp_datum_t self = (scmp_datum_t)getpid();
	int rc = 0;

	/*
	 * No memory that can be run. An error and not the end: glibc looks for modules when a name is to be resolved, and does
	 * without those that it can't load.
	 */
	for (size_t i = 0; i < VIO_ARRAY_SIZE(maps); i++) {
		rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, maps[i], 1,
				       SCMP_A2(SCMP_CMP_MASKED_EQ, exec, 0));
		rc |= seccomp_rule_add(f, SCMP_ACT_ERRNO(EACCES), maps[i], 1,
				       SCMP_A2(SCMP_CMP_MASKED_EQ, exec, exec));
	}
	/* Threads, not processes. What clone3() is asked for lies in memory, where no filter sees it: glibc falls back. */
	rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(clone), 1,
			       SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
	rc |= seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0);
	/* Signals to itself: abort(), raise(), pthread_kill(). */
	rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, self));
	rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(kill), 1, SCMP_A0(SCMP_CMP_EQ, self));
	rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(prctl), 1,
			       SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	/* Limits may be asked for, not set. */
	rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0));
	/* Terminals' settings, which stdio looks at. */
	if (!(needs & (VIO_NEED_STORE | VIO_NEED_NET)))
		rc |= seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOTTY), CALL(ioctl), 0);
	if (needs & (VIO_NEED_CONNECT | VIO_NEED_NET)) {
		rc |= allow_socket(f, AF_UNIX);
		rc |= allow_socket(f, AF_INET);
		rc |= allow_socket(f, AF_INET6);
		rc |= allow_socket(f, AF_VSOCK);
		rc |= allow_socket(
			f,
			AF_NETLINK); /* interfaces; glibc's addresses; what connections there are */
	}
	return rc;
}

static int sandbox_fill(scmp_filter_ctx f, unsigned needs)
{
	int rc = 0;

	for (size_t i = 0; i < VIO_ARRAY_SIZE(calls) && rc == 0; i++) {
		if (calls[i].need && !(calls[i].need & needs))
			continue;
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i].nr, 0);
		if (rc == -EDOM)
			rc = 0; /* not a call of this processor's kernel */
	}
	return rc ? rc : add_argument_rules(f, needs);
}

/* Append text. Async-signal-safe, as all of refused() is. */
static char *sandbox_put(char *to, const char *end, const char *text)
{
	while (*text && to < end)
		*to++ = *text++;
	return to;
}

/* The kernel has not made the call. One write, which no other thread's line can part, and the end. */
static void refused(int sig, siginfo_t *info, void *context)
{
	char line[256], number[12], *p = number + sizeof(number), *to = line;
	const char *end = line + sizeof(line);
	unsigned n = (unsigned)info->si_syscall;

	(void)context;
	*--p = '\0';
	do {
		*--p = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	to = sandbox_put(to, end, program_invocation_short_name);
	to = sandbox_put(to, end, ": system call ");
	to = sandbox_put(to, end, p);
	to = sandbox_put(
		to, end,
		" is not one that this program needs once it runs: ended. If it does need it (a library's other version?), --sandbox off runs without the check\n");
	if (write(STDERR_FILENO, line, (size_t)(to - line)) < 0)
		*line = '\0'; /* nobody reads it: the signal says the rest */
	signal(sig, SIG_DFL);
	raise(sig);
}

static int become(const char *name, struct vio_err *err)
{
	const struct passwd *p;

	errno = 0;
	p = getpwnam(name);
	if (!p)
		return vio_err_set(err, errno && errno != ENOENT ? -errno : -ENOENT,
				   "--user %s: there is no such user", name);
	if (p->pw_uid == geteuid() && p->pw_uid == getuid())
		return 0;
	if (initgroups(name, p->pw_gid) || setresgid(p->pw_gid, p->pw_gid, p->pw_gid) ||
	    setresuid(p->pw_uid, p->pw_uid, p->pw_uid))
		return vio_err_set(
			err, -errno, "--user %s: %s%s", name, strerror(errno),
			errno == EPERM ? " (who is to become another user starts as root)" : "");
	if (p->pw_uid != 0 && setresuid(0, 0, 0) == 0)
		return vio_err_set(err, -EPERM, "--user %s: root's rights could be taken back",
				   name);
	return 0;
}

int vio_sandbox_enter(const struct vio_sandbox *s, unsigned needs, struct vio_err *err)
{
	struct sigaction sa = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO};
	scmp_filter_ctx f;
	int rc = s->user ? become(s->user, err) : 0;

	if (rc || !s->on)
		return rc;
	sigaction(SIGSYS, &sa, NULL);
	f = seccomp_init(SCMP_ACT_TRAP);
	if (!f)
		return vio_err_set(err, -ENOMEM, "--sandbox: no memory for the list of calls");
	rc = seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1);
	/* A look-up by halves instead of a walk: the calls of a polling loop stay cheap wherever they stand. */
	if (rc == 0)
		rc = seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (rc == 0)
		rc = sandbox_fill(f, needs);
	if (rc == 0)
		rc = seccomp_load(f);
	seccomp_release(f);
	return rc ? vio_err_set(
			    err, rc < 0 ? rc : -EINVAL,
			    "--sandbox on: the kernel does not take the list of system calls (%s); --sandbox off runs without it",
			    strerror(rc < 0 ? -rc : EINVAL))
		  : 0;
}
