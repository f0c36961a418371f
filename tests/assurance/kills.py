# SPDX-License-Identifier: BSD-3-Clause
"""./run assurance kills [N]: kill -9 of phypd, vios, the guest and an NBD store, N times, under a load that verifies.

Where: at a random moment, or (a program that makes hypervisor calls) at its n-th call, n random, from the first of its start on. After
each, the program is started again; then every client must get answers again, and every block must hold what was
acknowledged or what was asked for later. At each machine's end the image itself is read. The load's pattern of kills comes from --seed.
"""

import collections
import concurrent.futures
import contextlib
import os
import random
import socket
import subprocess
import tempfile
import time

import nbd

from common import BUILD, Machine, MachineError, until
from journal import BYTES, Journal, Stalls, Workers
from nbd_disk import PLUGIN, preload

ARMS = ("copy", "zero-copy", "copy-tuned", "premapped", "zero-copy,layout=packed", "copy,layout=split-in-order")
PATIENCE = 40  # seconds in which whoever waits must get an answer
EACH = 12      # kills of a machine, before its image is read and another one is made


class Rig:
    """A machine, its guest (nbdkit with the plugin), the store behind it where it is an NBD server, and the load."""

    def __init__(self, arm, nbd_store, seed):
        self.arm, self.nbd_store = arm, nbd_store
        self.tmp = tempfile.TemporaryDirectory(prefix="vio-kills-", dir="/var/tmp")
        self.image = os.path.join(self.tmp.name, "disk.img")
        with open(self.image, "wb") as f:
            f.truncate(2 * BYTES)
        self.sock, self.store_sock = os.path.join(self.tmp.name, "guest.sock"), os.path.join(self.tmp.name, "store.sock")
        self.uri = f"nbd+unix:///?socket={self.sock}"
        self.log = open(os.path.join(self.tmp.name, "guest.log"), "ab")
        self.journal = Journal()
        self.given_up = []
        self.store = self.guest = self.machine = self.workers = None
        if nbd_store:
            self.start_store()
        disk = f"nbd,uri=nbd+unix:///?socket={self.store_sock},reconnect-delay=30" if nbd_store else f"file,path={self.image}"
        self.machine = Machine(BUILD, phypd_args=["--server-memory", "96"], vios_args=["--disk", disk])
        self.machine.__enter__()
        self.start_guest()
        self.workers = Workers(self.uri, self.journal, seed=seed)

    # ---- programs ----

    def start_store(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.store_sock)
        self.store = subprocess.Popen(["nbdkit", "--foreground", "--exit-with-parent", "--unix", self.store_sock, "file", self.image],
                                      stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        until(lambda: self.store_listens() or self.store.poll() is not None, "the store")

    def store_listens(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.store_sock) == 0

    def launch_guest(self, fault=None):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.sock)
        self.guest = subprocess.Popen(["nbdkit", "--foreground", "--exit-with-parent", "--unix", self.sock, PLUGIN,
                                       f"phyp={self.machine.socket}", f"arm={self.arm}", *([f"fault={fault}"] if fault else [])],
                                      stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env={**os.environ, **preload()})

    def start_guest(self):
        """It may meet a partition whose death phypd has not seen yet, or a server that is not there: then again."""
        end = time.monotonic() + PATIENCE
        while True:
            self.launch_guest()
            while self.guest.poll() is None and not os.path.exists(self.sock):
                time.sleep(0.01)
                if time.monotonic() > end:
                    raise MachineError("the guest does not come up: " + self.said())
            if self.guest.poll() is None:
                return
            if time.monotonic() > end:
                raise MachineError("the guest does not start: " + self.said())

    def start_vios(self):
        """Retried: a fence of an NBD store, or a partition whose death is being seen to."""
        for last in (False, False, True):
            try:
                self.machine.start_vios()
                return
            except MachineError:
                if last:
                    raise

    def programs(self):
        """Which of them are there; what others ended with."""
        of = {"phypd": self.machine.phypd.proc, "vios": self.machine.vios.proc, "guest": self.guest, "store": self.store}
        return ", ".join(f"{name} {'runs' if p.poll() is None else p.returncode}" for name, p in of.items() if p)

    def said(self):
        self.log.flush()
        with open(self.log.name, errors="replace") as f:
            return f.read()[-1500:]

    # ---- kills: each returns what was killed, a list ----

    def kill_vios(self):
        self.machine.vios.kill()
        self.start_vios()
        return ["vios"]

    def kill_guest(self):
        self.guest.kill()
        self.guest.wait()
        self.start_guest()
        return ["guest"]

    def kill_store(self):
        self.store.kill()
        self.store.wait()
        self.start_store()
        return ["store"]

    def kill_phypd(self):
        self.machine.phypd.kill()
        # All of its machine end by themselves: that, too, is asked for.
        self.machine.vios.proc.wait(PATIENCE)
        self.machine.vios.kill()  # closes what was its
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.guest.wait(5)
        self.guest.kill()
        self.guest.wait()
        self.machine.start_phypd()
        self.start_vios()
        self.start_guest()
        return ["phypd"]

    def kill_vios_at_call(self, n):
        killed = self.kill_vios_for(n)
        self.start_vios()
        return killed

    def kill_vios_for(self, n):
        self.machine.vios.kill()
        args, self.machine.vios_args = self.machine.vios_args, [*self.machine.vios_args, "--fault", f"ANY@{n}=DIE"]
        try:
            with contextlib.suppress(MachineError):  # dead before it was ready
                self.machine.start_vios()
        finally:
            self.machine.vios_args = args
        died = self.wait_death(self.machine.vios.proc, "vios")
        self.machine.vios.kill()  # closes what was its
        return ["vios", died]

    def kill_guest_at_call(self, n):
        self.guest.kill()
        self.guest.wait()
        self.launch_guest(f"ANY@{n}=DIE")
        died = self.wait_death(self.guest, "guest")
        self.start_guest()
        return ["guest", died]

    @staticmethod
    def wait_death(proc, name):
        """It dies by itself at its call, or (it does not make so many) now."""
        try:
            proc.wait(0.8)
        except subprocess.TimeoutExpired:
            proc.kill()
            proc.wait()
            return name
        return name + " at a call"

    # ---- checks ----

    def check(self, what):
        """Everybody goes on, and every block is right."""
        failed = self.workers.failed
        if not self.workers.progress(3, PATIENCE, lambda: self.guest.poll() is not None):
            if self.guest.poll() not in (None, 1) or (self.guest.poll() is None and self.workers.failed == failed):
                self.journal.stuck.append(f"after {what}: no answer for {PATIENCE} s: {self.programs()}; {self.said()}\n"
                                         f"{self.machine.vios.log()[-1500:]}")
                return False
            # It has given up, in words: its requests fail, or it has ended. Who runs it starts it again.
            self.given_up.append(self.said()[-300:])
            self.guest.kill()
            self.guest.wait()
            self.start_guest()
            if not self.workers.progress(3, PATIENCE):
                self.journal.stuck.append(f"after {what}, and a guest started anew: no answer for {PATIENCE} s: {self.programs()}; {self.said()}")
                return False
        h = nbd.NBD()
        try:
            h.connect_uri(self.uri)
            self.journal.check_all(lambda at, n: h.pread(n, at), f"after {what}")
            h.shutdown()
        except nbd.Error as e:
            self.journal.stuck.append(f"after {what}: the disk can't be read: {e}")
        return not self.journal.lost and not self.journal.stuck

    def end(self):
        if self.workers and not self.workers.stop():
            self.journal.stuck.append("at the end: a client hangs")
        if self.guest:
            self.guest.terminate()
            try:
                self.guest.wait(20)
            except subprocess.TimeoutExpired:
                self.journal.stuck.append("at the end: the guest does not end when told to")
                self.guest.kill()
                self.guest.wait()
        if self.machine:
            self.machine.__exit__(None, None, None)
        if self.store:
            self.store.terminate()
            self.store.wait(20)
        with open(self.image, "rb") as f:
            self.journal.check_all(lambda at, n: os.pread(f.fileno(), n, at), "the image at the end")
        self.log.close()
        self.tmp.cleanup()


