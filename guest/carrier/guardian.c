/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "guest/carrier/guardian.h"
#include "proto/mailbox.h"
#include "vio/atomics.h"
#include "vio/phyp.h"

/* The hypervisor is asked for the partition so often, and so many times: a minute. */
#define GUARDIAN_PAUSE_US 100000
#define GUARDIAN_TRIES    600

/* Nobody touches what the dead carrier's partition had. Or nobody knows: then the machine goes on waiting. */
static bool guardian_is_over(const char *phypd, const char *partition)
{
	for (unsigned i = 0; i < GUARDIAN_TRIES; i++) {
		struct phyp_part *part;
		struct vio_err err;

		if (phyp_connect(phypd, partition, &part, &err) == 0) {
			phyp_close(part);
			return true;
		}
		usleep(GUARDIAN_PAUSE_US);
	}
	return false;
}

_Noreturn static void guardian_main(const struct vio_ivshmem *iv, int carrier, const char *phypd,
				    const char *partition)
{
	struct vio_mb_head *head = iv->va;
	const uint64_t one = 1;
	char byte;

	/* Whoever stops the carrier by a signal to the group stops it, and not us. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	close(iv->listener);
	while (read(carrier, &byte, 1) < 0 && errno == EINTR)
		;
	if (vio_load_acquire(&head->up) && guardian_is_over(phypd, partition)) {
		vio_store_release(&head->up, 0u);
		while (write(iv->interrupt, &one, sizeof(one)) < 0 && errno == EINTR)
			;
	}
	_exit(0);
}

int vio_guardian_start(const struct vio_ivshmem *iv, const char *phypd, const char *partition,
		       struct vio_err *err)
{
	int ends[2];
	pid_t pid;

	if (pipe(ends))
		return vio_err_set(err, -errno, "a pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return vio_err_set(err, -errno, "a process: %s", strerror(errno));
	if (pid == 0) {
		close(ends[1]);
		guardian_main(iv, ends[0], phypd, partition);
	}
	close(ends[0]);
	return 0; /* the other end is open as long as we live */
}
