#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A guest that reuses its buffers as soon as it has them back never finds what it put there on the disk: after phypd was killed with
writes in flight, and after it took all its pages back by force.

    tests/system/test_reuse.py [--rounds 35]"""

import os
import random
import subprocess
import sys
import tempfile
import time
import unittest

from common import BUILD, SLOW, Machine, main

ROUNDS = int(sys.argv.pop(sys.argv.index("--rounds") + 1)) if "--rounds" in sys.argv else 3
if "--rounds" in sys.argv:
    sys.argv.remove("--rounds")
IMAGE = 32 << 20
FOREIGN = b"\xee"
WRITTEN = 32 * 65536


class Reuse(unittest.TestCase):
    def round(self, arm, options, rng, what, milliseconds):
        """How many foreign bytes are on the disk; None: nothing was outstanding."""
        with tempfile.NamedTemporaryFile(suffix=".img", dir=os.environ.get("VIO_IMAGES")) as image:
            image.write(bytes(IMAGE))
            image.flush()
            with Machine(BUILD, phypd_args=["--server-memory", "96"], vios_args=["--disk", f"file,path={image.name}{options}"]) as m:
                argv = [os.path.join(BUILD, "tests/system/reuse"), m.socket, arm, what]
                argv += [str(milliseconds)] if what == "rescind" else []
                with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as guest:
                    try:
                        self.assertEqual(guest.stdout.readline(), "writing\n")
                        if what == "death":
                            time.sleep(milliseconds / 1000 + rng.random() / 100)
                            m.phypd.kill()
                        said = guest.communicate(timeout=60)[0]
                    finally:
                        guest.kill()
                self.assertIn(guest.returncode, (0, 3), said)
                if what == "death":
                    m.vios.proc.wait(30)
            with open(image.name, "rb") as f:
                disk = f.read()
        if guest.returncode:
            return None
        self.assertEqual(len(disk), IMAGE)
        return disk[:WRITTEN].count(FOREIGN)

    def rounds(self, what):
        rng = random.Random(7)
        foreign, tried = 0, 0
        for k in range(ROUNDS if not SLOW else 1):
            arm = ("zero-copy", "zero-copy", "copy")[k % 3] if what == "death" else "zero-copy"
            got = self.round(arm, ("", ",direct=on")[k % 2], rng, what, rng.randrange(20, 250))
            tried += got is not None
            foreign += bool(got)
        print(f"{what}: {tried} of {ROUNDS} rounds had writes in flight, {foreign} put foreign bytes on the disk", flush=True)
        self.assertGreater(tried, 0)
        self.assertEqual(foreign, 0)

    def test_buffers_that_come_back_when_phypd_was_killed_are_in_nobodys_hands(self):
        self.rounds("death")

    def test_pages_that_were_taken_back_by_force_are_in_nobodys_hands(self):
        self.rounds("rescind")


if __name__ == "__main__":
    main()
