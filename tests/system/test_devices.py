#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""vio-rng, vio-console and vio-9p against real servers, in every named arm."""

import collections
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from common import ARMS, BUILD, ROOT, Machine, main, telemetry, until
from machine import MachineError, die_with_parent

sys.path.insert(0, os.path.join(ROOT, "guest"))
from vm.share import Diod  # noqa: E402


def run(m, program, args, stdin=b"", seconds=60):
    return subprocess.run([m.path("guest", program), "--phyp", m.socket, *args], input=stdin, capture_output=True, timeout=seconds,
                          preexec_fn=die_with_parent, check=False)


class Person:
    """Somebody at a console: a socket, and what came out of it."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.s.settimeout(0.05)
        self.seen = b""

    def look(self):
        try:
            self.seen += self.s.recv(65536)
        except TimeoutError:
            pass
        return self.seen

    def type(self, data):
        self.s.settimeout(30)
        self.s.sendall(data)
        self.s.settimeout(0.05)

    def close(self):
        self.s.close()


class Rng(unittest.TestCase):
    def test_bytes_are_random_and_as_many_as_asked_for(self):
        with Machine(BUILD, vios_args=["--rng", "rate=64M"]) as m:
            seen = set()
            for arm in [*ARMS, "zero-copy,layout=packed", "copy,layout=packed-in-order", "zero-copy,notify=crq"]:
                with self.subTest(arm=arm):
                    r = run(m, "vio-rng", ["--arm", arm, "--bytes", "100k"])
                    self.assertEqual(r.returncode, 0, r.stderr)
                    self.assertEqual(len(r.stdout), 102400)
                    counts = collections.Counter(r.stdout)
                    self.assertEqual(len(counts), 256)
                    self.assertLess(max(counts.values()), 800)
                    self.assertNotIn(r.stdout[:64], seen)
                    seen.add(r.stdout[:64])
            said = telemetry(m, "/vio/device,0")[0]
            self.assertEqual(said["kind"], "rng")
            self.assertGreaterEqual(said["bytes_given"], len(seen) * 102400)

    def test_the_right_kind_is_needed(self):
        with Machine(BUILD, vios_args=["--disk", "null"]) as m:
            r = run(m, "vio-rng", [])
            self.assertEqual(r.returncode, 1)
            self.assertIn(b"of another kind", r.stderr)
            self.assertEqual(r.stdout, b"")

    def test_a_server_that_is_killed_and_started_again_goes_on_giving(self):
        with Machine(BUILD, vios_args=["--rng", "rate=1M"]) as m:
            with subprocess.Popen([m.path("guest/vio-rng"), "--phyp", m.socket, "--bytes", "3M"], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, bufsize=0, preexec_fn=die_with_parent) as p:
                got = len(p.stdout.read(50000))
                m.vios.kill()
                m.start_vios()
                rest, said = p.communicate(timeout=60)
                self.assertEqual(p.returncode, 0, said)
                self.assertEqual(got + len(rest), 3 << 20)
                self.assertIn(b"is back", said)

    def test_wrong_use_is_said(self):
        for spec, part in ((["--rng", "rate=0"], "--rng rate=0: rate=0: bytes a second"),
                           (["--console", "size=80x24"], "say where it is carried to"),
                           (["--console", "socket=/nowhere/x"], "No such file or directory"),
                           (["--rng="] * 2, "2 devices, but partition vios has 1 adapter")):
            with self.assertRaises(MachineError) as e, Machine(BUILD, vios_args=spec):
                pass
            self.assertIn(part, str(e.exception))


class Share(unittest.TestCase):
    """A folder that diod serves."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="vio-share-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.socket, self.folder = os.path.join(self.dir, "socket"), os.path.join(self.dir, "share")
        os.mkdir(self.folder)
        self.serve()

    def serve(self):
        self.diod = Diod(self.socket, self.folder)
        self.addCleanup(self.diod.stop)

    def guest(self, m, args, stdin=b""):
        return run(m, "vio-9p", ["--aname", self.folder, *args], stdin)

    def machine(self):
        return Machine(BUILD, vios_args=["--9p", f"tag=share,socket={self.socket}"])

    def test_files_go_both_ways_in_every_arm(self):
        data = os.urandom(300_000)
        with open(os.path.join(self.folder, "of the host"), "wb") as f:
            f.write(data)
        os.mkdir(os.path.join(self.folder, "many"))
        many = {f"file {i}" for i in range(300)}  # more than one answer holds
        for name in many:
            with open(os.path.join(self.folder, "many", name), "wb"):
                pass
        with self.machine() as m:
            for arm in [*ARMS, "zero-copy,layout=packed", "copy,layout=packed-in-order"]:
                with self.subTest(arm=arm):
                    r = self.guest(m, ["--arm", arm, "--put", "many/of the guest"], data[::-1])
                    self.assertEqual(r.returncode, 0, r.stderr)
                    with open(os.path.join(self.folder, "many", "of the guest"), "rb") as f:
                        self.assertEqual(f.read(), data[::-1])
                    r = self.guest(m, ["--arm", arm, "--get", "of the host"])
                    self.assertEqual((r.returncode, r.stdout == data), (0, True), r.stderr)
            r = self.guest(m, ["--list", "many"])
            self.assertEqual(set(r.stdout.decode().splitlines()), many | {"of the guest", ".", ".."})
            r = self.guest(m, ["--get", "nothing"])
            self.assertEqual((r.returncode, b"No such file" in r.stderr), (1, True), r.stderr)
            said = telemetry(m, "/vio/device,0")[0]
            self.assertEqual((said["kind"], said["connections"], said["losses"], said["failed"]), ("9p", 14, 0, 0))

    def test_without_its_server_a_guest_gets_errors_and_with_a_new_one_it_goes_on(self):
        with self.machine() as m:
            self.assertEqual(self.guest(m, ["--list", "/"]).returncode, 0)
            self.diod.stop()
            r = self.guest(m, ["--list", "/"])
            self.assertEqual((r.returncode, b"mount share: Input/output error" in r.stderr), (1, True), r.stderr)
            self.serve()
            # One that dies under a guest that writes without end.
            p = subprocess.Popen([m.path("guest/vio-9p"), "--phyp", m.socket, "--aname", self.folder, "--put", "endless"], stdin=subprocess.PIPE,
                                 stderr=subprocess.PIPE, preexec_fn=die_with_parent)
            with contextlib.suppress(BrokenPipeError):
                for i in range(10_000):
                    p.stdin.write(bytes(65536))
                    if i == 20:
                        self.diod.stop()
            _, said = p.communicate(timeout=60) if not p.stdin.closed else (None, p.stderr.read())
            self.assertEqual((p.returncode, b"put endless: Input/output error" in said), (1, True), said)
            self.serve()
            self.assertIn(b"endless", self.guest(m, ["--list", "/"]).stdout)

    def test_wrong_use_is_said(self):
        for spec, part in (("tag=share", "socket=PATH (diod"), ("socket=/x", "under which name the guest mounts it")):
            with self.assertRaises(MachineError) as e, Machine(BUILD, vios_args=["--9p", spec]):
                pass
            self.assertIn(part, str(e.exception))


