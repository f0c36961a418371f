#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""In the zero-copy arm the server's address space has the granted pages of the guest and no others; and each program has given up the
system calls that it has no need of."""

import json
import os
import re
import signal
import socket
import tempfile
import time
import unittest

from common import BUILD, SLOW, Machine, Program, count, main, until

LOAD = ["--rw", "randmixed", "--depth", "8", "--span", "4M", "--seconds", "60"]
MAP = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (....) ([0-9a-f]+) \S+ \d+\s+(.*)$")


def guest_maps(m, who="guest0"):
    """(permissions, bytes) of every mapping of that partition's memory in the server's process."""
    out = []
    with open(f"/proc/{m.vios.proc.pid}/maps") as f:
        for line in f:
            g = MAP.match(line)
            if g and f"lmb-{who}" in g.group(5):
                out.append((g.group(3), int(g.group(2), 16) - int(g.group(1), 16)))
    return out


class Carried(Machine):
    """The guest's calls are made by vio-mailbox, in another process."""

    def __enter__(self):
        super().__enter__()
        try:
            self.mailbox = Program("vio-mailbox", [self.path("guest/vio-mailbox"), "--phypd", self.socket, "--socket",
                                                   self.dir + "/mb", "--ram-link", self.dir + "/ram", "--ready-fd", "@READY"], self.dir)
            self.mailbox.wait_ready(30)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exc):
        if getattr(self, "mailbox", None):
            self.mailbox.stop()
        super().__exit__(*exc)

    def start_phypd(self):
        profile = os.path.join(self.dir, "profile.json")
        with open(profile, "w", encoding="utf-8") as f:
            json.dump({"partitions": [{"name": "vios", "memory_mib": 128},
                                      {"name": "guest0", "memory_mib": 64, "lmb_mib": 64, "pages": "4k"}],
                       "adapters": [{"server": "vios", "client": "guest0"}]}, f)
        self.phypd_args = ["--profile", profile]
        super().start_phypd()

    def guest_argv(self, args):
        argv = super().guest_argv(args)
        argv[argv.index("--phyp") + 1] = f"mailbox:{self.dir}/mb,{self.dir}/ram"
        return argv


def mapped(pid, what):
    """Mappings of the hypervisor's segment (vio-phyp), or of the mailboxes (vio-mailbox), in that process."""
    with open(f"/proc/{pid}/maps") as f:
        return [line for line in f if "memfd:" + what in line]


class Isolation(unittest.TestCase):
    def during(self, arm):
        """The server's view of the guest's memory in the middle of traffic, and what the guest granted."""
        with Machine(BUILD, vios_args=["--disk", "memory,size=16M"]) as m:
            granted = m.guest(["--arm", arm, "--depth", "8", "--info"])["granted_bytes"]
            g = m.start_guest(["--arm", arm, *LOAD])
            time.sleep(1.5)
            self.assertTrue(g.alive(), g.log())
            maps = guest_maps(m)
            g.kill()
            return maps, granted

    def test_zero_copy_maps_exactly_what_was_granted(self):
        maps, granted = self.during("zero-copy")
        self.assertGreater(granted, 0)
        self.assertEqual(sum(n for _, n in maps), granted, maps)

    def test_descriptor_table_and_available_ring_are_mapped_read_only(self):
        maps, _ = self.during("zero-copy")
        self.assertIn("r--s", [p for p, _ in maps])
        self.assertFalse([p for p, _ in maps if "x" in p])

    def test_the_check_can_see_a_whole_guest_where_an_arm_needs_it(self):
        # The copy arm's hypervisor alias is the counter-example: a check that passed there would prove nothing.
        maps, granted = self.during("copy")
        self.assertEqual(granted, 0)
        self.assertGreater(sum(n for _, n in maps), 32 << 20)

    def test_nothing_of_a_dead_guest_stays_mapped(self):
        with Machine(BUILD, vios_args=["--disk", "memory,size=16M"]) as m:
            g = m.start_guest(["--arm", "zero-copy", *LOAD])
            time.sleep(1)
            g.kill()
            for _ in range(500):
                if not guest_maps(m):
                    return
                time.sleep(0.02)
            self.fail(f"still mapped 10 s after the guest died: {guest_maps(m)}")

    def test_a_guest_by_mailbox_works_in_every_arm_and_maps_nothing_of_the_hypervisor(self):
        with Carried(BUILD, vios_args=["--disk", "memory,size=16M"]) as m:
            for arm in ("copy", "zero-copy"):
                run = m.guest(["--arm", arm, "--rw", "randmixed", "--depth", "8", "--span", "4M", "--count", count(200), "--warm-seconds", "0"])["run"]
                self.assertEqual((run["errors"], run["mismatches"]), (0, 0), arm)
            g = m.start_guest(["--arm", "copy", *LOAD])
            until(lambda: mapped(g.proc.pid, "vio-mailbox"), "a guest with mailboxes")
            self.assertEqual(mapped(g.proc.pid, "vio-phyp"), [])
            # The check sees it where it is.
            self.assertTrue(mapped(m.mailbox.proc.pid, "vio-phyp"))
            g.kill()
            # What a killed one left does not keep the next one out.
            self.assertEqual(m.guest(["--arm", "zero-copy", "--rw", "randmixed", "--count", "64"])["run"]["mismatches"], 0)


