#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Killing any program in the middle of traffic: the others say what happened, nothing hangs, the disk works again."""

import os
import signal
import tempfile
import time
import unittest

from common import ARMS, BUILD, SLOW, Machine, count, main, telemetry, until

LOAD = ["--rw", "randmixed", "--bs", "4k", "--depth", "16", "--span", "4M", "--warm-seconds", "0"]


def command_lines():
    """Of every process but this one."""
    out = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                line = f.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if int(pid) != os.getpid():
            out.append(line)
    return out


# Ways and layouts whose returns are looked at; in slow builds those that share no code (guest/blk_recover has them all there).
RETURNS = [*(a for a in ARMS if not SLOW or a in ("copy", "zero-copy")), "zero-copy,layout=packed-in-order",
           *([] if SLOW else ["copy,layout=split-in-order"])]
# Where a guest stands still: with the locks of both queues (CRQ calls), in the middle of its memory's (grants, TCEs).
STOPS = (("copy", "H_REG_CRQ@1=STOP"), ("copy", "H_SEND_CRQ@4=STOP"), ("copy", "H_SEND_CRQ@20=STOP"),
         ("copy", "H_PUT_TCE_INDIRECT@40=STOP"), ("zero-copy", "H_GRANT_LOGICAL@2=STOP"))


def two_guests():
    return Machine(BUILD, phypd_args=["--guests", "2", "--server-memory", "128"],
                   vios_args=["--disk", "memory,size=32M", "--disk", "memory,size=32M"])


def stopped(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0] == "T"