class Console(unittest.TestCase):
    def machine(self, more=""):
        # The socket's path is known before the machine's own folder is.
        self.path = f"/tmp/vio-console-{os.getpid()}-{time.monotonic_ns()}"
        return Machine(BUILD, vios_args=["--console", f"socket={self.path}{more}"])

    def guest(self, m, args):
        p = subprocess.Popen([m.path("guest/vio-console"), "--phyp", m.socket, "--stay", *args], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=die_with_parent)
        os.set_blocking(p.stdout.fileno(), False)
        self.addCleanup(lambda: (p.kill(), p.wait(), p.stdin.close(), p.stdout.close(), p.stderr.close()))
        return p

    def printed(self, p, want):
        """What the guest prints, until it ends in `want`."""
        out = b""

        def more():
            nonlocal out
            out += p.stdout.read() or b""
            return out.endswith(want)
        try:
            until(more, f"the guest to print {want!r}")
        except AssertionError as e:
            raise AssertionError(f"{e}: {out[-200:]!r}") from None
        return out

    def test_both_ways_in_every_arm(self):
        with self.machine() as m:
            for arm in ARMS:
                with self.subTest(arm=arm):
                    who, p = Person(self.path), self.guest(m, ["--arm", arm])
                    p.stdin.write(b"login: ")
                    p.stdin.flush()
                    until(lambda: who.look().endswith(b"login: "), "the prompt")
                    who.type(b"root\n")
                    self.printed(p, b"root\n")
                    p.send_signal(signal.SIGTERM)
                    self.assertEqual(p.wait(20), 0)
                    who.close()
                    until(lambda: not telemetry(m, "/vio/device,0")[0]["connected"], "the hanging up")

    def test_a_megabyte_each_way_is_whole(self):
        data = os.urandom(1 << 20)
        with self.machine() as m:
            who = Person(self.path)
            r = subprocess.Popen([m.path("guest/vio-console"), "--phyp", m.socket], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                 bufsize=0, preexec_fn=die_with_parent)
            os.set_blocking(r.stdin.fileno(), False)
            sent = 0

            def done():
                nonlocal sent
                if sent < len(data):
                    sent += r.stdin.write(data[sent:sent + 65536]) or 0
                return len(who.look()) >= len(data)
            until(done, "a megabyte", 60)
            r.stdin.close()
            self.assertEqual(r.wait(20), 0)
            self.assertEqual(who.seen, data)
            p = self.guest(m, [])
            typing = threading.Thread(target=who.type, args=(data,))
            typing.start()
            self.assertEqual(self.printed(p, data[-20:]), data)
            typing.join()
            self.assertEqual(telemetry(m, "/vio/device,0")[0]["bytes_lost"], 0)
            who.close()

    def test_what_was_said_before_somebody_came_is_kept(self):
        with self.machine() as m:
            r = run(m, "vio-console", [], b"booting\nready\n")
            self.assertEqual(r.returncode, 0, r.stderr)
            who = Person(self.path)
            until(lambda: who.look() == b"booting\nready\n", "what was kept")
            who.close()

    def test_person_and_server_come_again(self):
        with self.machine() as m:
            p = self.guest(m, [])
            for i in range(3):
                who = Person(self.path)
                who.type(b"hello %d\n" % i)
                self.printed(p, b"hello %d\n" % i)
                who.close()
            m.vios.kill()
            m.start_vios()
            who = Person(self.path)
            who.type(b"again\n")
            self.printed(p, b"again\n")
            p.stdin.write(b"yes\n")
            p.stdin.flush()
            until(lambda: who.look().endswith(b"yes\n"), "an answer through the new server")
            who.close()

    def test_size_reaches_the_guest(self):
        with self.machine(",size=132x43") as m:
            r = run(m, "vio-console", ["--info"])
            self.assertIn(b"132 columns, 43 rows", r.stderr)

    def test_a_terminal_with_a_link(self):
        link = f"/tmp/vio-pty-{os.getpid()}"
        with Machine(BUILD, vios_args=["--console", f"pty={link}"]) as m:
            p = self.guest(m, [])
            fd = os.open(link, os.O_RDWR | os.O_NOCTTY)
            os.write(fd, b"typed\n")
            self.printed(p, b"typed\n")
            p.stdin.write(b"said\n")
            p.stdin.flush()
            self.assertEqual(os.read(fd, 100), b"said\n")
            os.close(fd)
        self.assertFalse(os.path.lexists(link))


if __name__ == "__main__":
    main()