@unittest.skipIf(SLOW, "off by default in sanitizer builds")
class Sandbox(unittest.TestCase):
    def under(self, pid):
        """Of all its threads."""
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status") as f:
                if "Seccomp:\t2\n" not in f.read():
                    return False
        return True

    def test_hypervisor_server_and_guest_run_under_a_list_of_calls(self):
        with Machine(BUILD, vios_args=["--disk", "memory,size=16M"]) as m:
            g = m.start_guest(["--arm", "copy", *LOAD])
            for p in (m.phypd, m.vios, g):
                until(lambda p=p: self.under(p.proc.pid), "a program under its list of calls")
            g.kill()

    def test_the_carrier_of_a_virtual_machine_runs_so_from_its_start_to_its_end(self):
        partitions = [{"name": "vios", "memory_mib": 96}, {"name": "vm", "memory_mib": 32, "lmb_mib": 32, "pages": "4k"}]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as profile:
            json.dump({"partitions": partitions, "adapters": [{"server": "vios", "client": "vm"}]}, profile)
            profile.flush()
            self.carry(["--profile", profile.name])

    def carry(self, phypd_args):
        with Machine(BUILD, phypd_args=phypd_args, vios_args=["--disk", "memory,size=16M"]) as m:
            sock, ram, stats = (os.path.join(m.dir, n) for n in ("vm.sock", "ram", "stats.json"))
            p = Program("vio-mailbox", [m.path("guest/vio-mailbox"), "--phypd", m.socket, "--partition", "vm", "--socket", sock, "--ram-link", ram,
                                        "--stats", stats, "--ready-fd", "@READY"], m.dir)
            self.addCleanup(p.stop)
            p.wait_ready(30)
            self.assertTrue(self.under(p.proc.pid))
            # A machine comes, goes, and another one comes: nothing of that is refused.
            for n in (1, 2):
                with socket.socket(socket.AF_UNIX) as s:
                    s.settimeout(20)
                    s.connect(sock)
                    got, fds, *_ = socket.recv_fds(s, 64, 8)
                    self.assertTrue(got, p.log())
                    # Who leaves in the middle of the greeting has never come.
                    until(lambda n=n: p.log().count("a virtual machine is partition") == n, "the carrier's word on the machine")
                    for fd in fds:
                        os.close(fd)
                until(lambda n=n: p.log().count("went away") == n, "the carrier's word on the machine's end")
            p.signal(signal.SIGUSR1)
            until(lambda: os.path.exists(stats), "counters")
            p.signal(signal.SIGTERM)
            self.assertEqual(p.proc.wait(20), 0, p.log())
            self.assertFalse(os.path.lexists(ram) or os.path.exists(sock))


if __name__ == "__main__":
    main()
