/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Processes for test_phypd: phypd itself, and a guest partition in a process of its own that does
 * what it is told over a pipe, one letter a command, one line an answer. The guest is this program
 * executed again, so that no thread meets a fork.
 */
#ifndef TESTS_PHYP_CHILD_H
#define TESTS_PHYP_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

struct child {
	pid_t pid;
	int to, from; /* its standard input and output; -1: none */
};

/*
 * argv[0] is executed. With pipes: both ends as above; else output goes to the file `log` (NULL:
 * where ours goes).
 */
struct child child_start(char *const argv[], bool pipes, const char *log);
/* Its exit code, or 128 + signal. Closes the pipes. */
int child_wait(struct child *c);
int child_kill(struct child *c, int sig);
/* Send a command, return the number that it answers. The test fails when the child ends instead. */
long long child_ask(struct child *c, char command);

/* The guest's side: serve commands until 'q' or the end of input. Returns the exit code. */
int guest_main(const char *socket, const char *partition);

/*
 * A test program's beginning, PROGRAM PHYPD: *phypd is argv[1]. Not negative: the process is to end with that code, because
 * it was a guest, or was called wrongly.
 */
int child_begin(int argc, char **argv, const char **phypd);

/*
 * Guest's commands
 *  c  connect, map 4 MiB from 2 MiB 1:1, register a queue, interrupt on -> H_REG_CRQ's answer, or -errno
 *  m  first byte of its page at 2 MiB
 *  M  write 0x5a there -> 0
 *  g  grant the page at 3 MiB, read and write -> cookie
 *  r  take that grant back by force -> number of H_PARTIAL before H_SUCCESS, or -1
 *  s  send an entry -> H_SEND_CRQ's answer
 *  w  wait for an interrupt, without limit -> phyp_vcpu_wait()'s answer
 *  e  next entry of its queue -> its first two bytes, 0: none
 *  a  phyp_alive()
 *  x  close the partition -> 0
 */

#endif