def one(rig, rng):
    """One kill, or two; what was killed."""
    n = int(2 ** rng.uniform(0, 12))
    ways = [rig.kill_vios, rig.kill_guest, rig.kill_vios, rig.kill_guest, lambda: rig.kill_vios_at_call(n),
            lambda: rig.kill_guest_at_call(n), lambda: rig.kill_vios_at_call(n), lambda: rig.kill_guest_at_call(n), rig.kill_phypd]
    if rig.nbd_store:
        ways += [rig.kill_store, rig.kill_store]
    time.sleep(rng.uniform(0, 0.25))
    return rng.choice(ways)()


def series(kills, seed, each, say, stalls):
    """One machine after the other. Of one that stood still, and in which somebody got no answer in time, nothing counts but lost blocks."""
    killed, totals, lost, machines = collections.Counter(), collections.Counter(), [], 0
    rng = random.Random(seed)
    while sum(killed.values()) < kills and not lost:
        arm, nbd_store = ARMS[machines % len(ARMS)], machines % 3 == 2
        began, here = time.monotonic(), collections.Counter()
        try:
            rig = Rig(arm, nbd_store, seed + machines)
        except (MachineError, AssertionError, subprocess.TimeoutExpired) as e:
            machines += 1
            if stalls.since(began):
                totals["stood_still"] += 1
            else:
                lost.append(f"{arm}: {e}")
            continue
        try:
            for _ in range(each):
                if sum(killed.values()) + sum(here.values()) >= kills:
                    break
                what = one(rig, rng)
                here.update(what)
                if not rig.check(" and ".join(what)):
                    break
        except (MachineError, AssertionError, subprocess.TimeoutExpired) as e:
            rig.journal.stuck.append(f"{e}; {rig.programs()}; {rig.said()}")
        finally:
            rig.end()
        machines += 1
        j = rig.journal
        if j.stuck and stalls.since(began):
            totals["stood_still"] += 1
            lost += [f"{arm}: {text}" for text in j.lost]
            say(f"{arm}: this machine stood still, and what it did is not counted")
            continue
        killed.update(here)
        j.lost += j.stuck
        lost += [f"{arm}{', nbd store' if nbd_store else ''}: {text}" for text in j.lost]
        totals.update(writes=j.writes, reads=j.reads, flushes=j.flushes, given_up=len(rig.given_up))
        say(f"{sum(killed.values()):>5} kills, {arm}{' over nbd' if nbd_store else ''}: {j.writes} writes, {j.reads} reads, "
            f"{j.flushes} flushes acknowledged, {len(j.lost)} lost {' '.join(j.lost[:1] + rig.given_up[:1])}")
    return killed, totals, lost, machines


def run(kills, seed=1, each=EACH, jobs=3, say=lambda text: None):
    """The result, as ./run assurance keeps it. jobs: machines at once; most of a kill is waiting."""
    stalls = Stalls()
    began, killed, totals, lost, machines = time.monotonic(), collections.Counter(), collections.Counter(), [], 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        shares = [kills // jobs + (i < kills % jobs) for i in range(jobs)]
        for k, t, found, n in pool.map(lambda i: series(shares[i], seed + 1000 * i, each, say, stalls), range(jobs)):
            killed.update(k)
            totals.update(t)
            lost += found
            machines += n
    return {"kills": sum(killed.values()), "by_program": dict(sorted(killed.items())), "machines": machines, "seed": seed,
            "acknowledged": dict(totals), "losses": len(lost), "first_losses": lost[:3], "seconds": round(time.monotonic() - began)}