class Kill(unittest.TestCase):
    def machine(self, disk="memory,size=32M"):
        return Machine(BUILD, phypd_args=["--server-memory", "96"], vios_args=["--disk", disk])

    def at_work(self, m, g, adapter=0):
        """Until the guest's measured requests are under way: it reads none before."""
        def reads():
            self.assertTrue(g.alive(), g.log())
            q = telemetry(m, f"/vio/queue,{adapter},0")[0]
            return q and q["reads"] > 20
        until(reads, "the guest's requests")

    def check_disk(self, m, arm, partition="guest0"):
        r = m.guest(["--partition", partition, "--arm", arm, *LOAD, "--count", count(2000)])
        self.assertEqual(r["run"]["mismatches"], 0)

    def test_a_killed_guest_is_noticed_and_a_new_one_finds_the_disk_working(self):
        for arm in ARMS:
            with self.subTest(arm=arm), self.machine() as m:
                g = m.start_guest(["--arm", arm, *LOAD, "--seconds", "60"])
                self.at_work(m, g)
                g.kill()
                until(lambda: "guest0" in m.phypd.log() and "gone" in m.phypd.log(), "phypd's word on the death")
                until(lambda: "guest0" in m.vios.log(), "the server's word on the death")
                self.check_disk(m, arm)
                self.assertTrue(m.vios.alive())

    def test_a_killed_server_comes_back_and_the_guest_goes_on_without_losing_a_request(self):
        for arm in RETURNS:
            with self.subTest(arm=arm), tempfile.NamedTemporaryFile(suffix=".img") as image:
                image.truncate(32 << 20)
                with self.machine(f"file,path={image.name}") as m:
                    g = m.start_guest(["--arm", arm, *LOAD, "--seconds", "2"])
                    self.at_work(m, g)
                    m.vios.kill()
                    until(lambda: "server has gone" in g.log(), "the guest's word on the server's death")
                    m.start_vios()
                    g.proc.wait(60)
                    self.assertEqual(g.proc.returncode, 0, g.log() + m.vios.log())

    def test_a_guest_whose_server_is_away_ends_when_told_to(self):
        for sig in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(sig=sig), self.machine() as m:
                g = m.start_guest(["--arm", "zero-copy", *LOAD, "--seconds", "60"])
                self.at_work(m, g)
                m.vios.kill()
                until(lambda: "server has gone" in g.log(), "the guest's word on the server's death")
                g.signal(sig)
                g.proc.wait(20)
                self.assertIn("outstanding", g.log())

    def test_a_server_with_another_image_gets_no_request_and_the_right_one_all(self):
        with tempfile.NamedTemporaryFile(suffix=".img") as right, tempfile.NamedTemporaryFile(suffix=".img") as wrong:
            right.truncate(32 << 20)
            with self.machine(f"file,path={right.name}") as m:
                g = m.start_guest(["--arm", "zero-copy", *LOAD, "--seconds", "2"])
                self.at_work(m, g)
                m.vios.kill()
                m.vios_args = ["--disk", f"file,path={wrong.name}"]
                for n, mib in enumerate((32, 48), 1):  # neither the same size nor a larger one makes it the right one
                    wrong.truncate(mib << 20)
                    m.start_vios()
                    until(lambda k=n: g.log().count("another disk") == k, "the guest's word on the other disk")
                    time.sleep(0.2)
                    m.vios.stop()
                    wrong.seek(0)
                    self.assertFalse(any(wrong.read()), "the other image was written to")
                m.vios_args = ["--disk", f"file,path={right.name}"]
                m.start_vios()
                g.proc.wait(60)
                self.assertEqual(g.proc.returncode, 0, g.log() + m.vios.log())

    def test_a_killed_phypd_ends_the_machine_and_everybody_says_so(self):
        with self.machine() as m:
            g = m.start_guest(["--arm", "zero-copy", *LOAD, "--seconds", "60"])
            self.at_work(m, g)
            m.phypd.kill()
            g.proc.wait(20)
            self.assertNotEqual(g.proc.returncode, 0)
            self.assertIn("phypd", g.log())
            m.vios.proc.wait(20)
            self.assertNotEqual(m.vios.proc.returncode, 0)
            self.assertIn("phypd", m.vios.log())
            # The socket of a dead phypd is no obstacle to the next.
            m.start_phypd()
            m.start_vios()
            self.check_disk(m, "zero-copy")

    def test_without_phypd_no_buffer_comes_back_while_the_servers_process_may_still_use_it(self):
        for arm in ("zero-copy", "copy"):
            with self.subTest(arm=arm), tempfile.NamedTemporaryFile(suffix=".img") as image:
                image.truncate(32 << 20)
                with self.machine(f"file,path={image.name}") as m:
                    g = m.start_guest(["--arm", arm, *LOAD, "--seconds", "60"])
                    self.at_work(m, g)
                    m.vios.signal(signal.SIGSTOP)
                    m.phypd.kill()
                    until(lambda: "server's process to end" in g.log(), "the guest's word that it waits")
                    time.sleep(0.5)
                    self.assertTrue(g.alive(), g.log())
                    self.assertNotIn("end with an error", g.log())
                    m.vios.signal(signal.SIGCONT)
                    g.proc.wait(20)
                    self.assertNotEqual(g.proc.returncode, 0)
                    self.assertIn("end with an error", g.log())

    def test_a_killed_guest_disturbs_no_other_guest(self):
        with Machine(BUILD, phypd_args=["--guests", "2", "--server-memory", "128"],
                     vios_args=["--disk", "memory,size=32M", "--disk", "memory,size=32M"]) as m:
            a = m.start_guest(["--partition", "guest0", "--arm", "zero-copy", *LOAD, "--seconds", "60"])
            b = m.start_guest(["--partition", "guest1", "--arm", "copy", *LOAD, "--seconds", "2"])
            self.at_work(m, a)
            self.at_work(m, b, 1)
            a.kill()
            b.proc.wait(60)
            self.assertEqual(b.proc.returncode, 0, b.log())

    def test_a_guest_that_dies_inside_a_hypercall_blocks_nobody(self):
        for spec in ("H_SEND_CRQ@20=DIE", "H_PUT_TCE_INDIRECT@40=DIE", "H_GRANT_LOGICAL@2=DIE"):
            arm = "zero-copy" if "GRANT" in spec else "copy"
            with self.subTest(spec=spec), self.machine() as m:
                g = m.start_guest(["--arm", arm, *LOAD, "--seconds", "5", "--fault", spec])
                g.proc.wait(20)
                self.assertEqual(g.proc.returncode, -9, g.log())
                self.check_disk(m, arm)

    def test_a_guest_stopped_inside_a_hypercall_keeps_nobody_waiting(self):
        # The neighbour needs the lcore that serves both; then the server is killed, comes back, and phypd is asked to end.
        for arm, spec in STOPS[::2] if SLOW else STOPS:
            with self.subTest(arm=arm, spec=spec), two_guests() as m:
                a = m.start_guest(["--partition", "guest0", "--arm", arm, *LOAD, "--seconds", "60", "--fault", spec])
                self.addCleanup(a.kill)
                until(lambda: stopped(a.proc.pid), "guest0 to stand still")
                for n in ("zero-copy", "copy"):
                    self.check_disk(m, n, "guest1")
                m.vios.kill()
                until(lambda: "partition vios" in m.phypd.log() and "gone" in m.phypd.log(), "phypd's word on the death")
                m.start_vios()
                self.check_disk(m, "zero-copy", "guest1")
                self.assertTrue(stopped(a.proc.pid))
                m.phypd.signal(signal.SIGTERM)
                m.phypd.proc.wait(20)
                self.assertEqual(m.phypd.proc.returncode, 0, m.phypd.log())

    def test_a_guest_stopped_inside_a_hypercall_goes_on_when_it_is_continued(self):
        for arm, spec in STOPS[1::3] if SLOW else STOPS:
            with self.subTest(arm=arm, spec=spec), two_guests() as m:
                a = m.start_guest(["--partition", "guest0", "--arm", arm, *LOAD, "--seconds", "2", "--fault", spec])
                self.addCleanup(a.kill)
                until(lambda: stopped(a.proc.pid), "guest0 to stand still")
                self.check_disk(m, "copy", "guest1")
                a.signal(signal.SIGCONT)
                a.proc.wait(60)
                self.assertEqual(a.proc.returncode, 0, a.log())

    def test_no_file_socket_or_process_is_left_behind(self):
        before = set(os.listdir("/dev/shm")) | set(os.listdir("/dev/hugepages") if os.path.isdir("/dev/hugepages") else [])
        with self.machine() as m:
            self.check_disk(m, "zero-copy")
            names, socket = m.dir, m.socket
        self.assertFalse(os.path.exists(socket))
        after = set(os.listdir("/dev/shm")) | set(os.listdir("/dev/hugepages") if os.path.isdir("/dev/hugepages") else [])
        self.assertEqual(after - before, set())
        self.assertEqual([c for c in command_lines() if names in c], [])


if __name__ == "__main__":
    main()
